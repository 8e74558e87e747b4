"""The view "Map": the word vectors in two principal components."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from tiedlm.analysis.projection import Projection, principal_components
from tiedlm.evaluation.subspace import check_finite
from tiedlm.web.asked import Asked
from tiedlm.web.reading import find_word, suggestions
from tiedlm.web.runs import Loaded, Run
from tiedlm.web.views import Answer, of_each
from tiedlm.web.views.neighbours import nearest

MOST = 50_000  # most points: more would look like one cloud, and take long to send
NEIGHBOURS = 10


def answer(runs: Sequence[Run], asked: Asked) -> Answer:
    """Return the places of the first words of each run, and of a word with its nearest words.

    If the page already has the places for ``model``, they are left out.
    """
    word, count = asked.text("word", 200).strip(), asked.whole("count", 1000, 0, MOST)
    space = asked.choice("space", ("L", "W"))

    def one(loaded: Loaded) -> Answer:
        used = "L" if loaded.model.config.tied else space
        matrix = loaded.model.embedding.weight if used == "L" else loaded.model.decoder.weight
        found = loaded.later(f"map of {used}", lambda: _projected(matrix))
        shown = min(count, len(loaded.vocabulary))
        return {
            "words": loaded.vocabulary.words[:shown],
            "places": _places(found, slice(shown)),
            "model": str(loaded.stamp),
            "shares": found.shares, "tied": loaded.model.config.tied,
            "vocabulary": len(loaded.vocabulary),
            **_found(loaded, found, used, word),
        }  # fmt: skip

    return {"runs": of_each(runs, one)}


def _projected(matrix_VE: Tensor) -> Projection:
    check_finite(matrix_VE, "the model's vectors")
    return principal_components(matrix_VE)


def _found(loaded: Loaded, projection: Projection, space: str, word: str) -> Answer:
    """Return the place of a searched word and of its nearest words."""
    if not word:
        return {}
    index = find_word(loaded, word)
    if index is None:
        return {"missing": word, "suggestions": suggestions(loaded, word)}
    near = nearest(loaded, space, index, NEIGHBOURS)
    words = [loaded.vocabulary.decode([index])[0], *(n["word"] for n in near)]
    ids = loaded.vocabulary.encode(words).tolist()
    return {
        "found": words, "found_ids": ids, "found_places": _places(projection, ids),
        "cosines": [1.0, *(n["cosine"] for n in near)],
    }  # fmt: skip


def _places(projection: Projection, which: slice | list[int]) -> list[list[float]]:
    """Return the coordinates of words in each direction, as exact as a picture needs."""
    places_VK = projection.coordinates_VK
    largest = float(places_VK.abs().max())
    digits = 5 - math.ceil(math.log10(largest)) if 0 < largest < math.inf else 0
    columns: list[list[float]] = places_VK[which].numpy().round(digits).T.tolist()
    return columns
