"""Read and check the values in a request of the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

MOST_TEXT = 200_000  # characters


class BadRequest(ValueError):
    """The request is malformed; the page itself never sends such a request."""


class Asked:
    """The values of a request, by name; each is checked when it is read.

    Args:
        values: the parsed JSON object.

    Raises:
        BadRequest: if it is no object, or from the methods if a value is not as expected.
    """

    def __init__(self, values: Any) -> None:
        if not isinstance(values, dict):
            raise BadRequest(f"expected an object, got {type(values).__name__}")
        self._values = values

    def text(self, name: str, most: int = MOST_TEXT) -> str:
        """Return a text of at most ``most`` characters; ``""`` if there is none.

        A lone surrogate, which JSON can contain as an escape, becomes a question mark.
        """
        value = self._values.get(name, "")
        if not isinstance(value, str) or len(value) > most:
            raise BadRequest(f"{name}: expected a text of at most {most:,} characters")
        return (
            value.encode("utf-8", "replace")
            .decode("utf-8")
            .replace("\0", "\N{REPLACEMENT CHARACTER}")
        )

    def number(self, name: str, default: float, low: float, high: float) -> float:
        """Return a number from ``low`` to ``high``."""
        value = self._values.get(name, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise BadRequest(f"{name}: expected a number")
        if not (math.isfinite(value) and low <= value <= high):
            raise BadRequest(f"{name}: expected {low:g} to {high:g}")
        return float(value)

    def whole(self, name: str, default: int, low: int, high: int) -> int:
        """Return a whole number from ``low`` to ``high``."""
        value = self.number(name, default, low, high)
        if value != int(value):
            raise BadRequest(f"{name}: expected a whole number")
        return int(value)

    def choice(self, name: str, choices: Sequence[str]) -> str:
        """Return one of the choices; the first if none is given."""
        value = self._values.get(name, choices[0])
        if value not in choices:
            raise BadRequest(f"{name}: expected one of {', '.join(choices)}")
        return str(value)

    def texts(self, name: str, most: int) -> list[str] | None:
        """Return a list of at most ``most`` texts, or None if it is not given."""
        values = self._values.get(name)
        if values is None:
            return None
        if not isinstance(values, list) or len(values) > most:
            raise BadRequest(f"{name}: expected a list of at most {most}")
        return [Asked({name: value}).text(name) for value in values]
