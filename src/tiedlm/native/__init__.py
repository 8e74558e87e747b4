"""Use this machine well: compile C kernels, measure matrix products, and detect what works.

The losses and the networks are written in PyTorch, which passes over memory once for every
operation. The C files here do the same work in one pass per row. The C compiler ``cc`` compiles
them at their first use, and the user's cache keeps the result. Without a compiler, and in float64,
the PyTorch code runs. On a GPU, Triton's kernels do the same work.

- ``library.py`` compiles the C files and loads the result.
- ``ways.py`` has the ways to compute a matrix product, and ``layouts.py`` the ways to lay out a
  weight in memory for many products. ``routes.py`` measures which of them is fastest here.
- ``triton.py`` detects whether Triton works. ``processor.py`` detects fast bfloat16, and whether
  oneDNN computes float32 products faster.
- ``memory.py`` tells the C library whether to keep freed memory.

:mod:`tiedlm.arithmetic` turns all of this on and off. No Python file in this folder knows the
losses or the networks; only the C files do.
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
