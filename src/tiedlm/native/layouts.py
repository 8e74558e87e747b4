"""Lay a weight out in memory for many products ``a @ weight.t()``, each function in another way.

Each function returns the function ``a -> a @ weight.t()``. :mod:`tiedlm.matmul` chooses the layout.

Shape letters: P rows and K columns of the weight; ``rows`` is the number of rows of a.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def _as_it_is(weight_PK: Tensor, rows: int) -> Callable[[Tensor], Tensor]:
    """Leave the weight as it is."""
    weight_KP = weight_PK.t()
    return lambda a: torch.mm(a, weight_KP)


def _for_mkl(weight_PK: Tensor, rows: int) -> Callable[[Tensor], Tensor]:
    """Pack the weight for MKL."""
    weight_PK = weight_PK.detach().contiguous()
    packed = torch.ops.mkl._mkl_reorder_linear_weight(weight_PK, rows)
    multiply = torch.ops.mkl._mkl_linear.default
    return lambda a: multiply(a, packed, weight_PK, None, rows)


def _for_onednn(weight_PK: Tensor, rows: int) -> Callable[[Tensor], Tensor]:
    """Pack the weight for oneDNN."""
    packed = torch.ops.mkldnn._reorder_linear_weight(weight_PK.detach(), rows)
    multiply = torch.ops.mkldnn._linear_pointwise.default
    return lambda a: multiply(a, packed, None, "none", [], "")


LAYOUTS = {"plain": _as_it_is, "MKL": _for_mkl, "oneDNN": _for_onednn}
