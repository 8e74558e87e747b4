"""Kinds of products: what decides which way is fastest, and how a kind is measured.

Products that agree in type, shape and strides are of one kind. Each kind is measured once
(:mod:`tiedlm.native.routes`). Small products take PyTorch's usual way.

Shape letters: M rows of the left factor, K numbers that are summed, P columns of the right factor.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from tiedlm.arithmetic import kernels_for, measures_routes, route_in_use
from tiedlm.native import routes
from tiedlm.native.processor import has_fast_bf16
from tiedlm.native.routes import FP32_LEVEL, Choice, Trial
from tiedlm.native.ways import BLOCK, WAYS, compiled_linear, is_transposed, onednn_layer
from tiedlm.tracing import is_recording

_LEAST_PRODUCT = 2**26  # multiplications of a measured product; PyTorch makes fewer in about 1 ms
# Products of one kind may differ in their number of rows, the tokens of a batch. It is rounded to a
# power of two and measured with _ODD rows less, because a real number of tokens is rarely round.
_ODD = 4
_MOST_OF_KIND = 2**30  # most multiplications of a kind with more than _LEAST_ROWS rows
_LEAST_ROWS, _MOST_ROWS = 256, 512  # of a large kind, before _ODD is subtracted
_MOST_WORDS = 8192  # longest side of a kind
# Only a part of the matrices is timed, with the row strides of the whole matrices.
_MOST_TIMED = 2**29  # most multiplications of the part, unless its longest side would be too short
_LEAST_WORDS = 2 * BLOCK  # least length of the part's longest side, if the kind's is longer
_DRAWN = 2**16 + 1  # random numbers that are drawn; a matrix repeats them
_BF16_LEVEL = 2.0**-8  # largest relative error of a product with operands in bfloat16

LINEAR = {"oneDNN": onednn_layer, "compiled": compiled_linear}


class Kind(NamedTuple):
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
        into = f"{'added to' if self.accumulate else 'into'} {type_name(self.out_dtype)}"
        without = "" if self.compiled or self.dtype != torch.float32 else " without kernels"
        return f"{type_name(self.dtype)} {a} {b} {into}{switch()}{without}"

    def choice(self) -> Choice:
        """Return the way of a product of this kind; measure a new kind first."""
        return routes.choose(self.name, "plain", self.trial)

    def choice_with_bias(self) -> Choice:
        """Return the way of :func:`linear` for this kind; measure a new kind first."""
        return routes.choose(f"{self.name} plus a bias", "plain", self.trial_with_bias)

    def trial(self) -> Trial:
        """Return a trial of :func:`matmul`, which times each way on random matrices."""
        M, K, P = self.measured_sides()
        a = drawn(M, K, self.a_transposed, self.dtype, self.M if self.a_transposed else self.K)
        b = drawn(K, P, self.b_transposed, self.dtype, self.K if self.b_transposed else self.P)
        out = torch.zeros(M, self.P, dtype=self.out_dtype, device="cpu")[:, :P]

        def way(name: str) -> routes.Way:
            return lambda: lambda: WAYS[name](a, b, out, self.accumulate)

        def error(product: Tensor) -> float:
            found = routes.error_of(product, a, b)
            out.zero_()
            return found

        return Trial({name: way(name) for name in self.ways()}, error, level(self.dtype))

    def trial_with_bias(self) -> Trial:
        """Return a trial of :func:`linear`, which times each way on random matrices."""
        M, K, P = self.measured_sides()
        x, weight = drawn(M, K, False, self.dtype), drawn(P, K, False, self.dtype)
        bias = torch.zeros(P, dtype=self.dtype, device="cpu")
        plain: routes.Way = lambda: lambda: torch.addmm(bias, x, weight.t())  # noqa: E731

        def way(name: str) -> routes.Way:
            return lambda: lambda: LINEAR[name](x, weight, bias)

        others = {name: way(name) for name in self.ways() if name in LINEAR}
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


def kind_of(a: Tensor, b: Tensor, out_dtype: torch.dtype, accumulate: bool = False) -> Kind | None:
    """Return the kind of a product; None if PyTorch's usual way is used without measuring."""
    (M, K), P = a.shape, b.shape[1]
    if M * K * P < _LEAST_PRODUCT or not (is_measured(a) and 1 in a.stride() and 1 in b.stride()):
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
    return Kind(a.dtype, out_dtype, a_transposed, b_transposed, accumulate, compiled, M, K, P)


def is_measured(x: Tensor) -> bool:
    """Tell whether large products with this factor are measured."""
    if x.device.type != "cpu" or not measures_routes() or is_recording(x):
        return False
    return x.dtype == torch.float32 or (x.dtype == torch.bfloat16 and has_fast_bf16())


def _shortened(side: int) -> int:
    """Return a side, shortened to about ``_MOST_WORDS`` with the same alignment."""
    return side if side < _MOST_WORDS + 64 else _MOST_WORDS + side % 64


def _rounded(rows: int, others: int) -> int:
    """Return about this number of rows: a power of two less ``_ODD``, from ``_ODD`` rows on.

    Args:
        rows: the number of rows.
        others: product of the other two sides.
    """
    rounded = max(2 * _ODD, 1 << round(math.log2(rows)))
    fitting = max(_LEAST_ROWS, 1 << int(math.log2(max(1, _MOST_OF_KIND // others))))
    return min(rounded, fitting, _MOST_ROWS) - _ODD


def switch() -> str:
    """Return the part of a kind's name for PyTorch's oneDNN switch, which changes the usual way."""
    return " by oneDNN" if route_in_use() == "fastest" else ""


def level(dtype: torch.dtype) -> float:
    """Return the largest relative error allowed for a product with operands of a type."""
    return FP32_LEVEL if dtype == torch.float32 else _BF16_LEVEL


def type_name(dtype: torch.dtype) -> str:
    """Return a type as the names of kinds have it."""
    return str(dtype).removeprefix("torch.")


def drawn(
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
