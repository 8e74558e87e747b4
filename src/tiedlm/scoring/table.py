"""The table of ``tiedlm score``: a row per word, tab-separated, written as the text is read."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import IO, Literal, NamedTuple

import numpy as np

from tiedlm.data import EOS
from tiedlm.evaluation.perplexity import perplexity
from tiedlm.scoring.surprisal import Scored

Base = Literal["2", "e", "10"]
Unit = Literal["sentence", "document"]

MISSING = "NA"
COLUMNS = (
    "sentence", "position", "word", "in_vocabulary", "surprisal", "entropy", "entropy_reduction",
    "rank", "cumulative", "line",
)  # fmt: skip


class Summary(NamedTuple):
    """What was read.

    Args:
        sentences: how many.
        words: without ``<eos>``.
        unknown: of them, those the model does not know.
        predicted: words and ``<eos>`` that were predicted.
        nll: the sum of their surprisal, in nats.
    """

    sentences: int
    words: int
    unknown: int
    predicted: int
    nll: float

    def line(self) -> str:
        """Describe it in one line."""
        share = self.unknown / max(self.words, 1)
        level = perplexity(self.nll, max(self.predicted, 1))
        return (
            f"{count(self.sentences, 'sentence')}, {count(self.words, 'word')}, "
            f"{share:.2%} of them unknown; "
            f"perplexity {level:.4f} over {self.predicted:,} predictions, {EOS} included"
        )


def count(number: int, noun: str) -> str:
    """Write a number of things that have a regular plural."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def write_table(
    file: IO[str],
    scored: Iterable[Scored],
    *,
    unk_id: int | None,
    base: Base,
    unit: Unit,
    eos_rows: bool,
) -> Summary:
    """Write a header and a row per word.

    Args:
        file: receives the text.
        scored: sentences, in order.
        unk_id: the id of ``<unk>``.
        base: of the logarithm: 2 for bits, e for nats, 10 for hartleys.
        unit: where ``cumulative`` begins again: at every sentence, or never.
        eos_rows: whether ``<eos>`` has a row and counts in ``cumulative``.

    Returns:
        The summary, over every prediction whether it has a row or not.
    """
    scale = 1 / {"2": math.log(2), "e": 1.0, "10": math.log(10)}[base]
    file.write("\t".join(COLUMNS) + "\n")
    sentences = words = unknown = predicted = 0
    nll = cumulative = 0.0
    for one in scored:
        if unit == "sentence":
            cumulative = 0.0
        rows = zip(
            one.sentence.words,
            (one.sentence.ids != (-1 if unk_id is None else unk_id)).tolist(),
            one.surprisal.tolist(),
            (one.entropy * scale).tolist(),
            (np.maximum(one.entropy - one.entropy_after, 0.0) * scale).tolist(),
            one.rank.tolist(),
            strict=True,
        )
        lines = []
        for position, (word, known, nats, entropy, reduction, rank) in enumerate(rows, start=1):
            is_predicted = not math.isnan(nats)
            words += word != EOS
            unknown += not known
            if is_predicted:
                predicted += 1
                nll += nats
            if word == EOS and not eos_rows:
                continue
            values = [MISSING] * 5
            if is_predicted:
                cumulative += nats * scale
                values = [
                    f"{nats * scale:.6f}", f"{entropy:.6f}", f"{reduction:.6f}",
                    str(rank or MISSING), f"{cumulative:.6f}",
                ]  # fmt: skip
            where = f"{one.sentence.number}\t{position}\t{word}\t{known:d}"
            lines.append("\t".join([where, *values, str(one.sentence.line)]) + "\n")
        file.write("".join(lines))
        sentences += 1
    return Summary(sentences, words, unknown, predicted, nll)
