"""The exception for mistakes that a user can fix."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from typing import Any


class UserError(ValueError):
    """A mistake that a user can fix.

    Its text is one line that says what is wrong, where, and what to do. Control characters in it
    are escaped. The command line prints it as ``tiedlm: error: <text>`` and exits with status 2.
    """

    def __init__(self, text: str) -> None:
        super().__init__(visible(text))


def visible(text: str) -> str:
    r"""Return a text with unprintable characters escaped as in ``repr``: a tab as ``\t``."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
        for char in text
    )


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``" (did you mean 'x'?)"`` for the closest known name, or ``""`` if none is close."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (did you mean {near[0]!r}?)" if near else ""


def require(module: str, extra: str, purpose: str) -> Any:
    """Import a module of an optional dependency.

    Args:
        module: name of the module.
        extra: the extra of tiedlm that installs it.
        purpose: what needs it; the message starts with this.

    Raises:
        UserError: if the module is not installed; it names the extra.
    """
    package = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ImportError as error:
        if str(error.name).partition(".")[0] != package:
            raise
        raise UserError(f"{purpose} needs {package}: pip install 'tiedlm[{extra}]'") from error
