"""The view "Pairs": minimal pairs that the user types."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tiedlm.errors import UserError
from tiedlm.scoring.pair_files import Pair
from tiedlm.scoring.pairs import ScoredPair, score_pairs, wilson95
from tiedlm.web.asked import Asked, BadRequest
from tiedlm.web.runs import Loaded, Run
from tiedlm.web.views import Answer, of_each

MOST = 100


def answer(runs: Sequence[Run], asked: Asked) -> Answer:
    """Return the scores of each pair under each run, and how many pairs the run gets right."""
    good, bad = asked.texts("good", MOST) or [], asked.texts("bad", MOST) or []
    if len(good) != len(bad):
        raise BadRequest("good, bad: expected as many of the one as of the other")
    pairs = [
        Pair(
            "the page", number, f"pair {number}", "typed", " ".join(a.split()), " ".join(b.split())
        )
        for number, (a, b) in enumerate(zip(good, bad, strict=True), start=1)
    ]

    def one(loaded: Loaded) -> Answer:
        found = _score_all(loaded, pairs)
        judged = [pair for pair in found if "error" not in pair]
        correct = sum(pair["correct"] for pair in judged)
        interval = wilson95(correct, len(judged)) if judged else None
        return {"pairs": found, "correct": correct, "judged": len(judged), "interval": interval}

    return {"runs": of_each(runs, one)}


def _score_all(loaded: Loaded, pairs: Sequence[Pair]) -> list[Answer]:
    """Return a model's scores of each pair; pairs of the last call are not read again."""
    kept: dict[tuple[str, str], Answer] = loaded.once("pairs", dict)
    new = [pair for pair in pairs if (pair.good, pair.bad) not in kept]
    found = {(pair.good, pair.bad): kept.get((pair.good, pair.bad), {}) for pair in pairs}
    for pair, values in zip(new, _score(loaded, new), strict=True):
        found[pair.good, pair.bad] = values
    kept.clear()
    kept.update(found)
    return [found[pair.good, pair.bad] for pair in pairs]


def _score(loaded: Loaded, pairs: Sequence[Pair]) -> list[Answer]:
    """Return the values of pairs that are read together, or of each alone if one has an error."""
    try:
        scored = score_pairs(loaded.model, loaded.vocabulary, pairs, tokenizer=loaded.is_raw)
        return [_values(one) for one in scored]
    except UserError as error:
        if len(pairs) == 1:
            return [{"error": str(error)}]
    return [values for pair in pairs for values in _score(loaded, [pair])]


def _values(found: ScoredPair) -> Answer:
    bits = math.log(2)
    return {
        "good": found.good / bits, "bad": found.bad / bits,
        "difference": (found.bad - found.good) / bits, "correct": found.is_correct,
        "tie": found.is_tie, "unknown": sum(found.unknown), "unknown_only": found.unknown_only,
    }  # fmt: skip
