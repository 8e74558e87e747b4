"""Many products with one weight, which is laid out in memory once."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, partial

import torch
from torch import Tensor

from tiedlm.arithmetic import route_in_use
from tiedlm.matmul.kinds import drawn, is_measured, level, switch, type_name
from tiedlm.matmul.products import matmul
from tiedlm.native import routes
from tiedlm.native.layouts import LAYOUTS
from tiedlm.native.processor import has_fast_bf16
from tiedlm.native.routes import Choice, Trial
from tiedlm.native.ways import is_transposed
from tiedlm.tracing import is_recording

_LEAST_STEP = 2**21  # the same for one of many products with one weight
WINDOW = 35  # products for which a weight is laid out once


def multiplier(weight_PK: Tensor, rows: int) -> Callable[[Tensor], Tensor]:
    """Return a function ``a -> a @ weight.t()`` for many products with one weight.

    The weight is packed once, in the layout of the library that computes the products. This helps
    products with few rows, such as the steps of a recurrence: they spend most of their time reading
    the weight.

    Args:
        weight_PK: the constant factor; it must not change while the function is used.
        rows: number of rows of a.

    Shape:
        a ``(rows, K)`` of the weight's type; the product ``(rows, P)`` too.
    """
    return LAYOUTS[_layout(weight_PK, rows)](weight_PK, rows)


def adder(weight_PK: Tensor, rows: int) -> Callable[[Tensor, Tensor], object]:
    """Return a function ``(a, out)`` that adds the product of :func:`multiplier` to ``out``.

    Shape:
        a ``(rows, K)`` of the weight's type; out ``(rows, P)``, perhaps of a wider type.
    """
    if _layout(weight_PK, rows) == "plain":
        weight_KP = weight_PK.t()
        return lambda a, out: matmul(a, weight_KP, out, accumulate=True)
    multiply = multiplier(weight_PK, rows)
    return lambda a, out: out.add_(multiply(a))


def _layout(weight_PK: Tensor, rows: int) -> str:
    """Return the name of the layout of a weight for many products with ``rows`` rows."""
    if weight_PK.device.type != "cpu" or is_recording(weight_PK):
        return "plain"
    if rows * weight_PK.numel() < _LEAST_STEP or not is_measured(weight_PK):
        return _usual_layout(weight_PK)
    return measured_layout(weight_PK, rows).route


def measured_layout(weight_PK: Tensor, rows: int) -> Choice:
    """Return the measured layout of a weight; measure a new kind first."""
    usual = _usual_layout(weight_PK)
    (P, K), transposed, dtype = weight_PK.shape, is_transposed(weight_PK), weight_PK.dtype
    some = 1 << round(math.log2(rows))  # rows are streams here, and often a round number

    def trial() -> Trial:
        weight, a = drawn(P, K, transposed, dtype), drawn(some, K, False, dtype)

        def way(name: str) -> routes.Way:
            return lambda: partial(LAYOUTS[name](weight, some), a)

        ways = {name: way(name) for name in sorted(LAYOUTS, key=lambda name: name != usual)}
        error = partial(routes.error_of, a=a, b=weight.t())
        return Trial(ways, error, level(dtype), WINDOW)

    kind = f"{type_name(dtype)} {some} x {K} with a weight {P} x {K}{'^T' if transposed else ''}"
    return routes.choose(kind + switch(), usual, trial)


def _usual_layout(weight: Tensor) -> str:
    """Return the name of the layout that is used without a measurement."""
    if weight.dtype == torch.bfloat16:
        library = "oneDNN" if has_fast_bf16() else "plain"
    elif weight.dtype != torch.float32 or not weight.is_contiguous():
        library = "plain"
    else:
        library = "oneDNN" if route_in_use() == "fastest" else "MKL"
    return library if library == "plain" or _can_pack(library, weight.dtype) else "plain"


@cache
def _can_pack(library: str, dtype: torch.dtype) -> bool:
    """Tell whether this PyTorch has a library's operations on packed weights, and they are exact.

    ``torch.compile`` uses these operations. They are not documented.
    """
    weight, a = drawn(800, 200, False, dtype), drawn(20, 200, False, dtype)
    try:
        product = LAYOUTS[library](weight, 20)(a)
    except (AttributeError, RuntimeError):
        return False
    return routes.error_of(product, a, weight.t()) <= level(dtype)
