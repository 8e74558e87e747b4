"""Measure the prose of a Markdown page: its mean and longest sentence, and its longest line.

Tables, code, comments and pictures are no prose. A link counts as its text, code as one word.

    python tests/prose.py docs/*.md README.md
"""

import re
import statistics
import sys
from pathlib import Path
from typing import NamedTuple

FENCE = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)
COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
LINK = re.compile(r"!?\[((?:[^][]|\[[^][]*\])*)\]\([^)]*\)", re.DOTALL)
ALONE = re.compile(r"[-* ]*!?\[.*\]\(\S+\)\S*")  # a line of one link or picture
CODE = re.compile(r"`[^`]+`")
TABLE = re.compile(r"^ *\|.*$", re.MULTILINE)
HEADING = re.compile(r"^#+ .*$", re.MULTILINE)
ITEM = re.compile(r"^ *(?:[-*]|\d+\.) ", re.MULTILINE)
TAG = re.compile(r"</?[a-z][^>]*>")

# A sentence ends at a full stop before a space and at the end of a paragraph. Not at these:
SHORT = ("e.g.", "i.e.", "et al.", "vs.", "eq.", "cf.", "Fig.", "approx.")
END = re.compile(r"(?<=[.!?])[*_\")\]]*\s+")


class Prose(NamedTuple):
    """The measures of a page: words, their mean number a sentence, longest sentence and line."""

    words: int
    mean: float
    longest: str
    line: str

    @property
    def most(self) -> int:
        """Return the number of words of the longest sentence."""
        return count(self.longest)


def count(sentence: str) -> int:
    """Return the number of words: what stands between spaces and has a letter or a digit."""
    return sum(any(letter.isalnum() for letter in word) for word in sentence.split())


def sentences(page: str) -> list[str]:
    """Return the sentences of a page's prose."""
    for pattern, instead in ((FENCE, "\n\n"), (COMMENT, "\n\n"), (TABLE, "\n\n")):
        page = pattern.sub(instead, page)
    page = LINK.sub(lambda link: "" if link[0].startswith("!") else link[1], page)
    page = TAG.sub("", HEADING.sub("\n\n", CODE.sub("code", page)))
    page = ITEM.sub("\n\n", page)
    for short in SHORT:
        page = page.replace(f"{short} ", f"{short.replace('.', '')} ")
    found = []
    for paragraph in re.split(r"\n\s*\n", page):
        found += [one for one in END.split(" ".join(paragraph.split())) if count(one)]
    return found


def lines(page: str) -> list[str]:
    """Return the lines that could be wrapped: no tables, code, or lines of one link or picture."""
    page = TABLE.sub("", COMMENT.sub("", FENCE.sub("", page)))
    return [line for line in page.splitlines() if not ALONE.fullmatch(line)]


def measure(page: str) -> Prose:
    """Measure the prose of a page."""
    counted = sentences(page)
    return Prose(
        sum(map(count, counted)),
        statistics.fmean(map(count, counted)) if counted else 0.0,
        max(counted, key=count, default=""),
        max(lines(page), key=len, default=""),
    )


if __name__ == "__main__":
    print("page | words | mean sentence | longest sentence | longest line")
    for name in sys.argv[1:]:
        prose = measure(Path(name).read_text(encoding="utf-8"))
        print(f"{name} | {prose.words} | {prose.mean:.1f} | {prose.most} | {len(prose.line)}")
