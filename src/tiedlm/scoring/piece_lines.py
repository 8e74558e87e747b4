"""Cut lines into sub-word pieces, and number the words that the pieces belong to.

A word here is the text between two blanks, with its punctuation. Its first piece includes the blank
before the word.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter

import numpy as np

from tiedlm.data.piece_form import BLANKS
from tiedlm.data.pieces import PieceVocabulary
from tiedlm.data.tokenizer import EOS
from tiedlm.scoring.sentence import Sentence


def piece_sentences(
    lines: Iterable[str], vocabulary: PieceVocabulary, *, blank_lines: bool
) -> Iterator[Sentence]:
    """Cut lines into pieces; a line is a sentence.

    Its ``regions`` number the words of the line, and its ``parts`` are the words. Blanks at the end
    of a line belong to ``<eos>``.

    Args:
        lines: the lines of a text.
        vocabulary: the pieces.
        blank_lines: whether a line without words yields a sentence.
    """
    number = 0
    for line_number, line in enumerate(lines, start=1):
        if not blank_lines and not line.strip(BLANKS):
            continue
        number += 1
        ids, spans = vocabulary.split(line)
        regions = word_numbers(ids.tolist(), vocabulary)
        yield Sentence(
            number,
            line_number,
            (*vocabulary.decode(ids), EOS),
            np.append(ids, np.int32(vocabulary.eos_id)),
            (*regions, 0),
            tuple(_written(line, spans, regions)),
        )


def word_numbers(ids: Sequence[int], vocabulary: PieceVocabulary) -> list[int]:
    """Return the number of the word that each piece of a line belongs to, from 1.

    Pieces that are only blanks belong to the next word; their number is 0 if there is none.
    """
    numbers: list[int] = []
    number, has_letters = 1, False
    for piece in ids:
        if has_letters and vocabulary.begins[piece]:
            number, has_letters = number + 1, False
        has_letters = has_letters or not vocabulary.blank[piece]
        numbers.append(number)
    return numbers if has_letters else [0 if n == number else n for n in numbers]


def _written(line: str, spans: Sequence[tuple[int, int]], numbers: Sequence[int]) -> Iterator[str]:
    r"""Yield each word as it is written in the line, with ``\t`` for a tab inside it."""
    for number, pieces in groupby(zip(numbers, spans, strict=True), key=itemgetter(0)):
        if number:
            starts, ends = zip(*(span for _, span in pieces), strict=True)
            yield line[min(starts) : max(ends)].strip(BLANKS).replace("\t", r"\t")
