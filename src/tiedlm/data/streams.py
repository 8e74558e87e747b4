"""Batches of streams of token ids, and windows for back-propagation through time.

Shape letters: B streams, S tokens of a stream, T tokens of a window.
"""

from __future__ import annotations

import mmap
import sys
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from tiedlm.errors import UserError

Tokens = npt.NDArray[np.int64]
CHUNK = 1 << 20  # tokens of a long text that are processed at once


def stream_length(tokens: int, batch_size: int) -> int:
    """Return S, the tokens of each stream into which a text is cut.

    Args:
        tokens: N, the tokens of the text.
        batch_size: B, the number of streams.

    Raises:
        UserError: as :func:`batch_streams`.
    """
    if batch_size < 1:
        raise UserError(f"batch_size must be at least 1, not {batch_size}")
    length = tokens // batch_size
    if length < 2:
        raise UserError(
            f"the text has {tokens} tokens, too few for --batch-size {batch_size}: each stream "
            f"needs two; give a longer text, or --batch-size {tokens // 2} or less"
            if tokens >= 2
            else f"the text has {tokens} tokens; a model needs at least two"
        )
    return length


def batch_streams(ids: npt.NDArray[np.integer], batch_size: int) -> Tokens:
    """Cut a text into contiguous streams of equal length.

    Stream b has the tokens b*S to (b+1)*S - 1, where S = len(ids) // batch_size. The last
    len(ids) % batch_size tokens are dropped, so this is for training only. A perplexity must
    include every token: use one stream for it.

    Args:
        ids: token ids. Shape: (N,).
        batch_size: B, the number of streams.

    Returns:
        A writable copy, int64. Shape: (B, S).

    Raises:
        UserError: if ``batch_size`` is less than 1 or the text is too short. A stream needs two
            tokens, one to read and one to predict.
    """
    length = stream_length(len(ids), batch_size)
    return np.array(ids[: length * batch_size], dtype=np.int64).reshape(batch_size, length)


def windows(streams_BS: Tokens, bptt: int) -> Iterator[tuple[Tokens, Tokens]]:
    """Yield consecutive windows of the streams, as inputs and targets.

    Every token but the first of each stream is a target exactly once. The last window may be
    shorter.

    Args:
        streams_BS: the streams. Shape: (B, S).
        bptt: T, the length of a window.

    Yields:
        The inputs, and as targets the tokens that follow them. Shapes: (B, T), (B, T).

    Raises:
        UserError: if ``bptt`` is less than 1.
    """
    if bptt < 1:
        raise UserError(f"bptt must be at least 1, not {bptt}")
    last = streams_BS.shape[1] - 1
    for start in range(0, last, bptt):
        end = min(start + bptt, last)
        yield streams_BS[:, start:end], streams_BS[:, start + 1 : end + 1]


class Shuffled:
    """A text whose documents are in another order; a slice of it is an array.

    Args:
        ids: token ids. Shape: (N,).
        documents: where documents begin, the first at 0. Shape: (D,).
        order: the documents in their new order. Shape: (D,).
    """

    def __init__(
        self,
        ids: npt.NDArray[np.integer],
        documents: npt.NDArray[np.int64],
        order: npt.NDArray[np.int64],
    ) -> None:
        self._ids = ids
        self._starts = documents[order]
        self._ends = np.cumsum(np.diff(documents, append=len(ids))[order])

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, span: slice) -> npt.NDArray[np.integer]:
        start, stop, _ = span.indices(len(self))
        number = int(np.searchsorted(self._ends, start, side="right"))
        pieces = [self._ids[:0]]
        while start < stop:
            left = int(self._ends[number]) - start
            length = min(left, stop - start)
            end = int(self._starts[number]) + self._length(number) - left + length
            pieces.append(self._ids[end - length : end])
            start, number = start + length, number + 1
        return np.concatenate(pieces)

    def _length(self, number: int) -> int:
        before = int(self._ends[number - 1]) if number else 0
        return int(self._ends[number]) - before


def count_ids(ids: npt.NDArray[np.integer], size: int) -> npt.NDArray[np.int64]:
    """Return how often each id below ``size`` occurs, in bounded memory."""
    counts = np.zeros(size, dtype=np.int64)
    for start in range(0, len(ids), CHUNK):
        counts += np.bincount(ids[start : start + CHUNK], minlength=size)
        release(ids)
    return counts


def release(ids: npt.NDArray[np.integer]) -> None:
    """Release the memory of a text that was read from a memory-mapped file.

    Pages that have been read count as resident memory of the process. After the release they stay
    in the system's cache of files, so reading them again is fast.
    """
    if isinstance(ids, np.memmap) and sys.platform == "linux":
        mapped: mmap.mmap = ids._mmap  # type: ignore[attr-defined]
        mapped.madvise(mmap.MADV_DONTNEED)
