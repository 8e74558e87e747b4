r"""Which matrix product: the one home of GEMM precision and of the route to the fastest GEMM.

Two independent choices, neither of them made by importing this module:

- **Precision** (:func:`precision`): "fp32" multiplies in the tensors' own type. "bf16" rounds the
  operands and the result to bfloat16; products are summed in float32 inside the GEMM, and
  everything around it (softmax, losses, master weights) stays float32. "auto" is "bf16" where the
  hardware multiplies bfloat16 natively, else "fp32". ``torch.autocast`` leads to the same place.
- **Route** (:func:`fast_fp32`): on AMD CPUs with AVX-512 PyTorch's default float32 GEMM (MKL) runs
  at about half the speed of oneDNN's. PyTorch has one switch that sends float32 products to oneDNN:
  ``torch.backends.mkldnn.matmul.fp32_precision = "bf16"``. It *permits* bfloat16 arithmetic, which
  oneDNN uses only on CPUs with AMX; elsewhere the products stay float32. So it is turned on only
  for AMD, AVX-512 and no AMX, and only after products were compared with float64.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from tiedlm.tracing import is_recording

Precision = Literal["fp32", "bf16"]

_precision: Precision = "fp32"
_PART = 2**18  # numbers
_COLUMNS = 2048

# The largest |C - C_exact| / (|A| |B|) that still counts as float32 arithmetic: 16 units in the
# last place. bfloat16 operands leave about 2**-9.
_FP32_LEVEL = 16 * 2.0**-24


def has_fast_bf16(device: torch.device | str = "cpu") -> bool:
    """Tell whether ``device`` multiplies bfloat16 natively: AMX, AVX512-BF16 or tensor cores."""
    if torch.device(device).type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def resolve_precision(
    name: Literal["auto", "fp32", "bf16"], device: torch.device | str = "cpu"
) -> Precision:
    """Return what "auto" means on ``device``.

    Raises:
        ValueError: for a name that is none of the three.
    """
    if name not in ("auto", "fp32", "bf16"):
        raise ValueError(f"precision: expected 'auto', 'fp32' or 'bf16', got {name!r}")
    if name == "auto":
        return "bf16" if has_fast_bf16(device) else "fp32"
    return name


@contextmanager
def precision(
    name: Literal["auto", "fp32", "bf16"], device: torch.device | str = "cpu"
) -> Iterator[Precision]:
    """Hold the precision of this package's GEMMs for a block of code, and yield it resolved.

    It belongs to the whole process, as PyTorch's own precision settings do: a backward pass may run
    in other threads.
    """
    global _precision
    before, cuda = _precision, torch.backends.cuda.matmul
    reduced = cuda.allow_bf16_reduced_precision_reduction
    _precision = resolve_precision(name, device)
    cuda.allow_bf16_reduced_precision_reduction = False  # sums inside a product are float32
    try:
        yield _precision
    finally:
        _precision = before
        cuda.allow_bf16_reduced_precision_reduction = reduced


def gemm_dtype(tensor: Tensor) -> torch.dtype:
    """Return the type to which a GEMM's operands like ``tensor`` are rounded.

    ``torch.autocast`` decides where it is on, else :func:`precision`, for float32 only. Float64
    stays as it is.
    """
    if tensor.dtype == torch.float64:
        return tensor.dtype
    if is_autocast(tensor):
        return torch.get_autocast_dtype(tensor.device.type)
    if tensor.dtype == torch.float32 and _precision == "bf16":
        return torch.bfloat16
    return tensor.dtype


def is_autocast(tensor: Tensor) -> bool:
    """Tell whether ``torch.autocast`` is on where ``tensor`` is; it knows no meta device."""
    return not tensor.is_meta and torch.is_autocast_enabled(tensor.device.type)


def without_autocast(tensor: Tensor) -> AbstractContextManager[object]:
    """Return a context in which ``torch.autocast`` is off where ``tensor`` is."""
    return nullcontext() if tensor.is_meta else torch.autocast(tensor.device.type, enabled=False)


def operand(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a matrix in the type of a GEMM, in bfloat16 perhaps wider by columns of zeros.

    Up to a multiple of 8: rows that begin anywhere but on 16 bytes halve the speed of AMX, and keep
    a GPU from its fastest kernels.
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
    """Write ``a @ b``, or add it, to ``out``, which may be of a wider type than the operands.

    Two kinds of products on AMX take oneDNN up to twice as long as they need. A wide one is made in
    blocks of columns, with the same numbers. One with a transposed ``a``, which oneDNN would lay
    out anew, is made as ``(b^T a^T)^T``: b is the smaller one.

    Shape:
        a ``(M, K)``, b ``(K, P)``, both of one type; out ``(M, P)``, or fewer columns, where those
        of b end in what :func:`operand` adds.
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
    # An addition of two types makes a copy of one of them: in parts, so that a cache holds it.
    rows = max(1, _PART // product.shape[1])
    for start in range(0, len(out), rows):
        out[start : start + rows].add_(product[start : start + rows])
    return out


def _is_for_amx(a: Tensor) -> bool:
    return a.dtype == torch.bfloat16 and not a.is_cuda and torch.cpu._is_amx_tile_supported()


def multiplier(weight_PK: Tensor, rows: int) -> Callable[[Tensor], Tensor]:
    """Return a function ``a -> a @ weight.t()``, for many products with one weight.

    The weight is laid out once as the library that makes the products wants it: narrow products,
    such as a recurrence's, are bound by reading it.

    Args:
        weight_PK: the factor that stays; it must not change while the function is used.
        rows: of a.

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
    """Return a function that adds the product of :func:`multiplier` to ``out``.

    Shape:
        a ``(rows, K)`` of the weight's type; out ``(rows, P)``, perhaps of a wider type.
    """
    if _packing(weight_PK) is None:
        weight_KP = weight_PK.t()
        return lambda a, out: matmul(a, weight_KP, out, accumulate=True)
    multiply = multiplier(weight_PK, rows)
    return lambda a, out: out.add_(multiply(a))


def _packing(weight: Tensor) -> Literal["oneDNN", "MKL"] | None:
    """Return the library for which a weight can be laid out, if its products are that library's.

    None where it does not pay: in float32 laying out a transposed weight takes as long as it saves
    in a window.
    """
    if weight.device.type != "cpu" or is_recording(weight):
        return None
    if weight.dtype == torch.bfloat16:
        return "oneDNN" if has_fast_bf16() and _can_pack("oneDNN", weight.dtype) else None
    if weight.dtype != torch.float32 or not weight.is_contiguous():
        return None
    switch = _switch()
    is_on = switch is not None and switch.fp32_precision == "bf16" and not why_not_fast_fp32()
    library: Literal["oneDNN", "MKL"] = "oneDNN" if is_on else "MKL"
    return library if _can_pack(library, weight.dtype) else None


@cache
def _can_pack(library: str, dtype: torch.dtype) -> bool:
    """Tell whether this PyTorch has the operations that ``torch.compile`` packs weights with."""
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
    return bool(error <= (_FP32_LEVEL if dtype == torch.float32 else 2.0**-8))


def enable_fast_fp32() -> bool:
    """Send float32 products to oneDNN from here on, where that is faster and exact.

    Returns whether it did. The switch belongs to the whole process, so this is for programs, not
    for libraries; and while it is on ``torch.get_float32_matmul_precision``, and with it
    ``torch.compile``, refuse to work.
    """
    if why_not_fast_fp32():
        return False
    _switch().fp32_precision = "bf16"
    return True


@contextmanager
def fast_fp32() -> Iterator[bool]:
    """Do what :func:`enable_fast_fp32` does for a block of code, and yield whether it did."""
    if why_not_fast_fp32():
        yield False
        return
    before = _switch().fp32_precision
    try:
        yield enable_fast_fp32()
    finally:
        _switch().fp32_precision = before


@cache
def why_not_fast_fp32() -> str:
    """Return why :func:`enable_fast_fp32` does nothing here, or "" where it works."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return "this PyTorch has no oneDNN"
    if not torch.cpu._is_avx512_supported():
        return "the CPU has no AVX-512"
    if torch.cpu._is_amx_tile_supported():
        return "with AMX the switch would round to bfloat16"
    if not _is_amd():
        return "MKL is fast on CPUs that are not AMD's"
    switch = _switch()
    if switch is None:
        return f"PyTorch {torch.__version__} has no switch for it"
    before = switch.fp32_precision
    switch.fp32_precision = "bf16"
    try:
        error = _relative_error()
    finally:
        switch.fp32_precision = before
    return "" if error <= _FP32_LEVEL else f"its relative error is {error:.1e}: not float32"


def _switch() -> Any:
    """Return what holds ``fp32_precision`` for oneDNN's products; PyTorch before 2.9 has none."""
    return getattr(torch.backends.mkldnn, "matmul", None)


def _is_amd() -> bool:
    """Tell whether an AMD CPU runs this, as far as the operating system says."""
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.exists() else platform.processor()
    return "AuthenticAMD" in text


def _relative_error() -> float:
    """Return the largest error of float32 products against float64, relative to ``|A| |B|``."""
    generator = torch.Generator().manual_seed(0)
    worst = 0.0
    for m, k, n in ((20, 200, 800), (256, 512, 512)):
        a = torch.randn(m, k, generator=generator)
        b = torch.randn(k, n, generator=generator)
        exact = a.double() @ b.double()
        scale = a.double().abs() @ b.double().abs()
        products = (
            a @ b,
            a @ b.t().contiguous().t(),
            a.t().contiguous().t() @ b,
            torch.addmm(torch.zeros(n), a, b),
        )
        worst = max(worst, *(((c - exact).abs() / scale).max().item() for c in products))
    return worst


def describe() -> dict[str, object]:
    """Return what this module found here, for ``tiedlm info``."""
    reason = why_not_fast_fp32()
    return {
        "bf16": has_fast_bf16(),
        "amx": torch.cpu._is_amx_tile_supported(),
        "fp32_gemm": "default" if reason else "oneDNN",
        "fp32_gemm_reason": reason or "AMD with AVX-512: about twice as fast, checked as float32",
    }
