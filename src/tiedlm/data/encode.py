"""Encode text as token ids in bounded memory, from lines of text to files of int32 ids."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tiedlm.data.marks import Marks
from tiedlm.data.source import PARTS, Source
from tiedlm.data.tokenizer import EOS, UNK, split_sentences, tokenize
from tiedlm.data.vocabulary import Ids, Vocabulary
from tiedlm.errors import UserError
from tiedlm.progress import byte_progress

_CHUNK = 1 << 20  # ids held in memory at a time
FIRST_EOS, FIRST_UNK = 0, 1  # provisional ids


class _Types(dict[str, int]):
    """A mapping from word to provisional id that numbers words as they first appear."""

    def __missing__(self, word: str) -> int:
        self[word] = number = len(self)
        return number


@dataclass(frozen=True)
class Encoded:
    """The parts of a corpus as files of provisional ids.

    Attributes:
        types: word -> provisional id.
        paths: part -> file of int32 ids.
        marks: counts of other tools' special tokens, from :class:`tiedlm.data.marks.Marks`.
    """

    types: dict[str, int]
    paths: dict[str, Path]
    marks: dict[str, Any]


def encode(source: Source, tokenized: bool, folder: Path, progress: bool) -> Encoded:
    """Write the ids of each part to ``<folder>/<part>.ids``, with an ``<eos>`` after every line.

    The ids are provisional: the vocabulary is chosen later, from the counts of the training part.
    """
    types = _Types({EOS: FIRST_EOS, UNK: FIRST_UNK})
    marks = Marks(tokenized)
    number = types.__getitem__
    paths = {part: folder / f"{part}.ids" for part in PARTS}
    writers = {part: _Writer(path) for part, path in paths.items()}
    try:
        with byte_progress(f"encoding {source.name}", source.size, show=progress) as advance:
            for part, line in source.lines():
                advance(len(line.encode()) + 1)
                sentences = [line.split()] if tokenized else split_sentences(tokenize(line))
                marks.see(line, sentences)
                for words in sentences:
                    writers[part].ids.extend(map(number, words))
                    if not words or words[-1] != EOS:
                        writers[part].ids.append(FIRST_EOS)
                writers[part].flush(_CHUNK)
    finally:
        for writer in writers.values():
            writer.close()
    return Encoded(dict(types), paths, marks.counts())


class _Writer:
    """A buffer of ids that is written to a file in chunks."""

    def __init__(self, path: Path) -> None:
        self.ids = array("i")
        self._file = path.open("wb")

    def flush(self, limit: int = 0) -> None:
        if len(self.ids) > limit:
            self._file.write(self.ids)
            self.ids = array("i")

    def close(self) -> None:
        try:
            self.flush()
        finally:
            self._file.close()


class Counted(NamedTuple):
    """How many ids were written: in total, for ``<unk>``, and for known words."""

    tokens: int
    unknown: int
    known: int


class Span(NamedTuple):
    """A range of ids in a file: the first position and the number of ids."""

    start: int
    length: int


def read_ids(path: Path, span: Span) -> Iterator[Ids]:
    """Yield the ids of a span in chunks."""
    start, length = span
    with path.open("rb") as file:
        file.seek(4 * start)
        while length > 0:
            chunk = np.fromfile(file, dtype=np.int32, count=min(_CHUNK, length))
            length -= len(chunk)
            yield chunk


def whole(path: Path) -> Span:
    """Return the span of all ids in a file."""
    return Span(0, path.stat().st_size // 4)


def whole_lines(path: Path, fraction: float, skip: float = 0.0) -> Span:
    """Return the span of the whole lines in a share of a file.

    Adjacent shares have no line in common.

    Args:
        path: file of ids, with an ``<eos>`` after every line.
        fraction: share of the ids to keep.
        skip: share of the ids to leave out before it.

    Raises:
        UserError: if no line fits.
    """
    total = whole(path).length
    start, stop = _line_end(path, skip), _line_end(path, min(skip + fraction, 1.0))
    if total > 0 and stop == start:
        raise UserError(
            f"a fraction of {fraction} keeps no whole line of {total} training tokens; use a "
            "larger fraction"
        )
    return Span(start, stop - start)


def _line_end(path: Path, share: float) -> int:
    """Return how many ids the whole lines in the first ``share`` of a file have."""
    total = whole(path).length
    if share == 1.0:
        return total
    end = seen = 0
    for chunk in read_ids(path, Span(0, int(share * total))):
        ends = np.flatnonzero(chunk == FIRST_EOS)
        if len(ends):
            end = seen + int(ends[-1]) + 1
        seen += len(chunk)
    return end


def count_words(encoded: Encoded, span: Span) -> dict[str, int]:
    """Count how often each word occurs in a span of the training part."""
    counts = np.zeros(len(encoded.types), dtype=np.int64)
    for chunk in read_ids(encoded.paths["train"], span):
        counts += np.bincount(chunk, minlength=len(counts))
    return {word: int(n) for word, n in zip(encoded.types, counts, strict=True) if n}


def renumber(encoded: Encoded, vocabulary: Vocabulary) -> Ids:
    """Return the vocabulary id of each provisional id; unknown words get the id of ``<unk>``."""
    return vocabulary.encode(encoded.types)


def write_npy(source: Path, span: Span, table: Ids, target: Path) -> Counted:
    """Write a span of ids as a .npy file, renumbered by ``table``.

    Returns:
        The counts of all tokens, of ``<unk>``, and of tokens other than ``<unk>`` and ``<eos>``.
    """
    unknown = ends = 0
    with target.open("wb") as file:
        header = {"descr": "<i4", "fortran_order": False, "shape": (span.length,)}
        np.lib.format.write_array_header_1_0(file, header)
        for chunk in read_ids(source, span):
            ids: npt.NDArray[np.int32] = table[chunk].astype("<i4", copy=False)
            unknown += int(np.count_nonzero(ids == table[FIRST_UNK]))
            ends += int(np.count_nonzero(ids == table[FIRST_EOS]))
            file.write(ids.data)
    return Counted(span.length, unknown, span.length - unknown - ends)
