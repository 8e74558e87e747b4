"""The view "Neighbours": the words nearest to a word, in L and in W."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tiedlm.web.asked import Asked
from tiedlm.web.reading import find_word, suggestions
from tiedlm.web.runs import Loaded, Run
from tiedlm.web.views import Answer, of_each

TINY = 1e-12  # the smallest norm, as of torch's normalize


@torch.no_grad()
def nearest(loaded: Loaded, space: str, index: int, top: int) -> list[Answer]:
    """Return the nearest words with their cosines, nearest first; a tied model has one matrix."""
    used = "L" if loaded.model.config.tied else space
    matrix_VE = loaded.model.embedding.weight if used == "L" else loaded.model.decoder.weight
    # Only the norms are kept: rows of norm 1 would take as much memory as the model.
    norms_V = loaded.once(f"norms of {used}", lambda: matrix_VE.norm(dim=1).clamp(min=TINY))
    cosines_V = matrix_VE @ (matrix_VE[index] / norms_V[index]) / norms_V
    cosines_V[index] = -torch.inf
    values, indices = cosines_V.topk(min(top, len(cosines_V) - 1))
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
