"""The one exception that a person, not a programmer, is meant to read."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from typing import Any


class UserError(ValueError):
    """A mistake that a person can mend.

    Its text is one line that says what is wrong, where, and what to do; a control character in
    what it quotes is escaped. The command line prints it as ``tiedlm: error: <text>`` and exits
    with status 2.
    """

    def __init__(self, text: str) -> None:
        super().__init__(visible(text))


def visible(text: str) -> str:
    r"""Return a text with what a person cannot see escaped, as ``repr`` does: a tab as ``\t``."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
        for char in text
    )


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``" (did you mean 'x'?)"`` for the nearest of ``known``, or ``""`` if none is near."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (did you mean {near[0]!r}?)" if near else ""


def require(module: str, extra: str, purpose: str) -> Any:
    """Import a module of an optional dependency.

    Args:
        module: its name.
        extra: of this package that installs it.
        purpose: what needs it, to begin the message with.

    Raises:
        UserError: naming the extra, if the module is not installed.
    """
    package = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ImportError as error:
        if str(error.name).partition(".")[0] != package:
            raise
        raise UserError(f"{purpose} needs {package}: pip install 'tiedlm[{extra}]'") from error
