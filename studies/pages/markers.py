"""Write pages of Markdown from results: wrap their lines, and fill the tables between markers."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping

WIDTH = 100
_AS_IT_IS = ("|", "#", "!", "<!--")  # tables, headings, pictures and comments


def wrap(page: str) -> str:
    """Wrap the lines of a page's prose that are longer than :data:`WIDTH`."""
    return "".join(
        line if len(line) <= WIDTH or line.startswith(_AS_IT_IS) else _wrapped(line)
        for line in page.splitlines(keepends=True)
    )


def _wrapped(line: str) -> str:
    indent = "  " if line.startswith("- ") else ""
    return (
        textwrap.fill(
            line, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
        )
        + "\n"
    )


def fill(page: str, tables: Mapping[str, str]) -> str:
    """Replace what stands between ``<!-- NAME: begin -->`` and ``<!-- NAME: end -->``.

    Args:
        page: a page in Markdown.
        tables: the new text by name.

    Raises:
        ValueError: if the page does not have the markers of a name exactly once.
    """
    for name, table in tables.items():
        pattern = rf"(<!-- {name}: begin -->\n).*?(<!-- {name}: end -->)"
        page, count = re.subn(pattern, rf"\g<1>{_literal(table)}\g<2>", page, flags=re.DOTALL)
        if count != 1:
            raise ValueError(f"the page has {count} places for the table {name!r}, not one")
    return page


def _literal(text: str) -> str:
    return text.replace("\\", r"\\")
