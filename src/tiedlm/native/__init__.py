"""Pointwise work compiled for this machine: faster where there is a C compiler, never needed.

The losses and the networks are plain PyTorch, which passes over memory once for every operation.
``kernels.c`` does the same work in one pass a row. It is compiled when a program first asks for it
(``library.py``), by whatever ``cc`` is there, and kept in the user's cache. Without a compiler, and
in float64, the PyTorch code runs. On a GPU Triton's kernels do the same; ``triton.py`` says whether
they work here. Nothing in this folder knows the losses or the networks, except ``kernels.c``.
"""

from tiedlm.native.library import (
    OFF,
    declare,
    describe,
    enable,
    is_on,
    kernels_for,
    native,
    pointer,
    rows_of,
    type_of,
    why_not,
)
from tiedlm.native.triton import SHARED_BY, gpu_shared_by, share_gpu

__all__ = [
    "OFF",
    "SHARED_BY",
    "declare",
    "describe",
    "enable",
    "gpu_shared_by",
    "is_on",
    "kernels_for",
    "native",
    "pointer",
    "rows_of",
    "share_gpu",
    "type_of",
    "why_not",
]
