"""Write the table of ``tiedlm score``: tab-separated, a row per word, while the text is read."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import IO, Literal, NamedTuple

import numpy as np

from tiedlm.data import EOS
from tiedlm.errors import UserError
from tiedlm.evaluation.perplexity import perplexity
from tiedlm.scoring.columns import TextColumn, unlike
from tiedlm.scoring.surprisal import Scored

Base = Literal["2", "e", "10"]
Unit = Literal["sentence", "line", "document"]

MISSING = "NA"
COLUMNS = (
    "sentence", "position", "word", "in_vocabulary", "surprisal", "entropy", "entropy_reduction",
    "rank", "cumulative", "line", "region", "as_written",
)  # fmt: skip
GIVEN = "given_"  # prefix for a column of the stimuli that shares a name with one of these


class Summary(NamedTuple):
    """Counts over the scored text.

    Args:
        sentences: number of sentences.
        words: number of words, without ``<eos>``.
        unknown: how many words the model does not know.
        predicted: number of predicted words and ``<eos>``.
        nll: the sum of their surprisals, in nats.
        cut_lines: number of lines with more than one sentence.
        most_parts: the largest number of space-separated parts in a line.
    """

    sentences: int
    words: int
    unknown: int
    predicted: int
    nll: float
    cut_lines: int
    most_parts: int

    def line(self) -> str:
        """Return the summary as one line of text."""
        share = self.unknown / max(self.words, 1)
        level = perplexity(self.nll, max(self.predicted, 1))
        return (
            f"{count(self.sentences, 'sentence')}, {count(self.words, 'word')}, "
            f"{share:.2%} of them unknown; "
            f"perplexity {level:.4f} over {self.predicted:,} predictions, {EOS} included"
        )


def count(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless the number is 1."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def write_table(
    file: IO[str],
    scored: Iterable[Scored],
    *,
    unk_id: int | None,
    base: Base,
    unit: Unit,
    eos_rows: bool,
    given: TextColumn | None = None,
) -> Summary:
    """Write a header and a row per word, and return a summary.

    Args:
        file: the file to write to.
        scored: scored sentences, in order.
        unk_id: the id of ``<unk>``.
        base: base of the logarithm: 2 for bits, e for nats, 10 for hartleys.
        unit: where ``cumulative`` restarts: at every sentence or line, or never.
        eos_rows: whether ``<eos>`` has a row and counts in ``cumulative``.
        given: the table that the text is a column of; each row gets its other cells.

    Returns:
        The summary over all predictions, with or without a row.
    """
    scale = 1 / {"2": math.log(2), "e": 1.0, "10": math.log(10)}[base]
    names = [] if given is None else unlike(given.others, COLUMNS, GIVEN)
    file.write("\t".join([*COLUMNS, *names]) + "\n")
    sentences = words = unknown = predicted = cut_lines = most_parts = 0
    nll = cumulative = 0.0
    line, is_cut = 0, False
    for one in scored:
        if unit != "document":
            cumulative = 0.0
        if one.sentence.line != line:
            line, is_cut = one.sentence.line, False
        elif not is_cut:
            cut_lines, is_cut = cut_lines + 1, True
        cells = [] if given is None else given.of_row(line)
        parts = one.sentence.parts
        most_parts = max(most_parts, len(parts))
        rows = zip(
            one.sentence.words,
            one.sentence.regions or [0] * len(one.sentence.words),
            (one.sentence.ids != (-1 if unk_id is None else unk_id)).tolist(),
            one.surprisal.tolist(),
            (one.entropy * scale).tolist(),
            (np.maximum(one.entropy - one.entropy_after, 0.0) * scale).tolist(),
            one.rank.tolist(),
            strict=True,
        )
        lines = []
        for position, row in enumerate(rows, start=1):
            word, region, known, nats, entropy, reduction, rank = row
            is_predicted = not math.isnan(nats)
            if not is_predicted and position > 1:  # only a first word may have no surprisal
                raise UserError(
                    f"line {line}: the model's probabilities are not finite; with --adapt, give a "
                    "lower --adapt-lr"
                )
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
            before = [str(one.sentence.number), str(position), word, f"{known:d}"]
            written = [str(region), parts[region - 1]] if region else [MISSING] * 2
            lines.append("\t".join([*before, *values, str(line), *written, *cells]) + "\n")
        file.write("".join(lines))
        sentences += 1
    return Summary(sentences, words, unknown, predicted, nll, cut_lines, most_parts)
