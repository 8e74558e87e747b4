"""Compile kernels for this machine, and detect what works on it.

The losses and the networks are plain PyTorch, which passes over memory once for every operation.
``losses.c``, ``lstm.c`` and ``adapt.c`` do the same work in one pass a row. The C compiler ``cc``
compiles them at their first use, and the user's cache keeps the result (``library.py``). Without a
compiler, and in float64, the PyTorch code runs. On a GPU Triton's kernels do the same work.

``ways.py`` has the ways to make a matrix product, and ``layouts.py`` the layouts of a weight for
many products. ``routes.py`` measures which one is fast here. ``triton.py`` detects whether Triton
works. ``processor.py`` detects fast bfloat16, and whether oneDNN makes float32 products faster.
``memory.py`` has the C library's switch for freed memory. :mod:`tiedlm.arithmetic` turns all of
this on. Only the C files know the losses and the networks; no Python file in this folder does.
"""

from tiedlm.native.library import (
    declare,
    is_off,
    kernels_info,
    pointer,
    rows_of,
    suitable_kernels,
    type_of,
    why_not,
)
from tiedlm.native.triton import gpu_shared_by, share_gpu

__all__ = [
    "declare",
    "gpu_shared_by",
    "is_off",
    "kernels_info",
    "pointer",
    "rows_of",
    "share_gpu",
    "suitable_kernels",
    "type_of",
    "why_not",
]
