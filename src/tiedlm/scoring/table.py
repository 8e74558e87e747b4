"""Write the tables of ``tiedlm score`` while the text is read.

They are tab-separated, with a row per word or per sentence.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import starmap
from typing import IO, Literal, NamedTuple

import numpy as np

from tiedlm.data import EOS
from tiedlm.errors import UserError
from tiedlm.evaluation.perplexity import perplexity
from tiedlm.scoring.columns import TextColumn, unlike
from tiedlm.scoring.surprisal import Scored

Base = Literal["2", "e", "10"]
Unit = Literal["sentence", "line", "document"]
Per = Literal["word", "sentence"]

MISSING = "NA"
COLUMNS = (
    "sentence", "position", "word", "in_vocabulary", "surprisal", "entropy", "entropy_reduction",
    "rank", "cumulative", "line", "region", "as_written",
)  # fmt: skip
SENTENCE_COLUMNS = (
    "sentence", "words", "unknown", "predicted", "sum", "mean", "line", "as_written",
)  # fmt: skip
NAMED = 10  # number of unknown words that a summary names
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
        unknown_words: each unknown word and its count.
        unit: as in :func:`write_table`; with "line", ``sentences`` counts lines.
    """

    sentences: int
    words: int
    unknown: int
    predicted: int
    nll: float
    cut_lines: int
    most_parts: int
    unknown_words: Mapping[str, int]
    unit: Unit = "sentence"

    def line(self) -> str:
        """Return the summary as one line of text."""
        level = perplexity(self.nll, max(self.predicted, 1))
        return (
            f"{self.size()}; perplexity {level:.4f} over {self.predicted:,} predictions, {EOS} "
            "included"
        )

    def size(self) -> str:
        """Return the number of sentences and words, and the share of unknown words, as a text."""
        share = self.unknown / max(self.words, 1)
        noun = "line" if self.unit == "line" else "sentence"
        return (
            f"{count(self.sentences, noun)}, {count(self.words, 'word')}, "
            f"{share:.2%} of them unknown"
        )

    def unknown_line(self) -> str:
        """Return a line on the unknown words, or ``""`` if every word is known."""
        if not self.unknown_words:
            return ""
        ranked = by_count(self.unknown_words)
        named = ", ".join(f"{word} ({number:,})" for word, number in ranked[:NAMED])
        others = len(ranked) - NAMED
        more = f" and {count(others, 'other')}" * (others > 0)
        return (
            f"{self.unknown:,} of {count(self.words, 'word')} unknown: {named}{more}; each has the "
            "probability of all unknown words together, so its surprisal is too low: leave it out"
        )


def count(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless the number is 1."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def by_count(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """Return words with their counts, the most frequent first; equal counts in word order."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def write_counts(file: IO[str], counts: Mapping[str, int]) -> None:
    """Write a tab-separated table of words and their counts, the most frequent first."""
    file.write("word\tcount\n")
    file.writelines(f"{word}\t{number}\n" for word, number in by_count(counts))


def units_per_nat(base: Base) -> float:
    """Return the factor from nats to the unit of a base: bits, nats or hartleys."""
    return 1 / {"2": math.log(2), "e": 1.0, "10": math.log(10)}[base]


def write_table(
    file: IO[str],
    scored: Iterable[Scored],
    *,
    unk_id: int | None,
    base: Base,
    unit: Unit,
    eos_rows: bool,
    per: Per = "word",
    given: TextColumn | None = None,
) -> Summary:
    """Write a header and a row per word or sentence, and return a summary.

    Args:
        file: the file to write to.
        scored: scored sentences, in order.
        unk_id: the id of ``<unk>``.
        base: base of the logarithm: 2 for bits, e for nats, 10 for hartleys.
        unit: where ``cumulative`` restarts: at every sentence or line, or never.
        eos_rows: whether ``<eos>`` has a row and counts in ``cumulative``, ``sum`` and ``mean``.
        per: whether each word or each sentence has a row. The ``sum`` of a sentence is the sum over
            the rows of its words.
        given: the table whose column is the text; each row of the output ends with its other cells.

    Returns:
        The summary over all predictions, with or without a row.
    """
    scale = units_per_nat(base)
    columns = COLUMNS if per == "word" else SENTENCE_COLUMNS
    names = [] if given is None else unlike(given.others, columns, GIVEN)
    file.write("\t".join([*columns, *names]) + "\n")
    unknown_words: Counter[str] = Counter()
    sentences = words = predicted = cut_lines = most_parts = 0
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
        most_parts = max(most_parts, len(one.sentence.parts))
        rows, counted = [], []
        for position, word in enumerate(_words_of(one, unk_id, scale), start=1):
            if not word.is_predicted and position > 1:  # only a first word may have no surprisal
                raise UserError(
                    f"line {line}: the model's probabilities are not finite; with --adapt, give a "
                    "lower --adapt-lr"
                )
            words += word.text != EOS
            if not word.is_known:
                unknown_words[word.text] += 1
            if word.is_predicted:
                predicted += 1
                nll += word.nats
            if word.text == EOS and not eos_rows:
                continue
            if word.is_predicted:
                cumulative += word.nats * scale
            if per == "word":
                rows.append(_row(one, position, word, scale, cumulative))
            counted.append(word)
        if per == "sentence":
            rows.append(_sentence_row(one, counted, scale))
        file.write("".join("\t".join([*row, *cells]) + "\n" for row in rows))
        sentences += 1
    unknown = sum(unknown_words.values())
    return Summary(
        sentences, words, unknown, predicted, nll, cut_lines, most_parts, unknown_words, unit
    )


class _Word(NamedTuple):
    """A word with its numbers. ``entropy`` and ``reduction`` are in the table's base."""

    text: str
    region: int
    is_known: bool
    nats: float
    entropy: float
    reduction: float
    rank: int

    @property
    def is_predicted(self) -> bool:
        return not math.isnan(self.nats)


def _words_of(one: Scored, unk_id: int | None, scale: float) -> Iterator[_Word]:
    """Return the words of a sentence with their numbers."""
    return starmap(
        _Word,
        zip(
            one.sentence.words,
            one.sentence.regions or [0] * len(one.sentence.words),
            (one.sentence.ids != (-1 if unk_id is None else unk_id)).tolist(),
            one.surprisal.tolist(),
            (one.entropy * scale).tolist(),
            (np.maximum(one.entropy - one.entropy_after, 0.0) * scale).tolist(),
            one.rank.tolist(),
            strict=True,
        ),
    )


def _row(one: Scored, position: int, word: _Word, scale: float, cumulative: float) -> list[str]:
    """Return the cells of a word's row, without the cells of a given table."""
    values = [MISSING] * 5
    if word.is_predicted:
        values = [
            f"{word.nats * scale:.6f}", f"{word.entropy:.6f}", f"{word.reduction:.6f}",
            str(word.rank or MISSING), f"{cumulative:.6f}",
        ]  # fmt: skip
    written = [str(word.region), one.sentence.parts[word.region - 1]] if word.region else None
    return [
        str(one.sentence.number), str(position), word.text, f"{word.is_known:d}", *values,
        str(one.sentence.line), *(written or [MISSING] * 2),
    ]  # fmt: skip


def _sentence_row(one: Scored, words: Sequence[_Word], scale: float) -> list[str]:
    """Return the cells of a sentence's row, from the words that count in its sum."""
    nats = [word.nats for word in words if word.is_predicted]
    total = math.fsum(nats) * scale
    values = [f"{total:.6f}", f"{total / len(nats):.6f}"] if nats else [MISSING] * 2
    regions = dict.fromkeys(word.region for word in words if word.region)
    written = " ".join(one.sentence.parts[region - 1] for region in regions)
    return [
        str(one.sentence.number), str(sum(word.text != EOS for word in words)),
        str(sum(not word.is_known for word in words)), str(len(nats)), *values,
        str(one.sentence.line), written or MISSING,
    ]  # fmt: skip
