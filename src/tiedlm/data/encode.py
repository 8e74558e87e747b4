"""Text to token ids in bounded memory: lines stream in, 32-bit ids stream out to a file."""

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
    """Word -> provisional id, in the order of first sight."""

    def __missing__(self, word: str) -> int:
        self[word] = number = len(self)
        return number


@dataclass(frozen=True)
class Encoded:
    """The parts of a corpus as files of provisional ids, and the words those ids stand for.

    ``marks`` are those of other tools, as :class:`tiedlm.data.marks.Marks` counts them.
    """

    types: dict[str, int]
    paths: dict[str, Path]
    marks: dict[str, Any]


def encode(source: Source, tokenized: bool, folder: Path, progress: bool) -> Encoded:
    """Write each part's ids to ``<folder>/<part>.ids``, an ``<eos>`` after every line.

    Words get provisional ids; the vocabulary is chosen afterwards from the training part's counts.
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
    """Ids on their way to a file."""

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
    """How many ids were written: all, those of ``<unk>``, and those of words that are known."""

    tokens: int
    unknown: int
    known: int


class Span(NamedTuple):
    """So many ids of a file, from one of them on."""

    start: int
    length: int


def read_ids(path: Path, span: Span) -> Iterator[Ids]:
    """Yield the ids of a span of a file in chunks."""
    start, length = span
    with path.open("rb") as file:
        file.seek(4 * start)
        while length > 0:
            chunk = np.fromfile(file, dtype=np.int32, count=min(_CHUNK, length))
            length -= len(chunk)
            yield chunk


def whole(path: Path) -> Span:
    """Return all of a file."""
    return Span(0, path.stat().st_size // 4)


def whole_lines(path: Path, fraction: float, skip: float = 0.0) -> Span:
    """Return the whole lines of a share of a file; shares that meet share no line.

    Args:
        path: ids, an ``<eos>`` after every line.
        fraction: the share.
        skip: the share before it that is left out.

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
    """Return how many ids the longest run of whole lines within the first share of a file has."""
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
    """Count the words of a span of the training part."""
    counts = np.zeros(len(encoded.types), dtype=np.int64)
    for chunk in read_ids(encoded.paths["train"], span):
        counts += np.bincount(chunk, minlength=len(counts))
    return {word: int(n) for word, n in zip(encoded.types, counts, strict=True) if n}


def renumber(encoded: Encoded, vocabulary: Vocabulary) -> Ids:
    """Return provisional id -> id in the vocabulary, where unknown words are ``<unk>``."""
    return vocabulary.encode(encoded.types)


def write_npy(source: Path, span: Span, table: Ids, target: Path) -> Counted:
    """Write a span of ids, renumbered by ``table``, as a .npy file.

    Returns:
        The tokens, how many of them are ``<unk>``, and how many are neither that nor ``<eos>``.
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
