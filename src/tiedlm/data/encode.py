"""Encode text as token ids in bounded memory, from lines of text to files of int32 ids."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tiedlm.cores import available_cores
from tiedlm.data.counts import WordCounts
from tiedlm.data.encoder import FIRST_EOS, Block, Counts, Encoder
from tiedlm.data.marks import Marks
from tiedlm.data.source import PARTS, Source
from tiedlm.data.vocabulary import Ids, Vocabulary
from tiedlm.data.workers import encode_blocks
from tiedlm.errors import UserError
from tiedlm.progress import byte_progress

BLOCK = 1 << 21  # characters that are encoded at a time
PARALLEL = 8_000_000  # bytes of text for each process that encodes


class Stored(NamedTuple):
    """A block on disk: the number of its ids, and which bytes of the file of words it has."""

    length: int
    start: int
    size: int


@dataclass
class EncodedPart:
    """A part of a corpus as a file of int32 ids, in blocks.

    Attributes:
        ids: the file of ids.
        words: the file with the words of each block, to which the ids of the block refer. Empty if
            the ids belong to the encoder's vocabulary.
        eos_id: the id of ``<eos>`` in every block.
        blocks: where each block lies in the files.
        documents: where documents begin, in ids, for each block.
        counts: counts over the part, if the encoder counts.
    """

    ids: Path
    words: Path
    eos_id: int
    blocks: list[Stored] = field(default_factory=list)
    documents: list[npt.NDArray[np.int64]] = field(default_factory=list)
    counts: Counts = Counts()

    def __len__(self) -> int:
        return sum(block.length for block in self.blocks)


@dataclass(frozen=True)
class Encoded:
    """The parts of a corpus on disk.

    Attributes:
        parts: name of a part -> its files.
        marks: counts of other tools' special tokens, from :class:`tiedlm.data.marks.Marks`.
    """

    parts: dict[str, EncodedPart]
    marks: dict[str, Any]

    def remove(self) -> None:
        """Remove the files."""
        for part in self.parts.values():
            part.ids.unlink()
            part.words.unlink()


def encode(source: Source, encoder: Encoder, folder: Path, progress: bool) -> Encoded:
    """Write the ids of each part to files in ``folder``, with an ``<eos>`` after every line."""
    fixed = encoder.vocabulary
    eos_id = FIRST_EOS if fixed is None else fixed.eos_id
    parts = {
        part: EncodedPart(folder / f"{part}.ids", folder / f"{part}.words", eos_id)
        for part in PARTS
    }
    writers = {part: _Writer(files) for part, files in parts.items()}
    marks = Marks(encoder.tokenizer is None)
    try:
        for about, block in encoded_blocks(source, encoder, f"encoding {source.name}", progress):
            writers[about.part].write(block, about.documents)
            if block.marks is not None:
                marks.add(block.marks)
    finally:
        for writer in writers.values():
            writer.close()
    return Encoded(parts, marks.counts())


def encoded_blocks(
    source: Source, encoder: Encoder, what: str, progress: bool
) -> Iterator[tuple[About, Block]]:
    """Yield the encoded blocks of a source, in order within a part; a long text uses several cores.

    Args:
        source: the text.
        encoder: maps its lines to ids.
        what: the label of the progress bar.
        progress: whether to show it on a terminal.
    """
    with byte_progress(what, source.size, show=progress) as advance:
        processes = min(available_cores(), source.size // PARALLEL)
        for about, block in encode_blocks(encoder, _blocks(source), processes):
            yield about, block
            advance(about.size)


class About(NamedTuple):
    """A block's part, its size in characters, and the lines in it with which documents begin."""

    part: str
    size: int
    documents: list[int]


def _blocks(source: Source) -> Iterator[tuple[About, list[str]]]:
    """Yield the lines of a source in blocks of one part, in order within the part."""
    lines: dict[str, list[str]] = {part: [] for part in PARTS}
    documents: dict[str, list[int]] = {part: [] for part in PARTS}
    sizes = dict.fromkeys(PARTS, 0)
    for part, more, begins in source.batches():
        documents[part] += [line + len(lines[part]) for line in begins]
        lines[part] += more
        sizes[part] += sum(map(len, more)) + len(more)
        if sizes[part] >= BLOCK:
            yield About(part, sizes[part], documents[part]), lines[part]
            lines[part], documents[part], sizes[part] = [], [], 0
    for part in PARTS:
        if lines[part]:
            yield About(part, sizes[part], documents[part]), lines[part]


class _Writer:
    """The open files of a part."""

    def __init__(self, part: EncodedPart) -> None:
        self._part = part
        self._ids: IO[bytes] = part.ids.open("wb")
        self._words: IO[bytes] = part.words.open("wb")
        self._length = 0

    def write(self, block: Block, documents: list[int]) -> None:
        """Append a block; ``documents`` names the lines of it with which documents begin."""
        starts = np.cumsum(block.lengths) - block.lengths + self._length
        begun = [line for line in documents if line < len(starts)]
        self._part.documents.append(starts[begun])
        self._length += len(block.ids)
        self._part.counts = self._part.counts.plus(block.counts)
        self._ids.write(np.ascontiguousarray(block.ids, dtype=np.int32).data)
        words = (block.words or "").encode()
        self._part.blocks.append(Stored(len(block.ids), self._words.tell(), len(words)))
        self._words.write(words)

    def close(self) -> None:
        try:
            self._ids.close()
        finally:
            self._words.close()


class Counted(NamedTuple):
    """How many ids were written: in total, for ``<unk>``, and for known words."""

    tokens: int
    unknown: int
    known: int


class Span(NamedTuple):
    """A range of ids in a file: the first position and the number of ids."""

    start: int
    length: int


def read_blocks(part: EncodedPart, span: Span) -> Iterator[tuple[Ids, list[str]]]:
    """Yield the ids of each block in a span, with the words to which they refer."""
    first = 0
    with part.ids.open("rb") as ids, part.words.open("rb") as words:
        for block in part.blocks:
            start = max(span.start, first)
            stop = min(span.start + span.length, first + block.length)
            if start < stop:
                ids.seek(4 * start)
                words.seek(block.start)
                written = words.read(block.size).decode()
                yield (
                    np.fromfile(ids, dtype=np.int32, count=stop - start),
                    written.split("\n") if written else [],
                )
            first += block.length


def whole(part: EncodedPart) -> Span:
    """Return the span of all ids of a part."""
    return Span(0, len(part))


def whole_lines(part: EncodedPart, fraction: float, skip: float = 0.0) -> Span:
    """Return the span of the whole lines in a share of a part.

    Adjacent shares have no line in common.

    Args:
        part: its ids, with an ``<eos>`` after every line.
        fraction: share of the ids to keep.
        skip: share of the ids to leave out before it.

    Raises:
        UserError: if no line fits.
    """
    start, stop = _line_end(part, skip), _line_end(part, min(skip + fraction, 1.0))
    if len(part) > 0 and stop == start:
        raise UserError(
            f"--fraction {fraction} keeps no whole line of {len(part)} training tokens; give a "
            "larger one"
        )
    return Span(start, stop - start)


def ids_within(share: float, total: int) -> int:
    """Return the number of whole ids in a share of ``total``: 29 in 0.29 of 100."""
    return int(round(share * total, 6))  # 0.29 * 100 is 28.999999999999996


def _line_end(part: EncodedPart, share: float) -> int:
    """Return the number of ids in the whole lines of the first ``share`` of a part."""
    if share == 1.0:
        return len(part)
    end = seen = 0
    for ids, _ in read_blocks(part, Span(0, ids_within(share, len(part)))):
        ends = np.flatnonzero(ids == part.eos_id)
        if len(ends):
            end = seen + int(ends[-1]) + 1
        seen += len(ids)
    return end


def document_starts(part: EncodedPart, span: Span) -> npt.NDArray[np.int64]:
    """Return where the documents of a span begin, the first at 0."""
    starts = np.concatenate([np.empty(0, np.int64), *part.documents]) - span.start
    inside = starts[(starts > 0) & (starts < span.length)]
    return np.unique(np.append(inside, 0))


def count_words(part: EncodedPart, span: Span, folder: Path) -> WordCounts:
    """Count how often each word occurs in a span; ``folder`` receives what memory cannot hold."""
    counts = WordCounts(folder)
    for ids, words in read_blocks(part, span):
        counts.add(words, np.bincount(ids, minlength=len(words)).tolist())
    return counts


def write_npy(part: EncodedPart, span: Span, vocabulary: Vocabulary, target: Path) -> Counted:
    """Write a span as a .npy file of the vocabulary's ids; other words get the id of ``<unk>``.

    Returns:
        The counts of all tokens, of ``<unk>``, and of tokens other than ``<unk>`` and ``<eos>``.
    """
    unknown = ends = 0
    with target.open("wb") as file:
        header = {"descr": "<i4", "fortran_order": False, "shape": (span.length,)}
        np.lib.format.write_array_header_1_0(file, header)
        for numbers, words in read_blocks(part, span):
            table = vocabulary.encode(words) if words else None
            ids: npt.NDArray[np.int32] = numbers if table is None else table[numbers]
            if vocabulary.unk_id is not None:
                unknown += int(np.count_nonzero(ids == vocabulary.unk_id))
            ends += int(np.count_nonzero(ids == vocabulary.eos_id))
            file.write(ids.astype("<i4", copy=False).data)
        file.flush()
        os.fsync(file.fileno())
    return Counted(span.length, unknown, span.length - unknown - ends)
