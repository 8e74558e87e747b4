"""Large buffers that are used again: fresh memory costs a page fault for every 4 KiB on a CPU.

At 700 tokens and 10,000 words the faults of one set of buffers take as long as all pointwise work.
What is kept is bounded by :data:`MOST_KEPT` numbers a buffer; it belongs to a thread, and a GPU,
whose allocator keeps memory anyway, needs none of it.
"""

from __future__ import annotations

import threading

import torch
from torch import Tensor

MOST_KEPT = 2**24


class _Kept(threading.local):
    def __init__(self) -> None:
        self.buffers: dict[str, Tensor] = {}


_kept = _Kept()


def take(name: str, rows: int, columns: int, like: Tensor) -> Tensor:
    """Return a matrix with arbitrary contents, of the type and device of ``like``.

    It is valid until ``name`` is taken again in the same thread.
    """
    count = rows * columns
    if like.device.type != "cpu" or count > MOST_KEPT:
        return like.new_empty(rows, columns)
    buffer = _kept.buffers.get(name)
    if buffer is None or buffer.dtype != like.dtype or buffer.numel() < count:
        with torch.inference_mode(False):  # so that it serves in any mode
            buffer = _kept.buffers[name] = torch.empty(count, dtype=like.dtype)
    return buffer[:count].view(rows, columns)


def release() -> None:
    """Give back this thread's buffers."""
    _kept.buffers.clear()
