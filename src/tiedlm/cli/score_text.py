"""Open the text that ``tiedlm score`` reads, and cut it into sentences."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice, tee
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from tiedlm.data import Vocabulary
    from tiedlm.data.marks import Marks
    from tiedlm.scoring.columns import TextColumn
    from tiedlm.scoring.piece_words import PieceTotals
    from tiedlm.scoring.sentence import Sentence


class Text(NamedTuple):
    """A text that is about to be scored.

    Args:
        sentences: read as they are asked for, which fills the marks, the sample and the totals.
        given: the table that the text comes from, if it is a column.
        notes: to print before the first row.
        marks: counts other tools' special tokens.
        sample: the first lines.
        tokenize: whether tiedlm splits the lines into words.
        totals: counts the words of a text that is read in pieces; None for a model of words.
    """

    sentences: Iterator[Sentence]
    given: TextColumn | None
    notes: list[str]
    marks: Marks
    sample: list[str]
    tokenize: bool
    totals: PieceTotals | None


def open_text(
    run: Path, vocabulary: Vocabulary, file: str, column: str | None, unit: str, tokenize: bool
) -> Text:
    """Open a text and cut it into the sentences, or whole lines, that a run reads."""
    from tiedlm.data.marks import Marks
    from tiedlm.data.pieces import PieceVocabulary
    from tiedlm.scoring import sentences
    from tiedlm.scoring.piece_words import PieceTotals
    from tiedlm.training.run_files import corpus_info

    document, totals = unit == "document", None
    if isinstance(vocabulary, PieceVocabulary):
        totals = PieceTotals(corpus_info(run)["pieces"]["words"] is None, blank_lines=document)
    lines, given, notes = _read(file, column, tokenize or totals is not None)
    if totals is not None:
        lines = totals.read(lines)
    marks, sample = Marks(tokenized=not tokenize), list[str]()
    found = sentences(
        _sampled(lines, sample),
        vocabulary,
        tokenizer=tokenize,
        blank_lines=document and not tokenize,
        whole_lines=unit == "line",
        marks=marks,
    )
    return Text(found, given, notes, marks, sample, tokenize, totals)


def _read(
    file: str, column: str | None, tokenize: bool
) -> tuple[Iterator[str], TextColumn | None, list[str]]:
    """Open a text; return its lines, the table they come from if any, and notes to print."""
    from tiedlm.cli.models import looks_raw
    from tiedlm.data.text import looks_tokenized, names_table
    from tiedlm.scoring import read_lines
    from tiedlm.scoring.columns import TextColumn
    from tiedlm.scoring.text import name_of

    notes = []
    lines = read_lines(file)
    lines = chain(list(islice(lines, 1)), lines)  # a missing or empty file is an error now
    given = None if column is None else TextColumn(lines, column, name_of(file))
    if given is not None:
        lines = iter(given)
    elif names_table(file):
        notes.append(
            f"{file} is read as plain text, its header too; to read one column, give --column NAME"
        )
    if not tokenize:
        sample, lines = tee(lines)
        is_raw = not looks_tokenized(sample)
        del sample  # otherwise tee keeps every line for it
        if is_raw:
            notes.append(looks_raw(name_of(file)))
    return lines, given, notes


def _sampled(lines: Iterator[str], sample: list[str]) -> Iterator[str]:
    """Yield all lines, and keep the first ones as a sample of the text."""
    from tiedlm.data.text import SAMPLE

    characters = 0
    for line in lines:
        if characters <= SAMPLE:
            sample.append(line)
            characters += len(line)
        yield line
