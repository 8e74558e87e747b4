"""Split a text into train, valid and test, by dealing out blocks of its lines or documents."""

from __future__ import annotations

import string
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tiedlm.data.documents import kind_of, read_documents
from tiedlm.data.text import TextFacts
from tiedlm.errors import UserError

DEAL = 10  # of every ten blocks, eight are train, one is valid and one is test


class Batch(NamedTuple):
    """Some lines of one part of a text.

    Args:
        part: the part.
        lines: the lines, without their ends.
        begins: the numbers of the lines with which documents begin.
    """

    part: str
    lines: list[str]
    begins: list[int]


@dataclass(frozen=True)
class Deal:
    """How the blocks of a text are cut.

    Attributes:
        block: the lines or documents of a block.
        of_documents: whether blocks consist of documents. Otherwise they consist of lines, and
            blank lines do not count.
        rule: the rule of the split, in words.
    """

    block: int
    of_documents: bool
    rule: str

    def batches(self, paths: Sequence[Path], field: str) -> Iterator[Batch]:
        """Yield the lines of some files, as :attr:`Source.batches` does."""
        number = -1  # the block of the last line or document that was counted
        for path in paths:
            counts_records = self.of_documents and kind_of(path) != "text"
            number += self.of_documents and not counts_records
            for lines, begins in read_documents(path, field):
                counted = np.zeros(len(lines), dtype=np.int64)
                if counts_records:
                    counted[begins] = 1
                elif not self.of_documents:
                    counted[:] = [bool(line.strip(string.whitespace)) for line in lines]
                numbers = number + np.cumsum(counted)
                number = int(numbers[-1])
                blocks = np.maximum(numbers, 0) // self.block
                ends = [*(np.flatnonzero(np.diff(blocks)) + 1).tolist(), len(lines)]
                for start, end in zip([0, *ends], ends, strict=False):
                    inside = begins[bisect_left(begins, start) : bisect_left(begins, end)]
                    part = part_of_block(int(blocks[start]))
                    yield Batch(part, lines[start:end], [line - start for line in inside])


def how_to_deal(origin: str, paths: Sequence[Path], facts: Sequence[TextFacts]) -> Deal:
    """Return how to split some files.

    If there are ten documents or more, whole documents are dealt. A document is a record, or a text
    file. With fewer text files, lines are dealt.

    Raises:
        UserError: if there are too few.
    """
    kinds = [kind_of(path) for path in paths]
    written = [found.lines - found.blank for found in facts]
    documents = sum(1 if kind == "text" else n for kind, n in zip(kinds, written, strict=True))
    if documents >= DEAL:
        block = block_length(documents)
        noun = "documents" if "text" in kinds else "records"
        return Deal(block, True, _rule(f"blocks of {block} consecutive {noun}"))
    if set(kinds) != {"text"}:
        raise UserError(
            f"{origin} has {documents} documents, too few to split; a split needs {DEAL} or more; "
            "or give a folder with a file for each part, such as train.jsonl"
        )
    if sum(written) < DEAL:
        raise UserError(
            f"{origin} has {sum(written)} lines that are not blank, too few to split; a split "
            f"needs {DEAL} or more, with one sentence or paragraph on each; or give a folder with "
            "train.txt, valid.txt and test.txt"
        )
    block = block_length(sum(written))
    has_blank = any(found.blank for found in facts)
    counted = ", blank ones not counted" if has_blank else ""
    return Deal(block, False, _rule(f"blocks of {block} consecutive lines{counted}"))


def _rule(blocks: str) -> str:
    return f"{blocks}; of every ten blocks the ninth is valid, the tenth test, the others train"


def block_length(items: int) -> int:
    """Return the number of lines or documents in a block, for a text with ``items`` of them."""
    return min(max(items // 100, 1), 1000)


def part_of_block(block: int) -> str:
    """Return the part of block number ``block``, counted from 0."""
    return {DEAL - 2: "valid", DEAL - 1: "test"}.get(block % DEAL, "train")
