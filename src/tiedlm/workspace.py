"""Have the C library keep freed memory: fresh memory costs a page fault for every 4 KiB on a CPU.

By itself the C library returns large blocks, such as the gradients of a step, to the system and
asks for new ones. A GPU, whose allocator keeps memory anyway, does not need this.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

# Options of glibc's mallopt(3), and the values at which its own adjustment ends.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -2, -3, -4
_KEEP = {_MMAP_MAX: 0, _TRIM_THRESHOLD: -1, _TOP_PAD: 2**26}
_USUAL = {_MMAP_MAX: 65536, _MMAP_THRESHOLD: 2**25, _TRIM_THRESHOLD: 2**26, _TOP_PAD: 2**17}

_is_reusing = False


def is_reusing() -> bool:
    """Tell whether the C library keeps freed memory: then no buffer need be kept."""
    return _is_reusing


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
