"""Number the words of a block of text with array operations, which is faster than a dictionary.

The text is an array of bytes. A word is hashed to 64 bits: its first eight bytes as a number, with
the rest of a longer word mixed in. Equal hashes are found through a table. Words with equal hashes
are then compared byte by byte, so two different words never get the same number.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tiedlm.data.tokenizer import UNK
from tiedlm.data.vocabulary import Ids

# What str.split() separates words at, apart from the newline.
_BLANKS = "\t\v\f\r\x1c\x1d\x1e\x1f"
OTHER_BLANKS = re.compile("[\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]")
_TO_SPACE = bytes.maketrans(_BLANKS.encode(), b" " * len(_BLANKS))
LONGEST = 1024  # bytes; a block with a longer word is not numbered here
_WIDTH = 8  # bytes of a number
_MASKS = np.array([(1 << 8 * size) - 1 for size in range(_WIDTH + 1)], dtype=np.uint64)
_FACTOR = 0x9E3779B97F4A7C15  # an odd factor, which spreads each bit of a number to the higher bits

Integers = npt.NDArray[np.int32]


class Numbered(NamedTuple):
    """The words of a block, newlines among them.

    Args:
        ids: the number of each word, in the order of the text. Shape: (N,), int32.
        words: the words to which the ids refer, separated by newlines: an empty word for the
            newline, ``<unk>``, and the others in the order of the text.
    """

    ids: Ids
    words: str


def number_words(text: str) -> Numbered | None:
    """Number the words that ``text.split()`` gives, and the newlines between them.

    Args:
        text: lines, each with a newline at its end.

    Returns:
        The numbers; None if a word is longer than ``LONGEST`` bytes, or if two words have the same
        64 bits by chance.
    """
    if not text.isascii():
        text = OTHER_BLANKS.sub(" ", text)
    begin, end = f" \n {UNK} ".encode(), b" " * _WIDTH
    lines = text.encode().translate(_TO_SPACE).replace(b"\n", b" \n ")
    words = _Words(b"".join([begin, lines, end]))
    del lines
    if int(words.sizes.max()) > LONGEST:
        return None
    first = _first_equal(words.hashes())
    if not words.are_equal(first):
        return None
    is_first = first == np.arange(len(first), dtype=np.int32)
    numbers = np.cumsum(is_first, dtype=np.int32) - 1
    spelled = words.spelled(np.flatnonzero(is_first)[1:])
    return Numbered(numbers[first[2:]], b"\n".join([b"", *spelled]).decode())


class _Words:
    """The words of a text in which only spaces separate words.

    Args:
        data: the text, with a space before it and ``_WIDTH`` behind it.

    Attributes:
        starts: where the words begin, in bytes. Shape: (N,).
        sizes: their lengths in bytes. Shape: (N,).
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        is_space = np.frombuffer(data, np.uint8) == ord(" ")
        edges = np.flatnonzero(is_space[1:] != is_space[:-1]).astype(np.int32) + np.int32(1)
        self.starts: Integers = edges[::2]
        self.sizes: Integers = edges[1::2] - self.starts
        # For each position, the eight bytes from there as one number.
        self._eight = np.ndarray((len(data) - _WIDTH + 1,), "<u8", data, strides=(1,))

    def _part(self, number: Integers | slice, at: int) -> npt.NDArray[np.uint64]:
        """Return up to eight bytes of some words, from byte ``at`` on, as numbers."""
        size = np.minimum(self.sizes[number] - np.int32(at), _WIDTH)
        part: npt.NDArray[np.uint64] = self._eight[self.starts[number] + np.int32(at)]
        part &= _MASKS[size]
        return part

    def _longer(self, than: int) -> Integers:
        return np.flatnonzero(self.sizes > than).astype(np.int32)

    def hashes(self) -> npt.NDArray[np.uint64]:
        """Return a 64-bit hash of each word; words of up to eight bytes have different hashes."""
        found = self._part(slice(None), 0)
        longer, at = self._longer(_WIDTH), _WIDTH
        while len(longer):
            found[longer] = found[longer] * np.uint64(_FACTOR) ^ self._part(longer, at)
            at += _WIDTH
            longer = longer[self.sizes[longer] > at]
        return found

    def are_equal(self, first: Integers) -> bool:
        """Return whether each word equals another word, whose position is given for it."""
        if not np.array_equal(self.sizes, self.sizes[first]):
            return False
        longer, at = self._longer(_WIDTH), 0
        while len(longer):
            if not np.array_equal(self._part(longer, at), self._part(first[longer], at)):
                return False
            at += _WIDTH
            longer = longer[self.sizes[longer] > at]
        return True

    def spelled(self, number: npt.NDArray[np.int64]) -> list[bytes]:
        starts = self.starts[number]
        ends = starts + self.sizes[number]
        data = self._data
        return [data[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]


def _first_equal(hashes: npt.NDArray[np.uint64]) -> Integers:
    """Return the position of the first equal number for each number.

    Each number belongs to a place in a table, and the first number there keeps the place. Numbers
    that find a different number at their place try another place in the next round, until none is
    left.
    """
    bits = max(len(hashes).bit_length(), 8)
    table = np.empty(1 << bits, np.int32)
    first = np.empty(len(hashes), np.int32)
    left = np.arange(len(hashes), dtype=np.int32)
    factor = _FACTOR
    while len(left):
        values = hashes[left]
        places = ((values * np.uint64(factor)) >> np.uint64(64 - bits)).view(np.int64)
        table[places[::-1]] = left[::-1]  # if several are written to a place, the last one stays
        holders = table[places]
        first[left] = holders
        left = left[hashes[holders] != values]
        factor = factor * 0xD1342543DE82EF95 % (1 << 64) | 1
    return first
