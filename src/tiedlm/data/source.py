"""What a corpus is made of, before it is encoded; and your own text as such a source."""

from __future__ import annotations

import string
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tiedlm.data.text import count_blank_lines, digest, lacks_blanks, looks_tokenized, read_lines
from tiedlm.errors import UserError

PARTS = ("train", "valid", "test")
_DEAL = 10  # of every ten blocks, eight train, one validates, one tests


@dataclass(frozen=True)
class Source:
    """A text in three parts.

    Attributes:
        name: what the corpus is called.
        origin: one line that says where the text comes from.
        split: one line that says how the parts were made.
        sha256: file name -> hash of every file the text comes from.
        size: bytes to read, for the progress bar.
        lines: yields (part, line) for every line, each part in its order.
        tokenized: whether a line is already split into words.
        lacks_blanks: whether the text is written without blanks between words.
        verified: whether the hashes are the published ones; None where none are published.
        files: files that must not be overwritten.
    """

    name: str
    origin: str
    split: str
    sha256: dict[str, str]
    size: int
    lines: Callable[[], Iterator[tuple[str, str]]]
    tokenized: bool
    lacks_blanks: bool = False
    verified: bool | None = None
    files: tuple[Path, ...] = ()


def from_files(name: str, origin: str, split: str, paths: dict[str, Path]) -> Source:
    """Make a source of one file for each part."""
    digests = {part: digest(path) for part, path in paths.items()}
    for part, found in digests.items():
        if found.size == 0:
            raise UserError(f"{paths[part]} is empty; the {part} text was expected")

    def lines() -> Iterator[tuple[str, str]]:
        for part, path in paths.items():
            for line in read_lines(path):
                yield part, line

    return Source(
        name=name,
        origin=origin,
        split=split,
        sha256={paths[part].name: found.sha256 for part, found in digests.items()},
        size=sum(found.size for found in digests.values()),
        lines=lines,
        tokenized=looks_tokenized(read_lines(paths["train"])),
        lacks_blanks=lacks_blanks(read_lines(paths["train"])),
        files=tuple(paths.values()),
    )


def from_folder(folder: Path) -> Source:
    """Take ``train.txt``, ``valid.txt`` and ``test.txt`` of a folder.

    Raises:
        UserError: if one of them is missing or empty.
    """
    paths = {part: folder / f"{part}.txt" for part in PARTS}
    missing = [path.name for path in paths.values() if not path.is_file()]
    if missing:
        raise UserError(
            f"{folder} has no {' and no '.join(missing)}; a corpus folder holds train.txt, "
            "valid.txt and test.txt (or give one file, which is split)"
        )
    return from_files(folder.resolve().name, str(folder), "as given: one file a part", paths)


def from_one_file(path: Path) -> Source:
    """Deal the lines of one file to the three parts.

    The file is cut into blocks of consecutive lines, 100 blocks or more (a block is a hundredth
    of the lines, at least 1 and at most 1,000). Of every ten blocks the ninth validates, the tenth
    tests, the others train. Blank lines do not count; each goes with the line before it. Nothing is
    drawn at random: the same file gives the same split.

    Raises:
        UserError: if the file is empty or has fewer than ten lines that are not blank.
    """
    found = digest(path)
    if found.size == 0:
        raise UserError(f"{path} is empty; a text was expected")
    # Reading the sample first reports a binary or endless-lined file before its few lines do.
    tokenized = looks_tokenized(read_lines(path))
    blank = count_blank_lines(path)
    written = found.lines - blank
    if written < _DEAL:
        raise UserError(
            f"{path} has {written} lines that are not blank, too few to split; a split needs "
            f"{_DEAL} or more (one sentence or paragraph a line), or give a folder with train.txt, "
            "valid.txt, test.txt"
        )
    block = block_length(written)

    def lines() -> Iterator[tuple[str, str]]:
        number = -1
        for line in read_lines(path):
            number += bool(line.strip(string.whitespace))
            yield part_of_block(max(number, 0) // block), line

    return Source(
        name=path.stem,
        origin=str(path),
        split=(
            f"blocks of {block} consecutive lines{', blank ones not counted' * (blank > 0)}; "
            "of every ten blocks the ninth is valid, the tenth test, the others train"
        ),
        sha256={path.name: found.sha256},
        size=found.size,
        lines=lines,
        tokenized=tokenized,
        lacks_blanks=lacks_blanks(read_lines(path)),
        files=(path,),
    )


def block_length(lines: int) -> int:
    """Return how many lines a block has in a file with that many lines."""
    return min(max(lines // 100, 1), 1000)


def part_of_block(block: int) -> str:
    """Return the part that block number ``block``, from 0, belongs to."""
    return {_DEAL - 2: "valid", _DEAL - 1: "test"}.get(block % _DEAL, "train")
