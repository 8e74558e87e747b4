"""Read the pages of the documentation: their code blocks, and the commands in these."""

from __future__ import annotations

import re
import shlex
import subprocess
import textwrap
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
FENCE = re.compile(r"^( *)(`{3,}|~{3,})([^\n]*)\n(.*?)^ *\2 *$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)
COMMENT = re.compile(r"(?:^|[ \t]+)#(?!!).*$", re.MULTILINE)
SHELL = ("sh", "bash", "shell", "console")


class Block(NamedTuple):
    """A fenced block: its page, the number of its first line, its language and its text."""

    page: str
    line: int
    language: str
    text: str


class Command(NamedTuple):
    """A command of a page: where it begins, and its lines as written."""

    page: str
    line: int
    text: str

    @property
    def plain(self) -> str:
        """Return the command in one line, without its comment."""
        return " ".join(COMMENT.sub("", self.text).replace("\\\n", " ").split())

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {self.plain}"


def blocks_of(page: Path) -> list[Block]:
    """Return the fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            page.name,
            text.count("\n", 0, found.start(4)) + 1,
            found[3].strip(),
            textwrap.dedent(found[4]),
        )
        for found in FENCE.finditer(text)
    ]


def commands_of(block: Block) -> list[Command]:
    """Return the commands of a block: lines up to where the shell takes them as complete.

    A block that begins with ``#!`` is a script, so one command. In a ``console`` block the commands
    follow a ``$``, and the other lines are what they print.
    """
    lines = block.text.splitlines()
    if block.text.startswith("#!"):
        return [Command(block.page, block.line, block.text)]
    if block.language == "console":
        lines = [line[2:] if line.startswith(("$ ", "> ")) else "" for line in lines]
    found, begun = [], ""
    for number, line in enumerate(lines):
        if not begun:
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            first = number
        begun += line + "\n"
        if not line.endswith("\\") and is_complete(begun):
            found.append(Command(block.page, block.line + first, begun))
            begun = ""
    assert not begun, f"{block.page}:{block.line + first}: the shell expects more after {begun}"
    return found


@cache
def is_complete(text: str) -> bool:
    """Return whether a shell has all of a command."""
    done = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False)
    return not done.returncode and not done.stderr


def code_spans(page: Path) -> list[Command]:
    """Return the pieces of code within the sentences and tables of a page."""
    text = FENCE.sub(lambda fence: "\n" * fence[0].count("\n"), page.read_text(encoding="utf-8"))
    return [
        Command(page.name, text.count("\n", 0, found.start()) + 1, " ".join(found[2].split()))
        for found in CODE.finditer(text)
    ]


def calls(text: str) -> list[list[str]]:
    """Return the words of each program that commands call, without redirections.

    Variables that the text sets are replaced. A substitution, ``$(...)``, becomes one word.
    """
    text = re.sub(r"<<-?'?(\w+)'?(.*?)^\s*\1$", "", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"\$\([^()]*\)", "WORD", COMMENT.sub("", text).replace("\\\n", " "))
    for name, value in re.findall(r"^(\w+)='([^']*)'$", text, re.MULTILINE):
        text = text.replace(f"${name}", value)
    lexer = shlex.shlex(text.replace("\n", " ;\n"), posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split, lexer.commenters = True, ""
    found: list[list[str]] = [[]]
    words = iter(lexer)
    for word in words:
        if word[0] in "<>":
            next(words, None)
        elif set(word) <= set("|&;"):
            found.append([])
        elif found[-1] or not re.match(r"(\w+=.*|do|then|else|#!.*)$", word):
            found[-1].append(word)
    return [one for one in found if one]
