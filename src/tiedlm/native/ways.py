"""The ways to compute a matrix product ``a @ b``. Each writes it into ``out``, or adds it there.

They change no state of the process, such as PyTorch's switches. :mod:`tiedlm.matmul` chooses a way.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from tiedlm.native.library import declare, pointer, suitable_kernels

BLOCK = 2048  # rows or columns of a block
_EVEN = 32  # oneDNN gets multiples of this number of tokens
_PART = 2**18  # elements that are added at a time; they fit a cache


def plain(a: Tensor, b: Tensor, out: Tensor, accumulate: bool) -> Tensor:
    """Compute a product in PyTorch's usual way."""
    if out.dtype == a.dtype and out.shape[1] == b.shape[1]:
        return out.addmm_(a, b) if accumulate else torch.mm(a, b, out=out)
    return _store(torch.mm(a, b)[:, : out.shape[1]], out, accumulate)


def _by_blocks(a: Tensor, b: Tensor, out: Tensor, accumulate: bool) -> Tensor:
    """Compute a wide or high product in blocks that fit a cache."""
    for a_block, b_block, out_block in _blocks(a, b, out):
        plain(a_block, b_block, out_block, accumulate)
    return out


def _by_onednn(a: Tensor, b: Tensor, out: Tensor, accumulate: bool) -> Tensor:
    """Compute a product by oneDNN in blocks that fit a cache, and copy each."""
    for a_block, b_block, out_block in _blocks(a, b, out):
        _with_even_tokens(_copied_from_onednn, a_block, b_block, out_block, accumulate)
    return out


def _copied_from_onednn(a: Tensor, b: Tensor, out: Tensor, accumulate: bool) -> Tensor:
    return _store(onednn_linear(a, b.t())[:, : out.shape[1]], out, accumulate)


def _with_even_tokens(
    way: Callable[..., Tensor], a: Tensor, b: Tensor, out: Tensor, accumulate: bool
) -> Tensor:
    """Compute a product by ``way``, except for the last few tokens, which take PyTorch's usual way.

    oneDNN keeps about 1 MB of compiled code for each shape that it meets, and the number of tokens
    changes from call to call. So it only gets multiples of ``_EVEN`` tokens.
    """
    if is_transposed(a):  # the product sums over the tokens
        even = a.shape[1] - a.shape[1] % _EVEN
        if even:
            way(a[:, :even], b[:even], out, accumulate)
        if even < a.shape[1]:
            plain(a[:, even:], b[even:], out, accumulate or even > 0)
        return out
    even = len(a) - len(a) % _EVEN
    if even:
        way(a[:even], b, out[:even], accumulate)
    if even < len(a):
        plain(a[even:], b, out[even:], accumulate)
    return out


def _transposed(a: Tensor, b: Tensor, out: Tensor, accumulate: bool) -> Tensor:
    """Compute a product as ``(b^T a^T)^T``.

    A library may copy a transposed ``a``. Here ``b``, which is smaller, is copied instead.
    """
    product_PM = torch.mm(b.t().contiguous(), a.t())
    return _store(product_PM[: out.shape[1]].t(), out, accumulate)


def _compiled(
    a: Tensor, b: Tensor, out: Tensor, accumulate: bool, bias: Tensor | None = None
) -> Tensor:
    """Compute a float32 product by the kernel of ``product.c``, perhaps plus a bias."""
    kernels = suitable_kernels(a, b, out, products=out.dtype)
    if kernels is None:
        raise RuntimeError("the compiled kernels do not serve these matrices")
    assert out.stride(1) == 1
    _declare(kernels)
    kernels.product(
        *a.shape, out.shape[1], torch.get_num_threads(), a.data_ptr(), *a.stride(), b.data_ptr(),
        *b.stride(), pointer(bias), out.data_ptr(), out.stride(0), accumulate,
    )  # fmt: skip
    return out


def compiled_linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return ``x @ weight.t() + bias`` by the compiled kernel, all of float32."""
    out = x.new_empty(len(x), len(weight))
    return _compiled(x, weight.t(), out, False, bias.contiguous())


@cache
def _declare(kernels: ctypes.CDLL) -> None:
    size, pointer_ = ctypes.c_int64, ctypes.c_void_p
    factor = [pointer_, size, size]
    declare(
        kernels,
        {"product": [
            *[size] * 3, ctypes.c_int, *factor, *factor, *[pointer_] * 2, size, ctypes.c_int,
        ]},
    )  # fmt: skip


WAYS = {
    "plain": plain,
    "compiled": _compiled,
    "blocks": _by_blocks,
    "transposed": _transposed,
    "oneDNN": _by_onednn,
}


def _blocks(a: Tensor, b: Tensor, out: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield the parts of a product: rows where a is transposed, else columns."""
    is_high = is_transposed(a)
    for start in range(0, out.shape[0 if is_high else 1], BLOCK):
        block = slice(start, start + BLOCK)
        yield (a[block], b, out[block]) if is_high else (a, b[:, block], out[:, block])


def onednn_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return ``x @ weight.t() + bias`` by oneDNN, with the operation that ``torch.compile`` uses.

    The weight may be packed for oneDNN.
    """
    weight = _dense(weight)
    product: Tensor = torch.ops.mkldnn._linear_pointwise.default(x, weight, bias, "none", [], "")
    return product


def onednn_layer(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return ``x @ weight.t() + bias`` by oneDNN, which gets multiples of ``_EVEN`` tokens.

    The missing tokens are added as zeros, because copying x takes less time than copying the
    product.
    """
    missing = -len(x) % _EVEN
    padded = functional.pad(x, (0, 0, 0, missing)) if missing else x
    return onednn_linear(padded, weight, bias)[: len(x)]


def _dense(weight: Tensor) -> Tensor:
    """Return a weight without gaps in memory: with gaps oneDNN takes a thousand times as long."""
    if weight.is_mkldnn or weight.is_contiguous() or weight.t().is_contiguous():
        return weight
    return weight.contiguous()


def _store(product: Tensor, out: Tensor, accumulate: bool) -> Tensor:
    """Write or add a product to a matrix."""
    if not accumulate:
        return out.copy_(product)
    if out.is_cuda or out.dtype == product.dtype:
        return out.add_(product)
    # Adding two types copies one of them. A part of the copy fits the cache.
    rows = max(1, _PART // product.shape[1])
    for start in range(0, len(out), rows):
        out[start : start + rows].add_(product[start : start + rows])
    return out


def is_transposed(x: Tensor) -> bool:
    """Tell whether a matrix lies in memory column by column."""
    return x.stride(0) == 1 and x.stride(1) > 1
