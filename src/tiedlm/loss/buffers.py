"""The buffers of a pass over the tokens, and how large they may be.

On a CPU, freshly allocated memory costs a page fault for every 4 KiB. At 700 tokens and 10,000
words, the page faults of one set of buffers take as long as all pointwise work. So the buffers are
kept for the next call.
"""

from __future__ import annotations

import threading

import torch
from torch import Tensor

from tiedlm import arithmetic

# Sizes in elements of a matrix, unless a comment says otherwise.
CHUNK = 2**24  # scores of the tokens that one matrix product sees
GPU_CHUNK = 2**26  # the same for Triton: a GPU has more memory
LEAST_ROWS = 256  # fewest tokens of a chunk: with fewer, adding up its products costs too much
STRIP = 2**21  # scores that PyTorch's operations work on at a time: they fit a cache
MOST_KEPT = 3 * 2**24  # a larger buffer is freed after the pass


def chunk_rows(tokens: int, vocabulary: int, numbers: int, times: int = 1) -> int:
    """Return how many tokens a chunk has.

    All chunks but the last are equally long. A chunk may be up to 1.5 times the wanted size if that
    saves a chunk, because each chunk reads and writes the classifier's gradient, and products with
    few rows are slow.

    Args:
        tokens: number of all tokens.
        vocabulary: number of scores of a token.
        numbers: wanted number of scores in a chunk, which has at least ``LEAST_ROWS`` tokens.
        times: factor for the number of tokens, such as 2 if a score takes half the memory.
    """
    most = max(1, numbers // vocabulary, LEAST_ROWS) * times
    chunks = max(1, -(-(2 * tokens - most) // (2 * most)))  # tokens / most, rounded, a half down
    return max(1, -(-tokens // chunks))


class _Kept(threading.local):
    def __init__(self) -> None:
        self.memory: dict[str, Tensor] = {}


_kept = _Kept()


class Buffer:
    """Memory that holds one matrix at a time.

    After a pass the memory is kept for the buffer of the same name in the next pass of this thread.
    It is freed instead if it is large, on a GPU (whose allocator keeps it anyway), and where the C
    library keeps freed memory (``reuse`` of :mod:`tiedlm.arithmetic`).
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._own: Tensor | None = None

    def take(self, rows: int, columns: int, like: Tensor, *, aligned: bool = False) -> Tensor:
        """Return an uninitialized matrix of the type and on the device of ``like``.

        It is valid until the next call of ``take``.

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
        """Return a contiguous matrix in kept memory, or in fresh memory if none may be kept."""
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
    """Tell whether memory is of the type and on the device of ``like``, and large enough."""
    return (
        memory is not None
        and memory.dtype == like.dtype
        and memory.device == like.device
        and memory.numel() >= count
    )


def release() -> None:
    """Free the buffers that are kept for the next call in this thread."""
    _kept.memory.clear()
