"""Choose how this process computes: precision, matrix products, kernels, memory and threads.

| choice | values | without a choice |
|---|---|---|
| ``precision`` | "fp32", "bf16", "auto": type of a product's operands | "fp32" |
| ``route`` | "auto", "fastest", "default": how float32 products are computed on a CPU | "auto" |
| ``kernels`` | True, False, "auto": use the compiled kernels on a CPU | "auto" |
| ``reuse`` | have the C library keep freed memory | False |
| ``threads`` | threads of PyTorch and of the compiled kernels | PyTorch's own number |

A program chooses with the context manager :func:`arithmetic`. Importing this module changes
nothing. A choice applies to the whole process, like PyTorch's own switches, because a backward pass
may run in other threads.

Kernels "auto" uses the compiled kernels only in calls that are large enough to repay compiling
them, which happens once on a machine. Only the size of a call decides, so the results of a call do
not depend on earlier calls.

Precision "bf16" rounds the operands and the result of a product to bfloat16. Sums inside a product,
softmax, losses and master weights stay float32. "auto" is "bf16" where the hardware multiplies
bfloat16 natively, else "fp32". ``torch.autocast`` has the same effect. Where it is on, it decides.

Route "auto" measures how to compute tiedlm's own products fastest, and changes nothing else in the
process. "fastest" also sends all other float32 products of the process to oneDNN, where that is
faster and still float32 (see :mod:`tiedlm.native.processor`). While "fastest" is on,
``torch.get_float32_matmul_precision`` and ``torch.compile`` raise an error.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from tiedlm import native
from tiedlm.native import memory, processor

Precision = Literal["fp32", "bf16"]
Route = Literal["auto", "fastest", "default"]
Kernels = bool | Literal["auto"]

# Kernels "auto" serve calls that pass over at least this many tensor elements. A smaller call takes
# PyTorch a few milliseconds at most.
LEAST_WORK = 2**18


class Arithmetic(NamedTuple):
    """The arithmetic in use.

    Args:
        precision: "fp32" or "bf16".
        route: "auto", "fastest" or "default".
        kernels: whether the compiled kernels are used; "auto" where they pay.
        reuse: whether the C library keeps freed memory.
        threads: the number of threads.
    """

    precision: Precision
    route: Route
    kernels: Kernels
    reuse: bool
    threads: int


class _Switches:
    """The choices that PyTorch has no switch for."""

    precision: Precision = "fp32"
    route: Route = "auto"
    kernels: Kernels = "auto"
    reuse = False


_switches = _Switches()


@contextmanager
def arithmetic(
    *,
    precision: Literal["auto", "fp32", "bf16"] | None = None,
    device: torch.device | str = "cpu",
    route: Route | None = None,
    kernels: Kernels | None = None,
    reuse: bool | None = None,
    threads: int | None = None,
) -> Iterator[Arithmetic]:
    """Use an arithmetic inside a ``with`` block, and yield what is in use there.

    An argument that is None changes nothing. Blocks may be nested. When a block ends, also by an
    exception, the choices before it are restored. A choice that this machine does not support stays
    off without an error. The yielded :class:`Arithmetic` says what is on.

    Args:
        precision: type of the operands of matrix products.
        device: where "auto" looks for native bfloat16.
        route: "fastest" makes float32 products by the fastest library that is exact.
        kernels: True uses the compiled kernels always, "auto" where they pay, and False never.
            They are compiled at the first use.
        reuse: keep freed memory.
        threads: the number of threads.

    Raises:
        ValueError: for an unknown precision, route or choice of kernels.
    """
    if precision is not None:
        precision = resolve_precision(precision, device)
    if route not in (None, "auto", "fastest", "default"):
        raise ValueError(f"route: expected 'auto', 'fastest' or 'default', got {route!r}")
    if kernels not in (None, True, False, "auto"):
        raise ValueError(f"kernels: expected True, False or 'auto', got {kernels!r}")
    with ExitStack() as undo:
        if threads is not None:
            undo.callback(torch.set_num_threads, torch.get_num_threads())
            torch.set_num_threads(threads)
        if precision is not None:
            _choose_precision(precision, undo)
        if route is not None:
            _choose_route(route, undo)
        if kernels is not None:
            undo.callback(setattr, _switches, "kernels", _switches.kernels)
            _switches.kernels = not native.why_not() if kernels is True else kernels
        if reuse is not None:
            undo.callback(_reuse, _switches.reuse)
            _reuse(reuse)
        yield in_use()


def in_use() -> Arithmetic:
    """Return the arithmetic in use."""
    return Arithmetic(
        _switches.precision,
        _switches.route,
        _switches.kernels,
        _switches.reuse,
        torch.get_num_threads(),
    )


def resolve_precision(
    name: Literal["auto", "fp32", "bf16"], device: torch.device | str = "cpu"
) -> Precision:
    """Return the precision that a name stands for on ``device``; "auto" depends on the device.

    Raises:
        ValueError: for an unknown name.
    """
    if name not in ("auto", "fp32", "bf16"):
        raise ValueError(f"precision: expected 'auto', 'fp32' or 'bf16', got {name!r}")
    if name == "auto":
        return "bf16" if processor.has_fast_bf16(device) else "fp32"
    return name


def _choose_precision(precision: Precision, undo: ExitStack) -> None:
    """Set the precision, and keep sums inside a GPU's products in float32."""
    cuda, reduced = torch.backends.cuda.matmul, "allow_bf16_reduced_precision_reduction"
    undo.callback(setattr, cuda, reduced, getattr(cuda, reduced))
    undo.callback(setattr, _switches, "precision", _switches.precision)
    setattr(cuda, reduced, False)  # sums inside a product are float32
    _switches.precision = precision


def _choose_route(route: Route, undo: ExitStack) -> None:
    """Set the route, and PyTorch's switch for oneDNN with it."""
    if route == "fastest" and processor.why_not_fast_fp32():
        route = "auto"
    undo.callback(setattr, _switches, "route", _switches.route)
    if "fastest" in (route, _switches.route):
        switch = processor.fp32_switch()
        undo.callback(setattr, switch, "fp32_precision", switch.fp32_precision)
        # "none" lets PyTorch's general setting decide.
        switch.fp32_precision = "bf16" if route == "fastest" else "none"
    _switches.route = route


def _reuse(wanted: bool) -> None:
    """Turn the reuse of freed memory on or off."""
    if wanted and not _switches.reuse:
        _switches.reuse = memory.keep_freed_memory()
    elif _switches.reuse and not wanted:
        _switches.reuse = False
        memory.return_freed_memory()


def route_in_use() -> Route:
    """Return how float32 products are computed."""
    return _switches.route


def measures_routes() -> bool:
    """Tell whether products are computed in the way that was measured to be fastest."""
    return _switches.route != "default" and not native.is_off()


def is_compiled() -> bool:
    """Tell whether the compiled kernels are used for every call."""
    return _switches.kernels is True


def is_reusing() -> bool:
    """Tell whether the C library keeps freed memory; tiedlm then keeps no buffers of its own."""
    return _switches.reuse


def kernels_for(*tensors: Tensor | None, products: torch.dtype, work: int) -> ctypes.CDLL | None:
    """Return the compiled kernels if they are on, pay and suit these tensors, else None.

    Args:
        tensors: what the kernels read and write, or samples of it: float32 on a CPU.
        products: type of the operands and results of matrix products: float32 or bfloat16.
        work: how many tensor elements the whole call passes over.
    """
    if not _switches.kernels or (_switches.kernels == "auto" and work < LEAST_WORK):
        return None
    return native.suitable_kernels(*tensors, products=products)


def gemm_dtype(tensor: Tensor) -> torch.dtype:
    """Return the type to which a matrix product rounds operands like ``tensor``.

    ``torch.autocast`` decides where it is on. Otherwise the precision in use decides, for float32
    only. Float64 stays as it is.
    """
    if tensor.dtype == torch.float64:
        return tensor.dtype
    if is_autocast(tensor):
        return torch.get_autocast_dtype(tensor.device.type)
    if tensor.dtype == torch.float32 and _switches.precision == "bf16":
        return torch.bfloat16
    return tensor.dtype


def is_autocast(tensor: Tensor) -> bool:
    """Tell whether ``torch.autocast`` is on for the device of ``tensor``; never for meta."""
    return not tensor.is_meta and torch.is_autocast_enabled(tensor.device.type)


def from_autocast(dtype: torch.dtype, *tensors: Tensor) -> tuple[Tensor, ...]:
    """Return the inputs of a network in evaluation, in the type of its weights if autocast is on.

    Evaluation multiplies in the type of the weights, also when training uses a lower precision.
    Under autocast the inputs may already be rounded, so this converts them back. The caller turns
    autocast off for its own products (:func:`without_autocast`).

    Args:
        dtype: type of the weights.
        tensors: the inputs.
    """
    on = is_autocast(tensors[0])
    return tuple(tensor.to(dtype) for tensor in tensors) if on else tensors


def without_autocast(tensor: Tensor) -> AbstractContextManager[object]:
    """Return a context in which ``torch.autocast`` is off for the device of ``tensor``."""
    return nullcontext() if tensor.is_meta else torch.autocast(tensor.device.type, enabled=False)
