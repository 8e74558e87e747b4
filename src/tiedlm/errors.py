"""The one exception that a person, not a programmer, is meant to read."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """A mistake that a person can mend.

    Its text is one line that says what is wrong, where, and what to do. The command line prints it
    as ``tiedlm: error: <text>`` and exits with status 2.
    """


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``" (did you mean 'x'?)"`` for the nearest of ``known``, or ``""`` if none is near."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (did you mean {near[0]!r}?)" if near else ""
