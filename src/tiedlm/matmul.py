"""Make matrix products: into a wider type, and many with one weight.

:func:`matmul` writes or adds a product to a matrix that may be of a wider type than the operands.
:func:`multiplier` and :func:`adder` lay a weight out once for many products.
:mod:`tiedlm.arithmetic` says in which type products are made (``gemm_dtype``).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Literal

import torch
from torch import Tensor

from tiedlm.arithmetic import route_in_use
from tiedlm.native.processor import FP32_LEVEL, has_fast_bf16, why_not_fast_fp32
from tiedlm.tracing import is_recording

_PART = 2**18  # numbers that are added at a time; they fit a cache
_COLUMNS = 2048  # of one product on AMX


def operand(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a matrix in the type of a GEMM; in bfloat16 zero columns pad it to a multiple of 8.

    Rows that do not begin on 16 bytes halve the speed of AMX, and rule out a GPU's fastest kernels.
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

    On AMX oneDNN takes up to twice the time it needs for two kinds of products. A wide product is
    made in blocks of columns, with the same numbers. A product with a transposed ``a``, which
    oneDNN would copy, is made as ``(b^T a^T)^T``, because b is smaller.

    Shape:
        a ``(M, K)``, b ``(K, P)``, both of one type; out ``(M, P)``, or without the columns that
        :func:`operand` added to b.
    """
    if out.shape[1] > _COLUMNS and _is_for_amx(a):
        for start in range(0, out.shape[1], _COLUMNS):
            block = slice(start, start + _COLUMNS)
            matmul(a, b[:, block], out[:, block], accumulate=accumulate)
        return out
    if not accumulate and a.stride(0) == 1 and a.stride(1) > 1 and _is_for_amx(a):
        product_PM = torch.mm(b.t().contiguous(), a.t())
        return out.copy_(product_PM[: out.shape[1]].t())
    if out.dtype == a.dtype and out.shape[1] == b.shape[1]:
        return out.addmm_(a, b) if accumulate else torch.mm(a, b, out=out)
    product = torch.mm(a, b)[:, : out.shape[1]]
    if not accumulate:
        return out.copy_(product)
    if out.is_cuda:
        return out.add_(product)
    # Adding two types copies one of them. A part of the copy fits the cache.
    rows = max(1, _PART // product.shape[1])
    for start in range(0, len(out), rows):
        out[start : start + rows].add_(product[start : start + rows])
    return out


def _is_for_amx(a: Tensor) -> bool:
    return a.dtype == torch.bfloat16 and not a.is_cuda and torch.cpu._is_amx_tile_supported()


def multiplier(weight_PK: Tensor, rows: int) -> Callable[[Tensor], Tensor]:
    """Return a function ``a -> a @ weight.t()`` for many products with one weight.

    The weight is packed once in the layout of the library that makes the products. Reading the
    weight is what takes the time of narrow products, such as a recurrence's.

    Args:
        weight_PK: the constant factor; it must not change while the function is used.
        rows: number of rows of a.

    Shape:
        a ``(rows, K)`` of the weight's type; the product ``(rows, P)`` too.
    """
    packing = _packing(weight_PK)
    if packing is None:
        weight_KP = weight_PK.t()
        return lambda a: torch.mm(a, weight_KP)
    if packing == "MKL":
        weight_PK = weight_PK.detach()
        for_mkl = torch.ops.mkl._mkl_reorder_linear_weight(weight_PK, rows)
        linear = torch.ops.mkl._mkl_linear.default
        return lambda a: linear(a, for_mkl, weight_PK, None, rows)
    packed = torch.ops.mkldnn._reorder_linear_weight(weight_PK.detach(), rows)
    multiply = torch.ops.mkldnn._linear_pointwise.default
    return lambda a: multiply(a, packed, None, "none", [], "")


def adder(weight_PK: Tensor, rows: int) -> Callable[[Tensor, Tensor], object]:
    """Return a function ``(a, out)`` that adds the product of :func:`multiplier` to ``out``.

    Shape:
        a ``(rows, K)`` of the weight's type; out ``(rows, P)``, perhaps of a wider type.
    """
    if _packing(weight_PK) is None:
        weight_KP = weight_PK.t()
        return lambda a, out: matmul(a, weight_KP, out, accumulate=True)
    multiply = multiplier(weight_PK, rows)
    return lambda a, out: out.add_(multiply(a))


def _packing(weight: Tensor) -> Literal["oneDNN", "MKL"] | None:
    """Return the library for which to pack a weight: the one that makes its products.

    None where packing does not pay: packing a transposed float32 weight takes as long as it saves
    in a window.
    """
    if weight.device.type != "cpu" or is_recording(weight):
        return None
    if weight.dtype == torch.bfloat16:
        return "oneDNN" if has_fast_bf16() and _can_pack("oneDNN", weight.dtype) else None
    if weight.dtype != torch.float32 or not weight.is_contiguous():
        return None
    wants_onednn = route_in_use() != "default" and not why_not_fast_fp32()
    library: Literal["oneDNN", "MKL"] = "oneDNN" if wants_onednn else "MKL"
    return library if _can_pack(library, weight.dtype) else None


@cache
def _can_pack(library: str, dtype: torch.dtype) -> bool:
    """Tell whether this PyTorch has exact operations on packed weights; ``torch.compile``'s."""
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(20, 200, generator=generator).to(dtype)
    weight = torch.randn(800, 200, generator=generator).to(dtype)
    try:
        if library == "MKL":
            packed = torch.ops.mkl._mkl_reorder_linear_weight(weight, 20)
            product = torch.ops.mkl._mkl_linear(a, packed, weight, None, 20)
        else:
            packed = torch.ops.mkldnn._reorder_linear_weight(weight, 20)
            product = torch.ops.mkldnn._linear_pointwise(a, packed, None, "none", [], "")
    except (AttributeError, RuntimeError):
        return False
    exact = a.double() @ weight.double().t()
    error = ((product - exact).abs() / (a.double().abs() @ weight.double().abs().t())).max().item()
    return bool(error <= (FP32_LEVEL if dtype == torch.float32 else 2.0**-8))
