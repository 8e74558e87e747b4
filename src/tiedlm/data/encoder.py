"""Map lines of text to token ids, a block of lines at a time.

An encoder is all that decides ids, apart from the choice of a vocabulary. It is pickled for the
processes that encode in parallel.
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
from tiedlm.data.tokenizer import EOS, UNK, split_sentences, tokenize
from tiedlm.data.vocabulary import Ids, Vocabulary

_Types = defaultdict[str, int]

FIRST_EOS, FIRST_UNK = 0, 1  # ids within a block whose words are numbered as they appear
_TOGETHER = 256  # lines that are split at once: fewer calls, and the words stay in the cache


class Block(NamedTuple):
    """The ids of some lines.

    Args:
        ids: the ids of all lines, one after another. Shape: (N,), int32.
        lengths: how many ids each line has. Shape: (lines,), int64.
        words: the words that the ids number in this block alone, ``<eos>`` and ``<unk>`` first,
            with newlines between. None if the ids are those of the encoder's vocabulary.
        marks: other tools' special tokens in the lines, if they were counted.
    """

    ids: Ids
    lengths: npt.NDArray[np.int64]
    words: str | None = None
    marks: Marks | None = None


class Encoder(Protocol):
    """Map lines of text to ids.

    Attributes:
        key: what decides the ids, for the name of a cached corpus.
        tokenizer: what ``info["tokenizer"]`` of a corpus says; None for text that was tokenized.
        vocabulary: the vocabulary of the ids. None if it is chosen from the words of the text.
    """

    key: str
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
    """

    vocabulary: Vocabulary | None = None

    def __init__(self, tokenized: bool) -> None:
        self.tokenized = tokenized
        self.key = "words" if tokenized else "raw words"
        self.tokenizer: str | None = None if tokenized else "tiedlm"

    def encode_lines(self, lines: Sequence[str]) -> Block:
        """Return the ids of some lines; equal words of a block have equal ids."""
        types: _Types = defaultdict(itertools.count(2).__next__)  # numbers words as they appear
        types |= {EOS: FIRST_EOS, UNK: FIRST_UNK}
        marks = Marks(self.tokenized)
        pieces = [(np.empty(0, np.int32), np.empty(0, np.int64))]
        for start in range(0, len(lines), _TOGETHER):
            pieces.append(self._encode(lines[start : start + _TOGETHER], types, marks))
        ids, lengths = (np.concatenate(part) for part in zip(*pieces, strict=True))
        return Block(ids, lengths, "\n".join(types), marks)

    def _encode(
        self, lines: Sequence[str], types: _Types, marks: Marks
    ) -> tuple[Ids, npt.NDArray[np.int64]]:
        """Return the ids of a few lines and the lengths of the lines."""
        if self.tokenized and not any(EOS in line for line in lines):
            joined = f" {EOS} ".join([*lines, ""])
            ids = np.fromiter(map(types.__getitem__, joined.split()), dtype=np.int32)
            ends = np.flatnonzero(ids == FIRST_EOS) + 1
            marks.see_split(lines, len(ids) - len(lines))
            return ids, np.diff(ends, prepend=0)
        numbers, lengths = array("i"), []
        for line in lines:
            before = len(numbers)
            sentences = [line.split()] if self.tokenized else split_sentences(tokenize(line))
            marks.see(line, sentences)
            for words in sentences:
                numbers.extend(map(types.__getitem__, words))
                if not words or words[-1] != EOS:
                    numbers.append(FIRST_EOS)
            lengths.append(len(numbers) - before)
        return np.array(numbers, dtype=np.int32), np.array(lengths, dtype=np.int64)
