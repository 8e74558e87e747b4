"""Multiply a few rows with a weight, which is not laid out anew (``native/narrow.c``).

Shape letters: T words, P rows and K columns of a weight.
"""

from __future__ import annotations

import ctypes
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from tiedlm.arithmetic import kernels_for
from tiedlm.native import declare, pointer

_LEAST_WIDTH = 16  # fewest elements that a product sums: the widest vector of narrow.c

_size, _int, _pointer = ctypes.c_int64, ctypes.c_int, ctypes.c_void_p
_SIGNATURES = {
    "narrow_product": [*[_size] * 3, _int, *[_pointer] * 4],
    "narrow_lstm": [*[_size] * 2, _int, *[_pointer] * 7],
    "narrow_lstm_backward": [*[_size] * 2, _int, *[_pointer] * 9],
}


def narrow_kernels(weight_PK: Tensor, x: Tensor) -> ctypes.CDLL | None:
    """Return the compiled kernels if they can multiply rows like ``x`` with a weight, else None."""
    if weight_PK.shape[1] < _LEAST_WIDTH or not weight_PK.is_contiguous():
        return None
    kernels = kernels_for(weight_PK, x, products=weight_PK.dtype, work=weight_PK.numel())
    if kernels is not None:
        _declare(kernels)
    return kernels


@cache
def _declare(kernels: ctypes.CDLL) -> None:
    declare(kernels, _SIGNATURES)


def few_rows(x_TK: Tensor, weight_PK: Tensor, bias_P: Tensor | None = None) -> Tensor:
    """Return ``x @ weight.t() + bias`` for few rows of x, without a gradient."""
    kernels = narrow_kernels(weight_PK, x_TK)
    if kernels is None:
        return functional.linear(x_TK, weight_PK, bias_P)
    x_TK, out_TP = x_TK.contiguous(), x_TK.new_empty(len(x_TK), len(weight_PK))
    kernels.narrow_product(
        *x_TK.shape, len(weight_PK), torch.get_num_threads(), pointer(x_TK), pointer(weight_PK),
        pointer(bias_P), pointer(out_TP),
    )  # fmt: skip
    return out_TP
