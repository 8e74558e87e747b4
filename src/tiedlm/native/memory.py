"""Tell the C library to keep freed memory or to return it, and the system to use large pages.

On a CPU, freshly allocated memory costs a page fault for every 4 KiB. glibc returns large blocks,
such as the gradients of a step, to the system, and asks for new ones at the next step. A GPU needs
no such switch, because PyTorch's allocator keeps its memory.
"""

from __future__ import annotations

import ctypes
import platform

from torch import Tensor

# Options of glibc's mallopt(3). _USUAL has the values at which glibc's own adjustment ends.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -2, -3, -4
_KEEP = {_MMAP_MAX: 0, _TRIM_THRESHOLD: -1, _TOP_PAD: 2**26}
_USUAL = {_MMAP_MAX: 65536, _MMAP_THRESHOLD: 2**25, _TRIM_THRESHOLD: 2**26, _TOP_PAD: 2**17}

_LARGE_PAGE = 2**21  # bytes
_MADV_COLLAPSE = 25  # of madvise(2), since Linux 6.1


def use_large_pages(tensor: Tensor) -> None:
    """Put a contiguous tensor on pages of 2 MiB, where the system can.

    Reading a matrix of many MiB is then about a tenth faster. Its content and address do not
    change.
    """
    first = -(-tensor.data_ptr() // _LARGE_PAGE) * _LARGE_PAGE
    stop = (tensor.data_ptr() + tensor.nbytes) // _LARGE_PAGE * _LARGE_PAGE
    libc = _glibc() if platform.system() == "Linux" and tensor.device.type == "cpu" else None
    if libc is not None and stop > first:
        advise = libc.madvise
        advise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        advise(first, stop - first, _MADV_COLLAPSE)  # an older system refuses, which is fine


def keep_freed_memory() -> bool:
    """Keep freed memory for later allocations; return whether the C library can do so."""
    libc = _glibc()
    return libc is not None and all(libc.mallopt(*option) for option in _KEEP.items())


def return_freed_memory() -> None:
    """Undo :func:`keep_freed_memory`, and return free memory to the system."""
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
