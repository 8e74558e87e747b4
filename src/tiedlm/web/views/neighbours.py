"""The nearest words of a word, in L and in W."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from tiedlm.evaluation.subspace import nearest_rows, unit_rows
from tiedlm.web.asked import Asked
from tiedlm.web.reading import find_word, suggestions
from tiedlm.web.runs import Loaded, Run
from tiedlm.web.views import Answer, of_each


def units_of(loaded: Loaded, space: str) -> Tensor:
    """Return the rows of L or W with norm 1; a tied model has one matrix."""
    if space == "L" or loaded.model.config.tied:
        return loaded.once("units of L", lambda: unit_rows(loaded.model.embedding.weight))
    return loaded.once("units of W", lambda: unit_rows(loaded.model.decoder.weight))


def nearest(loaded: Loaded, space: str, index: int, top: int) -> list[Answer]:
    """Return the nearest words with their cosines, nearest first."""
    values, indices = nearest_rows(units_of(loaded, space), index, top)
    words = loaded.vocabulary.decode(indices.tolist())
    return [
        {"word": word, "cosine": cosine}
        for word, cosine in zip(words, values.tolist(), strict=True)
    ]


def answer(runs: Sequence[Run], asked: Asked) -> Answer:
    """Return the nearest words in L and in W for each run; a tied model has one list."""
    word, top = asked.text("word", 200).strip(), asked.whole("top", 12, 1, 100)

    def one(loaded: Loaded) -> Answer:
        index = find_word(loaded, word)
        if index is None:
            return {"missing": word, "suggestions": suggestions(loaded, word)}
        tied = loaded.model.config.tied
        spaces = ("L",) if tied else ("L", "W")
        lists = {space: nearest(loaded, space, index, top) for space in spaces}
        shared = None
        if not tied:
            in_l, in_w = ({n["word"] for n in lists[space]} for space in spaces)
            shared = sorted(in_l & in_w)
        return {
            "word": loaded.vocabulary.decode([index])[0],
            "tied": tied, "lists": lists, "shared": shared,
        }  # fmt: skip

    return {"runs": of_each(runs, one)}
