"""Next words: the distributions of several models after one text, side by side.

Shape letters: K words, V vocabulary.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tiedlm.analysis.predictions import jensen_shannon
from tiedlm.scoring.distributions import Shared
from tiedlm.web.asked import Asked
from tiedlm.web.reading import read_context
from tiedlm.web.runs import Loaded, Run
from tiedlm.web.views import Answer, tried

ORDERS = ("probability", "disagreement")


class _Read:
    """A model after a text."""

    def __init__(self, loaded: Loaded, text: str) -> None:
        self.vocabulary = loaded.vocabulary
        self.context = read_context(loaded, text)
        hidden_H = loaded.hidden_after(self.context.ids)
        self.shared = Shared(loaded.model, hidden_H, None)
        self.entropy = float(self.shared.of_one.entropy[0])

    def probabilities(self) -> Tensor:
        return (self.shared.z_V - self.shared.log_sum).exp()

    def top(self, count: int) -> list[str]:
        indices = self.shared.z_V.topk(min(count, len(self.vocabulary))).indices
        return self.vocabulary.decode(indices.tolist())

    def of_words(self, words: Sequence[str]) -> dict[str, dict[str, float]]:
        """Return probability and rank of those of the words that the model knows."""
        known = [word for word in words if word in self.vocabulary]
        targets_K = torch.from_numpy(self.vocabulary.encode(known)).long()
        found = self.shared.describe(targets_K)
        return {
            word: {"p": math.exp(-surprisal), "rank": rank}
            for word, surprisal, rank in zip(
                known, found.surprisal.tolist(), found.rank.tolist(), strict=True
            )
        }


def answer(runs: Sequence[Run], asked: Asked) -> Answer:
    """Return the most probable next words of each run, in one table.

    The table has the ``top`` words of every run. ``ratio`` is the largest probability of a word
    over its smallest.
    """
    text, top = asked.text("text"), asked.whole("top", 10, 1, 50)
    order = asked.choice("order", ORDERS)
    read: dict[str, _Read] = {}

    def summary(name: str, loaded: Loaded) -> Answer:
        one = read[name] = _Read(loaded, text)
        return {
            "entropy": one.entropy / math.log(2), "choices": math.exp(one.entropy),
            "words": len(one.vocabulary), **one.context.summary(),
        }  # fmt: skip

    columns = [
        {"name": run.name, **tried(run, lambda loaded, name=run.name: summary(name, loaded))}  # type: ignore[misc]
        for run in runs
    ]
    words = list(dict.fromkeys(word for one in read.values() for word in one.top(top)))
    looked_up = asked.text("word", 200).strip()
    if looked_up and looked_up not in words:
        words.append(looked_up)
    cells = {name: one.of_words(words) for name, one in read.items()}
    rows = [_row(word, [cells.get(run.name, {}).get(word) for run in runs]) for word in words]
    key = "mean" if order == "probability" else "ratio"
    rows.sort(key=lambda row: -(row[key] or 0))
    return {"runs": columns, "rows": rows, "apart": _most_different(read)}


def _row(word: str, cells: list[dict[str, float] | None]) -> dict[str, Any]:
    values = [cell["p"] for cell in cells if cell is not None]
    ratio = max(values) / max(min(values), 1e-300) if len(values) > 1 else None
    mean = sum(values) / len(values) if values else 0
    return {"word": word, "cells": cells, "mean": mean, "ratio": ratio}


def _most_different(read: dict[str, _Read]) -> dict[str, Any] | None:
    """Return the two runs with one vocabulary whose distributions differ most."""
    found = [
        {
            "runs": [first, second],
            "bits": jensen_shannon(one.probabilities(), other.probabilities()),
        }
        for (first, one), (second, other) in itertools.combinations(read.items(), 2)
        if one.vocabulary == other.vocabulary
    ]
    return max(found, key=lambda pair: float(pair["bits"]), default=None)  # type: ignore[arg-type]
