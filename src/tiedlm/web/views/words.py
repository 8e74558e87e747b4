"""The view "Next words": the distributions of several models after one text.

Shape letters: K words, V vocabulary.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch

from tiedlm.analysis.predictions import jensen_shannon
from tiedlm.data.pieces import PieceVocabulary
from tiedlm.web.asked import Asked
from tiedlm.web.reading import find_word, read_context
from tiedlm.web.runs import Loaded, Run
from tiedlm.web.views import Answer, tried

ORDERS = ("probability", "disagreement")


class _Read:
    """A model after a text."""

    def __init__(self, loaded: Loaded, text: str) -> None:
        self.loaded, self.vocabulary = loaded, loaded.vocabulary
        self.context = read_context(loaded, text)
        with torch.no_grad():
            self.z_V = loaded.model.decode(loaded.hidden_after(self.context.ids))
        self.p_V = self.z_V.softmax(0)
        self.entropy = -float(torch.xlogy(self.p_V, self.p_V).sum())

    def top(self, count: int) -> list[str]:
        indices = self.z_V.topk(min(count, len(self.vocabulary))).indices
        return self.vocabulary.decode(indices.tolist())

    def known_as(self, typed: str) -> str:
        """Return a typed word as the model's vocabulary has it, or as it was typed."""
        index = find_word(self.loaded, typed)
        return typed if index is None else self.vocabulary.words[index]

    def of_words(self, words: Sequence[str]) -> dict[str, dict[str, float]]:
        """Return probability and rank of each word that the model knows."""
        known = [word for word in words if word in self.vocabulary]
        targets_K = torch.from_numpy(self.vocabulary.encode(known)).long()
        rank_K = 1 + (self.z_V > self.z_V[targets_K, None]).sum(dim=-1)
        return {
            word: {"p": p, "rank": rank}
            for word, p, rank in zip(
                known, self.p_V[targets_K].tolist(), rank_K.tolist(), strict=True
            )
        }


def answer(runs: Sequence[Run], asked: Asked) -> Answer:
    """Return the most probable next words of each run, in one table.

    The table has the ``top`` words of every run. ``ratio`` is the largest probability of a word
    over its smallest. ``joined`` says that the pieces of a run are typed without spaces between.
    """
    text, top = asked.text("text"), asked.whole("top", 10, 1, 50)
    order = asked.choice("order", ORDERS)
    read: dict[str, _Read] = {}

    def summary(name: str, loaded: Loaded) -> Answer:
        one = read[name] = _Read(loaded, text)
        return {
            "entropy": one.entropy / math.log(2), "choices": math.exp(one.entropy),
            "words": len(one.vocabulary), "pieces": loaded.has_pieces,
            "joined": isinstance(one.vocabulary, PieceVocabulary), **one.context.summary(),
        }  # fmt: skip

    columns = [
        {"name": run.name, **tried(run, lambda loaded, name=run.name: summary(name, loaded))}  # type: ignore[misc]
        for run in runs
    ]
    # A piece and a word that are written alike are different, so each kind has its own rows.
    words = dict.fromkeys(
        (one.loaded.has_pieces, word) for one in read.values() for word in one.top(top)
    )
    looked_up = asked.text("word", 200).strip()
    looked = {
        (one.loaded.has_pieces, one.known_as(looked_up)) for one in read.values() if looked_up
    }
    words |= dict.fromkeys(sorted(looked))
    cells = {
        name: one.of_words([word for kind, word in words if kind == one.loaded.has_pieces])
        for name, one in read.items()
    }
    rows = []
    for kind, word in words:
        alike = [
            cells[run.name].get(word)
            if run.name in read and read[run.name].loaded.has_pieces == kind
            else None
            for run in runs
        ]
        rows.append(_row(word, alike) | {"piece": kind, "looked": (kind, word) in looked})
    key = "mean" if order == "probability" else "ratio"
    rows.sort(key=lambda row: -(row[key] or 0))
    return {"runs": columns, "rows": rows, "apart": _most_different(read)}


def _row(word: str, cells: list[dict[str, float] | None]) -> dict[str, Any]:
    values = [cell["p"] for cell in cells if cell is not None]
    ratio = max(values) / max(min(values), 1e-300) if len(values) > 1 else None
    mean = sum(values) / len(values) if values else 0
    return {"word": word, "cells": cells, "mean": mean, "ratio": ratio}


def _most_different(read: dict[str, _Read]) -> dict[str, Any] | None:
    """Return the two runs whose distributions differ most, among runs with the same vocabulary."""
    found = [
        {
            "runs": [first, second],
            "bits": jensen_shannon(one.p_V, other.p_V),
        }
        for (first, one), (second, other) in itertools.combinations(read.items(), 2)
        if one.vocabulary == other.vocabulary
    ]
    return max(found, key=lambda pair: float(pair["bits"]), default=None)  # type: ignore[arg-type]
