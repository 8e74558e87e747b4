"""Write the pages of the site's reference that say what the program says: help and settings."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
from pathlib import Path

from tiedlm.cli import build_app, main
from tiedlm.training.settings import Settings

COLUMNS = "96"  # width of the help


def help_of(*words: str) -> str:
    """Return what a command prints with --help."""
    before, os.environ["COLUMNS"] = os.environ.get("COLUMNS"), COLUMNS
    try:
        with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
            main([*words, "--help"])
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before
    return out.getvalue().rstrip()


def names() -> list[str]:
    """Return the names of the commands."""
    return [name for name in build_app() if not name.startswith("-")]


def commands() -> str:
    """Return the page of the commands' help."""
    text = "# Help of every command\n\nThe output of `--help`.\n"
    for name in names():
        text += f"\n## tiedlm {name}\n\n```text\n{help_of(name)}\n```\n"
    return text


def settings() -> str:
    """Return the page of the settings: each with its flag, its default and its help."""
    text = "# Settings\n\nEvery setting of a run, as in `config.json`. The defaults are those\n"
    text += "without a recipe; `tiedlm train RECIPE --show` prints a recipe's values.\n"
    groups: dict[str, list[str]] = {}
    last = "Without a flag"
    for field in dataclasses.fields(Settings):
        group = field.metadata["group"]
        default = {} if field.default is dataclasses.MISSING else field.default
        flag = f"`--{field.name.replace('_', '-')}`" if group else "no flag"
        words = field.metadata["help"].replace("|", r"\|").replace("<", r"\<")
        row = f"| `{field.name}` | {flag} | `{default!r}` | {words} |\n"
        groups.setdefault(group or last, []).append(row)
    for group, rows in sorted(groups.items(), key=lambda item: item[0] == last):
        text += f"\n## {group}\n\n| setting | flag | default | meaning |\n|---|---|---|---|\n"
        text += "".join(rows)
    return text


def write(folder: Path) -> None:
    """Write the pages into a folder."""
    for name, page in (("commands_help", commands()), ("settings", settings())):
        path = folder / f"{name}.md"
        if not path.is_file() or path.read_text(encoding="utf-8") != page:
            path.write_text(page, encoding="utf-8")
