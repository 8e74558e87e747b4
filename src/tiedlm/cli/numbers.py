"""Read whole numbers on the command line: 3.5 epochs is an error, not four."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from cyclopts import Parameter, Token

from tiedlm.training.word_counts import parse_words


class Words(str):
    """A number of words, as ``--help`` names what a flag takes."""

    __slots__ = ()


def whole_number(kind: type, tokens: Sequence[Token]) -> int:
    """Read a whole number; cyclopts alone would round 3.5.

    Raises:
        ValueError: for anything else; cyclopts adds the flag.
    """
    text = tokens[0].value
    try:
        return int(text)
    except ValueError as error:
        raise ValueError(f"expected a whole number, got {text!r}") from error


def seed_number(kind: type, tokens: Sequence[Token]) -> int:
    """Read a seed: a signed 64-bit integer.

    Raises:
        ValueError: for anything else.
    """
    value = whole_number(kind, tokens)
    if not -(2**63) <= value < 2**63:
        raise ValueError(f"expected a 64-bit integer, got {value}")
    return value


def word_count(kind: type, tokens: Sequence[Token]) -> int:
    """Read a number of words: 1000, 500k or 1M.

    Raises:
        ValueError: for anything else; cyclopts adds the flag.
    """
    return parse_words(tokens[0].value)


def keeps_logits_finite(temperature: float) -> bool:
    """Tell whether logits divided by a temperature stay finite: from 0.001 to 1e6."""
    return 1e-3 <= temperature <= 1e6


def plain_text(kind: type, tokens: Sequence[Token]) -> str:
    """Return the text unchanged."""
    return tokens[0].value


Whole = Annotated[int, Parameter(converter=whole_number)]
MaybeWhole = Annotated[int | None, Parameter(converter=whole_number)]
Seed = Annotated[int, Parameter(converter=seed_number)]
MaybeSeed = Annotated[int | None, Parameter(converter=seed_number)]
MaybeWords = Annotated[int | None, Parameter(converter=word_count)]
