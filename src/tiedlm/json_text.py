"""Parse JSON that another program may have written, and write JSON that any program can read."""

from __future__ import annotations

import json
import math
from typing import Any

from tiedlm.errors import UserError


def parse_json(text: str, name: str) -> Any:
    """Parse JSON that another program may have written.

    A number that is too large for a float becomes infinity. Its ``repr`` is the number as it was
    written, for messages.

    Args:
        text: the JSON.
        name: its name in messages: a file, or a line of one.

    Raises:
        UserError: if it is not JSON or is nested too deeply, an object has a key twice, or a
            string has half a character.
    """
    try:
        value = json.loads(
            text,
            parse_int=_whole_number,
            parse_float=_real_number,
            parse_constant=_real_number,
            object_pairs_hook=_object,
        )
        if "\\u" in text:  # only an escape can write half a character
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = error.object[error.start]
        raise UserError(
            f"{name}: a text has {half!r}, which is half a character; the program that wrote it "
            "cut off the other half: correct or remove that text"
        ) from error
    except RecursionError as error:
        raise UserError(f"{name}: its lists or objects are nested too deeply to be read") from error
    except ValueError as error:
        raise UserError(f"{name} is not valid JSON ({error}); it may be damaged") from error
    return value


def to_json(value: Any, **style: Any) -> str:
    """Return JSON that any program can read: numbers that are not finite become null.

    Args:
        value: what to write.
        style: arguments of :func:`json.dumps`.
    """
    try:
        return json.dumps(value, allow_nan=False, **style)
    except ValueError:  # a damaged model's numbers
        return json.dumps(_finite(value), **style)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _whole_number(digits: str) -> int | float:
    return int(digits) if len(digits) < 300 else _real_number(digits)


def _real_number(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _NotFinite(text)


class _NotFinite(float):
    """Infinity or NaN, shown as it was written."""

    _text: str

    def __new__(cls, text: str) -> _NotFinite:
        self = super().__new__(cls, text)
        self._text = text
        return self

    def __repr__(self) -> str:
        return self._text


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"an object has the key {twice!r} twice")
    return found
