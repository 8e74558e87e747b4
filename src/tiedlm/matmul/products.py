"""Single products: a matrix product, and a layer with a bias.

Shape letters: M rows of the left factor, K numbers that are summed, P columns of the right factor.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tiedlm.matmul.kinds import LINEAR, kind_of
from tiedlm.native.ways import WAYS


def operand(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a matrix as an operand of products: in their type, perhaps padded with zero columns.

    In bfloat16 the number of columns is padded to a multiple of 8, so that every row begins on 16
    bytes. Otherwise AMX runs at half its speed, and a GPU cannot use its fastest kernels.

    Args:
        x: ``(rows, columns)``.
        dtype: the type of the GEMM's operands.
    """
    rows, columns = x.shape
    padding = -columns % 8
    if not padding or dtype != torch.bfloat16:
        return x.to(dtype)
    padded = x.new_empty(rows, columns + padding, dtype=dtype)
    padded[:, :columns].copy_(x)
    padded[:, columns:].zero_()
    return padded


def matmul(a: Tensor, b: Tensor, out: Tensor, *, accumulate: bool = False) -> Tensor:
    """Write or add ``a @ b`` to ``out``, which may be of a wider type than the operands.

    Shape:
        a ``(M, K)``, b ``(K, P)``, both of one type; out ``(M, P)``, or without the columns that
        :func:`operand` added to b.
    """
    kind = kind_of(a, b, out.dtype, accumulate)
    return WAYS[kind.choice().route if kind else "plain"](a, b, out, accumulate)


def linear(x_NK: Tensor, weight_PK: Tensor, bias_P: Tensor) -> Tensor:
    """Return ``x @ weight.t() + bias``, ``(N, P)``, all of one type."""
    weight_KP = weight_PK.t()
    kind = kind_of(x_NK, weight_KP, x_NK.dtype)
    if kind and x_NK.dtype == torch.float32:
        route = kind.choice_with_bias().route
        if route != "plain":
            return LINEAR[route](x_NK, weight_PK, bias_P)
    return torch.addmm(bias_P, x_NK, weight_KP)
