"""Deal the lines or the documents of a text to the three parts, in blocks."""

from __future__ import annotations

import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tiedlm.data.documents import kind_of, read_documents
from tiedlm.data.text import TextFacts
from tiedlm.errors import UserError

DEAL = 10  # of every ten blocks, eight are train, one is valid and one is test


@dataclass(frozen=True)
class Deal:
    """How the blocks of a text are cut.

    Attributes:
        block: the lines or documents of a block.
        of_documents: whether documents are counted; else lines that are not blank.
        rule: the same in words.
    """

    block: int
    of_documents: bool
    rule: str

    def lines(self, paths: Sequence[Path], field: str) -> Iterator[tuple[str, str | None]]:
        """Yield (part, line) for every line of some files, as :attr:`Source.lines` does."""
        number, begins = -1, False
        for path in paths:
            counts_records = self.of_documents and kind_of(path) != "text"
            number += self.of_documents and not counts_records
            for line in read_documents(path, field):
                if line is None:
                    begins = True
                    number += counts_records
                    continue
                if not self.of_documents:
                    number += bool(line.strip(string.whitespace))
                part = part_of_block(max(number, 0) // self.block)
                if begins:
                    begins = False
                    yield part, None
                yield part, line


def how_to_deal(origin: str, paths: Sequence[Path], facts: Sequence[TextFacts]) -> Deal:
    """Return how to split some files, whose facts are given.

    Ten documents or more are dealt whole. A document is a record, or a text file. Fewer text files
    are dealt line by line.

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
