"""Compute matrix products in the way that is fastest on this machine.

- :func:`matmul` writes a product into a matrix, or adds it there. The matrix may be of a wider
  type than the operands.
- :func:`linear` computes a layer with a bias.
- :func:`multiplier` and :func:`adder` lay a weight out in memory once, for many products.

There are several ways to compute a product, such as MKL, oneDNN or blocks of rows
(``native/ways.py``, ``native/layouts.py``). Their results are equal up to rounding. Which one is
fastest depends on the type, the shape and the strides of the matrices. Products that agree in these
are of one *kind*, and each kind is measured once (:mod:`tiedlm.native.routes`). Small products take
PyTorch's usual way. :func:`tiedlm.arithmetic.gemm_dtype` chooses the type of the operands.

Shape letters: M rows of the left factor, K numbers that are summed, P columns of the right factor.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, partial
from typing import NamedTuple

import torch
from torch import Tensor

from tiedlm.arithmetic import kernels_for, measures_routes, route_in_use
from tiedlm.native import routes
from tiedlm.native.layouts import LAYOUTS
from tiedlm.native.processor import has_fast_bf16
from tiedlm.native.routes import FP32_LEVEL, Choice, Trial
from tiedlm.native.ways import BLOCK, WAYS, compiled_linear, is_transposed, onednn_linear
from tiedlm.tracing import is_recording

_LEAST_PRODUCT = 2**26  # multiplications of a measured product; PyTorch makes fewer in about 1 ms
_LEAST_STEP = 2**21  # the same for one of many products with one weight
# Products of one kind may differ in their number of rows, the tokens of a batch. It is rounded to a
# power of two and measured with _ODD rows less, because a real number of tokens is rarely round.
_ODD = 4
_MOST_OF_KIND = 2**30  # most multiplications of a kind with more than _LEAST_ROWS rows
_LEAST_ROWS, _MOST_ROWS = 256, 512  # of a large kind, before _ODD is subtracted
_MOST_WORDS = 8192  # longest side of a kind
# Only a part of the matrices is timed, with the row strides of the whole matrices.
_MOST_TIMED = 2**29  # most multiplications of the part, unless its longest side would be too short
_LEAST_WORDS = 2 * BLOCK  # least length of the part's longest side, if the kind's is longer
_WINDOW = 35  # products for which a weight is laid out once
_DRAWN = 2**16 + 1  # random numbers that are drawn; a matrix repeats them
BF16_LEVEL = 2.0**-8  # largest relative error of a product with operands in bfloat16


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
    kind = _kind(a, b, out.dtype, accumulate)
    return WAYS[kind.choice().route if kind else "plain"](a, b, out, accumulate)


def linear(x_NK: Tensor, weight_PK: Tensor, bias_P: Tensor) -> Tensor:
    """Return ``x @ weight.t() + bias``, ``(N, P)``, all of one type."""
    weight_KP = weight_PK.t()
    kind = _kind(x_NK, weight_KP, x_NK.dtype)
    if kind and x_NK.dtype == torch.float32:
        route = kind.choice_with_bias().route
        if route != "plain":
            return _LINEAR[route](x_NK, weight_PK, bias_P)
    return torch.addmm(bias_P, x_NK, weight_KP)


_LINEAR = {"oneDNN": onednn_linear, "compiled": compiled_linear}


# Kinds of products, and how a kind is measured


class _Kind(NamedTuple):
    """A kind: the properties of a product that decide which way is fastest.

    The number of rows of a batch is rounded. The other sides are exact, because they are row
    strides in memory, and the speed of the libraries depends on these.
    """

    dtype: torch.dtype
    out_dtype: torch.dtype
    a_transposed: bool
    b_transposed: bool
    accumulate: bool
    compiled: bool
    M: int
    K: int
    P: int

    @property
    def name(self) -> str:
        """The name under which the cache keeps the choice for this kind."""
        a, b = (
            f"({rows} x {columns}){'^T' if transposed else ''}"
            for rows, columns, transposed in (
                (self.M, self.K, self.a_transposed), (self.K, self.P, self.b_transposed)
            )
        )  # fmt: skip
        into = f"{'added to' if self.accumulate else 'into'} {_name(self.out_dtype)}"
        without = "" if self.compiled or self.dtype != torch.float32 else " without kernels"
        return f"{_name(self.dtype)} {a} {b} {into}{_switch()}{without}"

    def choice(self) -> Choice:
        """Return the way of a product of this kind; measure a new kind first."""
        return routes.choose(self.name, "plain", self.trial)

    def choice_with_bias(self) -> Choice:
        """Return the way of :func:`linear` for this kind; measure a new kind first."""
        return routes.choose(f"{self.name} plus a bias", "plain", self.trial_with_bias)

    def trial(self) -> Trial:
        """Return a trial of :func:`matmul`, which times each way on random matrices."""
        M, K, P = self.measured_sides()
        a = _drawn(M, K, self.a_transposed, self.dtype, self.M if self.a_transposed else self.K)
        b = _drawn(K, P, self.b_transposed, self.dtype, self.K if self.b_transposed else self.P)
        out = torch.zeros(M, self.P, dtype=self.out_dtype, device="cpu")[:, :P]

        def way(name: str) -> routes.Way:
            return lambda: lambda: WAYS[name](a, b, out, self.accumulate)

        def error(product: Tensor) -> float:
            found = routes.error_of(product, a, b)
            out.zero_()
            return found

        return Trial({name: way(name) for name in self.ways()}, error, _level(self.dtype))

    def trial_with_bias(self) -> Trial:
        """Return a trial of :func:`linear`, which times each way on random matrices."""
        M, K, P = self.measured_sides()
        x, weight = _drawn(M, K, False, self.dtype), _drawn(P, K, False, self.dtype)
        bias = torch.zeros(P, device="cpu")
        plain: routes.Way = lambda: lambda: torch.addmm(bias, x, weight.t())  # noqa: E731

        def way(name: str) -> routes.Way:
            return lambda: lambda: _LINEAR[name](x, weight, bias)

        others = {name: way(name) for name in self.ways() if name in _LINEAR}
        return Trial(
            {"plain": plain, **others},
            lambda product: routes.error_of(product, x, weight.t()),
            FP32_LEVEL,
        )

    def measured_sides(self) -> tuple[int, int, int]:
        """Return M, K and P of the part that is timed: fewer rows, and a shorter longest side."""
        sides = [self.M, self.K, self.P]
        if not self.a_transposed:
            sides[0] = min(sides[0], _LEAST_ROWS - _ODD)
        elif not self.b_transposed:
            sides[1] = min(sides[1], _LEAST_ROWS - _ODD)
        longest = max(range(3), key=sides.__getitem__)
        side = sides[longest]
        fitting = _MOST_TIMED * side // math.prod(sides) // 64 * 64
        most = max(fitting, _LEAST_WORDS)
        if side > most + 64:
            sides[longest] = most + side % 64  # of the same alignment
        return sides[0], sides[1], sides[2]

    def ways(self) -> list[str]:
        """Return the ways that a product of this kind can take."""
        is_float = self.dtype == self.out_dtype == torch.float32
        is_long = (self.M if self.a_transposed else self.P) > BLOCK
        return [
            "plain",
            *(["blocks"] if is_long else []),
            *(["transposed"] if self.a_transposed else []),
            *(["oneDNN"] if is_float else []),
            *(["compiled"] if self.compiled else []),
        ]


def _kind(a: Tensor, b: Tensor, out_dtype: torch.dtype, accumulate: bool = False) -> _Kind | None:
    """Return the kind of a product; None if PyTorch's usual way is used without measuring."""
    (M, K), P = a.shape, b.shape[1]
    if M * K * P < _LEAST_PRODUCT or not (_is_measured(a) and 1 in a.stride() and 1 in b.stride()):
        return None
    a_transposed, b_transposed = is_transposed(a), is_transposed(b)
    M, K, P = map(_shortened, (M, K, P))
    if not a_transposed:
        M = _rounded(M, K * P)
    elif not b_transposed:
        K = _rounded(K, M * P)
    compiled = a.dtype == torch.float32 and (
        kernels_for(a, b, products=a.dtype, work=M * K * P) is not None
    )
    return _Kind(a.dtype, out_dtype, a_transposed, b_transposed, accumulate, compiled, M, K, P)


def _is_measured(x: Tensor) -> bool:
    """Tell whether large products with this factor are measured."""
    if x.device.type != "cpu" or not measures_routes() or is_recording(x):
        return False
    return x.dtype == torch.float32 or (x.dtype == torch.bfloat16 and has_fast_bf16())


def _shortened(side: int) -> int:
    """Return a side, shortened to about ``_MOST_WORDS`` with the same alignment."""
    return side if side < _MOST_WORDS + 64 else _MOST_WORDS + side % 64


def _rounded(rows: int, others: int) -> int:
    """Return about this number of rows: a power of two less ``_ODD``, and not too large.

    Args:
        rows: the number of rows.
        others: product of the other two sides.
    """
    rounded = 1 << max(0, round(math.log2(rows)))
    fitting = max(_LEAST_ROWS, 1 << int(math.log2(max(1, _MOST_OF_KIND // others))))
    return min(rounded, fitting, _MOST_ROWS) - _ODD


def _switch() -> str:
    """Return the part of a kind's name for PyTorch's oneDNN switch, which changes the usual way."""
    return " by oneDNN" if route_in_use() == "fastest" else ""


def _level(dtype: torch.dtype) -> float:
    """Return the largest relative error allowed for a product with operands of a type."""
    return FP32_LEVEL if dtype == torch.float32 else BF16_LEVEL


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _drawn(
    rows: int, columns: int, transposed: bool, dtype: torch.dtype, apart: int | None = None
) -> Tensor:
    """Return a random matrix, drawn without using PyTorch's global generator.

    Args:
        rows: number of rows.
        columns: number of columns.
        transposed: whether it lies in memory column by column.
        dtype: its type.
        apart: stride, in numbers, of the rows in memory, or of the columns if transposed.
    """
    count, length = (columns, rows) if transposed else (rows, columns)
    apart = apart or length
    generator = torch.Generator().manual_seed(0)
    some = torch.randn(_DRAWN, generator=generator, dtype=torch.float32, device="cpu").to(dtype)
    numbers = some.repeat(-(-count * apart // _DRAWN))[: count * apart]
    drawn = numbers.view(count, apart)[:, :length]
    return drawn.t() if transposed else drawn


# Many products with one weight


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
    if rows * weight_PK.numel() < _LEAST_STEP or not _is_measured(weight_PK):
        return _usual_layout(weight_PK)
    return _measured_layout(weight_PK, rows).route


def _measured_layout(weight_PK: Tensor, rows: int) -> Choice:
    """Return the measured layout of a weight; measure a new kind first."""
    usual = _usual_layout(weight_PK)
    (P, K), transposed, dtype = weight_PK.shape, is_transposed(weight_PK), weight_PK.dtype
    some = 1 << round(math.log2(rows))  # rows are streams here, and often a round number

    def trial() -> Trial:
        weight, a = _drawn(P, K, transposed, dtype), _drawn(some, K, False, dtype)

        def way(name: str) -> routes.Way:
            return lambda: partial(LAYOUTS[name](weight, some), a)

        ways = {name: way(name) for name in sorted(LAYOUTS, key=lambda name: name != usual)}
        error = partial(routes.error_of, a=a, b=weight.t())
        return Trial(ways, error, _level(dtype), _WINDOW)

    kind = f"{_name(dtype)} {some} x {K} with a weight {P} x {K}{'^T' if transposed else ''}"
    return routes.choose(kind + _switch(), usual, trial)


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
    weight, a = _drawn(800, 200, False, dtype), _drawn(20, 200, False, dtype)
    try:
        product = LAYOUTS[library](weight, 20)(a)
    except (AttributeError, RuntimeError):
        return False
    return routes.error_of(product, a, weight.t()) <= _level(dtype)


def measured_products(d_hidden: int, rows: int = 20, vocab: int = 10_000) -> dict[str, Choice]:
    """Return how the products of a training step are computed; measure new kinds first.

    Args:
        d_hidden: width of the embedding and of every layer.
        rows: number of streams, of 35 words each.
        vocab: number of words.

    Returns:
        What the product is for -> the choice.
    """
    h_NH, W_VH = torch.empty(rows * _WINDOW, d_hidden), torch.empty(vocab, d_hidden)
    grad_NV, w_GH = torch.empty(len(h_NH), vocab), torch.empty(4 * d_hidden, d_hidden)
    products = {
        "scores": _kind(h_NH, W_VH.t(), h_NH.dtype),
        "gradient of hidden": _kind(grad_NV, W_VH, h_NH.dtype),
        "gradient of the classifier": _kind(grad_NV.t(), h_NH, h_NH.dtype),
    }
    layer = _kind(h_NH, w_GH.t(), h_NH.dtype)
    return {
        **{name: kind.choice() for name, kind in products.items() if kind},
        **({"input of a layer": layer.choice_with_bias()} if layer else {}),
        "recurrent step": _measured_layout(w_GH, rows),
        "recurrent step, backward": _measured_layout(w_GH.t(), rows),
    }
