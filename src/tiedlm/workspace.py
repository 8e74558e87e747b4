"""Memory that is used again: fresh memory costs a page fault for every 4 KiB on a CPU.

At 700 tokens and 10,000 words the faults of one set of buffers take as long as all pointwise work.

- :func:`take` keeps the loss's large buffers: bounded by :data:`MOST_KEPT` numbers a buffer, and of
  a thread each.
- :func:`reuse_freed_memory` is for programs: it has the C library keep what is freed, such as the
  gradients of a step, where by itself it returns large blocks to the system and asks for new ones.

A GPU, whose allocator keeps memory anyway, needs neither.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager

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
    if like.device.type != "cpu" or count > MOST_KEPT or _is_reusing:
        return like.new_empty(rows, columns)
    buffer = _kept.buffers.get(name)
    if buffer is None or buffer.dtype != like.dtype or buffer.numel() < count:
        with torch.inference_mode(False):  # so that it serves in any mode
            buffer = _kept.buffers[name] = torch.empty(count, dtype=like.dtype, device="cpu")
    return buffer[:count].view(rows, columns)


def release() -> None:
    """Give back this thread's buffers."""
    _kept.buffers.clear()


# Options of glibc's mallopt(3), and the values at which its own adjustment ends.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -2, -3, -4
_KEEP = {_MMAP_MAX: 0, _TRIM_THRESHOLD: -1, _TOP_PAD: 2**26}
_is_reusing = False  # then the buffers of `take` are better shared with everything else
_USUAL = {_MMAP_MAX: 65536, _MMAP_THRESHOLD: 2**25, _TRIM_THRESHOLD: 2**26, _TOP_PAD: 2**17}


def enable_reuse_of_freed_memory() -> bool:
    """Have the C library keep freed memory for the next allocation, from here on.

    Returns whether it did: glibc has a switch for it. It belongs to the whole process, so this is
    for programs, not for libraries.
    """
    global _is_reusing
    libc = _glibc()
    _is_reusing = libc is not None and all(libc.mallopt(*option) for option in _KEEP.items())
    return _is_reusing


@contextmanager
def reuse_freed_memory() -> Iterator[bool]:
    """Do so for a block of code, and yield whether it did."""
    try:
        yield enable_reuse_of_freed_memory()
    finally:
        stop_reuse_of_freed_memory()


def stop_reuse_of_freed_memory() -> None:
    """Undo :func:`enable_reuse_of_freed_memory`; what is free goes back to the system."""
    global _is_reusing
    _is_reusing = False
    libc = _glibc()
    if libc is not None:
        for option in _USUAL.items():
            libc.mallopt(*option)
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    """Return the C library if it is glibc."""
    try:
        libc = ctypes.CDLL(None)
        return libc if hasattr(libc, "gnu_get_libc_version") else None
    except (OSError, TypeError):  # no dynamic C library, or no Unix
        return None
