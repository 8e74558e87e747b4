"""The memory of a pass over the tokens: how much it takes, and the buffers.

On a CPU fresh memory costs a page fault for every 4 KiB. At 700 tokens and 10,000 words the faults
of one set of buffers take as long as all pointwise work. So buffers are kept for the next call.
"""

from __future__ import annotations

import threading

import torch
from torch import Tensor

from tiedlm import arithmetic

# The budget, in numbers of a buffer unless said otherwise.
CHUNK = 2**24  # scores of the tokens that one matrix product sees
GPU_CHUNK = 2**26  # the same for Triton: a GPU has memory enough, and no cache to spare
LEAST_ROWS = 256  # tokens of a chunk at least: with fewer, adding up its products costs too much
STRIP = 2**21  # what PyTorch's pointwise work sees: it fits a cache, and few threads are started
MOST_KEPT = 3 * 2**24  # a larger buffer is freed after the pass


def chunk_rows(tokens: int, vocabulary: int, numbers: int, times: int = 1) -> int:
    """Return how many tokens a chunk has.

    All chunks are equally long but the last. A chunk is up to 1.5 times as large as asked for if
    that makes fewer chunks: each one reads and writes the classifier's gradient, and products of
    few rows are slow.

    Args:
        tokens: number of all tokens.
        vocabulary: numbers of a row.
        numbers: wanted size of a chunk, in numbers. It has at least ``LEAST_ROWS`` rows.
        times: multiplies the number of rows, such as 2 for numbers of half the size.
    """
    most = max(1, numbers // vocabulary, LEAST_ROWS) * times
    chunks = max(1, -(-(2 * tokens - most) // (2 * most)))  # tokens / most, rounded, a half down
    return max(1, -(-tokens // chunks))


class _Kept(threading.local):
    def __init__(self) -> None:
        self.memory: dict[str, Tensor] = {}


_kept = _Kept()


class Buffer:
    """Memory of one pass for one matrix at a time.

    The memory is kept for the buffer of the same name in the next pass of this thread. It is freed
    after the pass in three cases: on a GPU, whose allocator keeps it anyway; if it is large; and if
    the C library keeps freed memory (``reuse`` of :mod:`tiedlm.arithmetic`).
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._own: Tensor | None = None

    def take(self, rows: int, columns: int, like: Tensor, *, aligned: bool = False) -> Tensor:
        """Return a matrix with arbitrary contents, of the type and device of ``like``.

        It is valid until the buffer is taken from again.

        Args:
            rows: number of rows.
            columns: number of columns.
            like: a tensor of the type and on the device that are wanted.
            aligned: begin each row of two-byte numbers on 16 bytes. The fastest products of a GPU
                need that; on a CPU with AMX a step is some percent faster.
        """
        if not aligned or like.itemsize > 2 or columns % 8 == 0:
            return self._take(rows, columns, like)
        wide = self._take(rows, -(-columns // 32) * 32, like)
        # oneDNN multiplies some of what is between the rows by 0, and a NaN there would come out.
        wide[:, columns:].zero_()
        return wide[:, :columns]

    def _take(self, rows: int, columns: int, like: Tensor) -> Tensor:
        """Return a contiguous matrix in kept memory, or in the pass's own if none may be kept."""
        count = rows * columns
        if like.device.type != "cpu" or count > MOST_KEPT or arithmetic.is_reusing():
            if not _serves(self._own, count, like):
                self._own = None  # before the next is made, so that only one is in memory
                self._own = like.new_empty(count)
            memory = self._own
        else:
            memory = _kept.memory.get(self._name)
            if not _serves(memory, count, like):
                with torch.inference_mode(False):  # so that a later call in any mode can use it
                    memory = torch.empty(count, dtype=like.dtype, device="cpu")
                _kept.memory[self._name] = memory
        assert memory is not None
        return memory[:count].view(rows, columns)

    def release(self) -> None:
        """Free the memory unless it is kept for the next pass."""
        self._own = None


def _serves(memory: Tensor | None, count: int, like: Tensor) -> bool:
    """Tell whether memory is of the type and device of ``like``, and holds enough numbers."""
    return (
        memory is not None
        and memory.dtype == like.dtype
        and memory.device == like.device
        and memory.numel() >= count
    )


def release() -> None:
    """Free the buffers that are kept for the next call in this thread."""
    _kept.memory.clear()
