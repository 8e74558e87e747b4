"""Minimal pairs that are typed in."""

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
    """Return what each run makes of each pair, and in how many it is right."""
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
        found = [_score(loaded, pair) for pair in pairs]
        judged = [pair for pair in found if "error" not in pair]
        correct = sum(pair["correct"] for pair in judged)
        interval = wilson95(correct, len(judged)) if judged else None
        return {"pairs": found, "correct": correct, "judged": len(judged), "interval": interval}

    return {"runs": of_each(runs, one)}


def _score(loaded: Loaded, pair: Pair) -> Answer:
    try:
        (found,) = score_pairs(loaded.model, loaded.vocabulary, [pair], tokenizer=loaded.is_raw)
    except UserError as error:
        return {"error": str(error)}
    return _values(found)


def _values(found: ScoredPair) -> Answer:
    bits = math.log(2)
    return {
        "good": found.good / bits, "bad": found.bad / bits,
        "difference": (found.bad - found.good) / bits, "correct": found.is_correct,
        "tie": found.is_tie, "unknown": sum(found.unknown), "unknown_only": found.unknown_only,
    }  # fmt: skip
