"""Read the text to score, and cut its lines into sentences of word ids."""

from __future__ import annotations

import gzip
import sys
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import IO

from tiedlm.data import EOS, Vocabulary, tokenize
from tiedlm.data.marks import Marks
from tiedlm.data.pieces import PieceVocabulary
from tiedlm.data.text import lines_of
from tiedlm.data.tokenizer import sentences_of
from tiedlm.errors import UserError
from tiedlm.files import reading
from tiedlm.scoring.piece_lines import piece_sentences
from tiedlm.scoring.sentence import Sentence

STDIN = "-"


def read_lines(source: Path | str) -> Iterator[str]:
    """Yield the lines of a UTF-8 text without line ends, holding one line at a time.

    Args:
        source: a file, or ``-`` for standard input. A name in ``.gz`` means a gzipped file.

    Raises:
        UserError: if it is missing, empty, binary, damaged or not UTF-8, or has an endless line.
    """
    name = name_of(source)
    with reading(name):
        try:
            with _open(source) as file:
                yield from lines_of(file, name)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise UserError(f"{name} is not a complete gzip file ({error})") from error


def name_of(source: Path | str) -> str:
    """Return the name of a source for messages."""
    return "standard input" if source == STDIN else str(source)


@contextmanager
def _open(source: Path | str) -> Iterator[IO[bytes]]:
    if source == STDIN:
        yield sys.stdin.buffer
    elif str(source).lower().endswith(".gz"):
        with gzip.open(source, "rb") as packed:
            yield packed  # type: ignore[misc]  # a GzipFile reads like any other
    else:
        with open(source, "rb") as plain:
            yield plain


def sentences(
    lines: Iterable[str],
    vocabulary: Vocabulary,
    *,
    tokenizer: bool,
    blank_lines: bool,
    whole_lines: bool = False,
    marks: Marks | None = None,
) -> Iterator[Sentence]:
    """Cut lines into sentences exactly as in a corpus, so that the same tokens are counted.

    Args:
        lines: the lines of a text.
        vocabulary: the vocabulary that gives the ids. With a vocabulary of pieces, lines are taken
            as they are, and of the next arguments only ``blank_lines`` has an effect.
        tokenizer: whether to tokenize each line and cut it into sentences. Otherwise words are
            separated by spaces and a line is a sentence.
        blank_lines: whether a line without words yields a sentence of only ``<eos>``, as in a
            corpus that came tokenized.
        whole_lines: whether to keep a line in one unit, with the ``<eos>`` of each sentence in it.
        marks: counts other tools' special tokens in the lines, if given.
    """
    if isinstance(vocabulary, PieceVocabulary):
        yield from piece_sentences(lines, vocabulary, blank_lines=blank_lines)
        return
    number = 0
    for line_number, line in enumerate(lines, start=1):
        parts = tuple(line.split())
        cut = sentences_of(line, not tokenizer)
        if marks is not None:
            marks.see(line, cut)
        origin = chain.from_iterable(
            [region] * (_words_of(part) if tokenizer else 1)
            for region, part in enumerate(parts, start=1)
        )
        units: list[list[tuple[str, int]]] = []
        for words in cut:
            if not words and not blank_lines:
                continue
            if not (units and whole_lines):
                units.append([])
            units[-1] += zip(words, origin, strict=False)
            if not words or words[-1] != EOS:
                units[-1].append((EOS, 0))
        for unit in units:
            number += 1
            ended, regions = zip(*unit, strict=True)
            try:
                ids = vocabulary.encode(ended)
            except UserError as error:
                raise UserError(f"line {line_number}: {error}") from error
            yield Sentence(number, line_number, ended, ids, regions, parts)


@lru_cache(maxsize=1 << 16)
def _words_of(part: str) -> int:
    """Count the words of a part between spaces; no word contains a space."""
    return len(tokenize(part))
