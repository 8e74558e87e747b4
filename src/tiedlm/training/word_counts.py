"""Read and write numbers of words as people give them: 500k, 1M, 1000."""

from __future__ import annotations

import re
from fractions import Fraction

_UNITS = {"": 1, "k": 1_000, "m": 1_000_000}
_NUMBER = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,6})?)([km]?)", re.IGNORECASE)


def parse_words(text: str) -> int:
    """Return a number of words: ``500k`` is 500,000, and ``1.5M`` is 1,500,000.

    Args:
        text: digits, then perhaps k (thousand) or M (million).

    Raises:
        ValueError: if it is not a whole number of words, at least 1.
    """
    found = _NUMBER.fullmatch(text.strip())
    words = Fraction(found[1]) * _UNITS[found[2].lower()] if found else Fraction(0)
    if words < 1 or words.denominator != 1:
        raise ValueError(f"expected a number of words such as 1000, 500k or 1M, got {text!r}")
    return int(words)


def parse_word_list(text: str | None) -> tuple[int, ...]:
    """Return the numbers of words in ``1M,2M,500k``, each once, the smallest first.

    Args:
        text: numbers separated by commas; None gives no numbers.

    Raises:
        ValueError: naming the first part that is not a number of words.
    """
    return () if text is None else tuple(sorted({parse_words(part) for part in text.split(",")}))


def short_words(words: int) -> str:
    """Return the shortest exact form of a number of words: ``1M``, ``1500k`` or ``1234``."""
    for unit, size in (("M", 1_000_000), ("k", 1_000)):
        if words % size == 0:
            return f"{words // size}{unit}"
    return str(words)
