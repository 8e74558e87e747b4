"""Map lines of text to token ids, a block of lines at a time.

:class:`WordEncoder` splits lines into words. It numbers the words of each block as they appear,
because the vocabulary is chosen only when the whole text has been counted.
:class:`tiedlm.data.piece_corpus.PieceEncoder` splits lines into pieces of a given vocabulary.
Encoders are pickled for the processes that encode in parallel.
"""

from __future__ import annotations

import itertools
from array import array
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from tiedlm.data.marks import Marks
from tiedlm.data.number_words import number_words
from tiedlm.data.tokenizer import EOS, UNK, sentences_of
from tiedlm.data.vocabulary import Ids, Vocabulary

_Types = defaultdict[str, int]

FIRST_EOS, FIRST_UNK = 0, 1  # ids in a block whose words are numbered as they appear


class Counts(NamedTuple):
    """Counts over a text that is split into pieces.

    Args:
        words: its words, ``<eos>`` included.
        bytes: its bytes in UTF-8, newlines included.
        lines: its lines.
        unk_words: how many of its words are ``<unk>`` as written.
    """

    words: int = 0
    bytes: int = 0
    lines: int = 0
    unk_words: int = 0

    def plus(self, other: Counts) -> Counts:
        """Return the counts of this text and another one."""
        return Counts(*map(sum, zip(self, other, strict=True)))


class Block(NamedTuple):
    """The ids of some lines.

    Args:
        ids: the ids of all lines, one after another. Shape: (N,), int32.
        lengths: how many ids each line has. Shape: (lines,), int64.
        words: the words to which the ids of this block refer, separated by newlines, ``<eos>`` and
            ``<unk>`` first. None if the ids are those of the encoder's vocabulary.
        marks: other tools' special tokens in the lines, if they were counted.
        counts: counts over the lines, if the encoder counts.
    """

    ids: Ids
    lengths: npt.NDArray[np.int64]
    words: str | None = None
    marks: Marks | None = None
    counts: Counts = Counts()


class Encoder(Protocol):
    """Map lines of text to ids.

    Attributes:
        tokenizer: what ``info["tokenizer"]`` of a corpus says; None for text that was tokenized.
        vocabulary: the vocabulary of the ids. None if it will be chosen from the words of the text.
    """

    tokenizer: str | None
    vocabulary: Vocabulary | None

    def encode_lines(self, lines: Sequence[str]) -> Block:
        """Return the ids of some lines, with the id of ``<eos>`` after each sentence."""
        ...


class WordEncoder:
    """Split lines into words, and number the words of each block as they appear.

    Args:
        tokenized: whether words are already separated by spaces. Otherwise :func:`tokenize` splits
            the lines, and each sentence gets an ``<eos>`` of its own.

    Attributes:
        key: everything on which the ids depend, for the name of a cached corpus.
    """

    vocabulary: Vocabulary | None = None

    def __init__(self, tokenized: bool) -> None:
        self.tokenized = tokenized
        self.key = "words" if tokenized else "raw words"
        self.tokenizer: str | None = None if tokenized else "tiedlm"

    def encode_lines(self, lines: Sequence[str]) -> Block:
        """Return the ids of some lines; equal words of a block have equal ids."""
        marks = Marks(self.tokenized)
        if self.tokenized:
            text = "\n".join([*lines, ""])
            numbered = number_words(text) if EOS not in text else None
            if numbered is not None:
                lengths = np.diff(np.flatnonzero(numbered.ids == FIRST_EOS) + 1, prepend=0)
                full = int(np.count_nonzero(lengths > 1))
                marks.see_split(text, full, len(numbered.ids) - len(lines))
                return Block(numbered.ids, lengths, EOS + numbered.words, marks)
        return self._one_by_one(lines, marks)

    def _one_by_one(self, lines: Sequence[str], marks: Marks) -> Block:
        """Return the same as :meth:`encode_lines`, with a look-up for each word."""
        types: _Types = defaultdict(itertools.count(2).__next__)  # numbers words as they appear
        types |= {EOS: FIRST_EOS, UNK: FIRST_UNK}
        numbers, lengths = array("i"), []
        for line in lines:
            before = len(numbers)
            sentences = sentences_of(line, self.tokenized)
            marks.see(line, sentences)
            for words in sentences:
                numbers.extend(map(types.__getitem__, words))
                if not words or words[-1] != EOS:
                    numbers.append(FIRST_EOS)
            lengths.append(len(numbers) - before)
        ids = np.array(numbers, dtype=np.int32)
        return Block(ids, np.array(lengths, dtype=np.int64), "\n".join(types), marks)
