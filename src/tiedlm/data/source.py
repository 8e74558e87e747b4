"""Texts in three parts, ready to be encoded: from a folder or from one file."""

from __future__ import annotations

import string
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tiedlm.data.text import count_blank_lines, digest, lacks_blanks, looks_tokenized, read_lines
from tiedlm.errors import UserError

PARTS = ("train", "valid", "test")
_DEAL = 10  # of every ten blocks, eight are train, one is valid and one is test


@dataclass(frozen=True)
class Source:
    """A text in three parts, before it is encoded.

    Attributes:
        name: the name of the corpus.
        origin: where the text comes from, in one line.
        split: how the parts were made, in one line.
        sha256: file name -> SHA-256, for every file the text comes from.
        size: bytes to read, for the progress bar.
        lines: yields (part, line) for every line; the lines of a part are in order.
        tokenized: whether the text is already split into words.
        lacks_blanks: whether the text has no spaces between words.
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
    """Return the source made of one file for each part."""
    digests = {part: digest(path) for part, path in paths.items()}
    for part, found in digests.items():
        if found.size == 0:
            raise UserError(f"{paths[part]} is empty; expected the {part} text")

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
    """Return the source made of a folder's ``train.txt``, ``valid.txt`` and ``test.txt``.

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
    """Return the source that splits one file into the three parts.

    The file is cut into blocks of consecutive lines. A block has a hundredth of the lines, at least
    1 and at most 1,000. Of every ten blocks the ninth is valid, the tenth is test and the others
    are train. Blank lines are not counted; each stays with the line before it. Nothing is random:
    the same file gives the same split.

    Raises:
        UserError: if the file is empty or has fewer than ten lines that are not blank.
    """
    found = digest(path)
    if found.size == 0:
        raise UserError(f"{path} is empty; expected a text")
    # This comes first, so that a binary file is reported as such and not as too few lines.
    tokenized = looks_tokenized(read_lines(path))
    blank = count_blank_lines(path)
    written = found.lines - blank
    if written < _DEAL:
        raise UserError(
            f"{path} has {written} lines that are not blank, too few to split; a split needs "
            f"{_DEAL} or more, with one sentence or paragraph on each; or give a folder with "
            "train.txt, valid.txt and test.txt"
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
    """Return the number of lines in a block, for a file with ``lines`` lines."""
    return min(max(lines // 100, 1), 1000)


def part_of_block(block: int) -> str:
    """Return the part of block number ``block``, counted from 0."""
    return {_DEAL - 2: "valid", _DEAL - 1: "test"}.get(block % _DEAL, "train")
