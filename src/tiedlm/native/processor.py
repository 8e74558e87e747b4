"""Detect which matrix products this machine makes fast, and whether they are exact.

- **bfloat16** is fast where the hardware multiplies it natively.
- **float32**: on AMD CPUs with AVX-512 PyTorch's default float32 GEMM (MKL) runs at about half the
  speed of oneDNN's. PyTorch has one switch that sends float32 products to oneDNN:
  ``torch.backends.mkldnn.matmul.fp32_precision = "bf16"``. The switch *permits* bfloat16
  arithmetic. oneDNN uses it only on CPUs with AMX; elsewhere the products stay float32. So the
  switch serves only on AMD, with AVX-512 and without AMX, and only if products agree with float64.
"""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path
from typing import Any

import torch

# The largest |C - C_exact| / (|A| |B|) that still counts as float32 arithmetic: 16 units in the
# last place. bfloat16 operands leave about 2**-9.
FP32_LEVEL = 16 * 2.0**-24


def has_fast_bf16(device: torch.device | str = "cpu") -> bool:
    """Tell whether ``device`` multiplies bfloat16 natively: AMX, AVX512-BF16 or tensor cores."""
    if torch.device(device).type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def fp32_switch() -> Any:
    """Return what holds ``fp32_precision`` for oneDNN's products, or None before PyTorch 2.9."""
    return getattr(torch.backends.mkldnn, "matmul", None)


@cache
def why_not_fast_fp32() -> str:
    """Return why float32 products do not go to oneDNN here, or "" where they can."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return "this PyTorch has no oneDNN"
    if not torch.cpu._is_avx512_supported():
        return "the CPU has no AVX-512"
    if torch.cpu._is_amx_tile_supported():
        return "with AMX the switch would round to bfloat16"
    if not _is_amd():
        return "MKL is fast on CPUs that are not AMD's"
    switch = fp32_switch()
    if switch is None:
        return f"PyTorch {torch.__version__} has no switch for it"
    before = switch.fp32_precision
    switch.fp32_precision = "bf16"
    try:
        error = _relative_error()
    finally:
        switch.fp32_precision = before
    return "" if error <= FP32_LEVEL else f"its relative error is {error:.1e}: not float32"


def is_fast_fp32_on() -> bool:
    """Tell whether float32 products go to oneDNN now."""
    switch = fp32_switch()
    return switch is not None and switch.fp32_precision == "bf16" and not why_not_fast_fp32()


def _is_amd() -> bool:
    """Tell whether the CPU is AMD's, as far as the operating system says."""
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


def gemm_info() -> dict[str, object]:
    """Return what was detected, for ``tiedlm info``."""
    reason = why_not_fast_fp32()
    return {
        "bf16": has_fast_bf16(),
        "amx": torch.cpu._is_amx_tile_supported(),
        "fp32_gemm": "default" if reason else "oneDNN",
        "fp32_gemm_reason": reason or "AMD with AVX-512: about twice as fast, checked as float32",
    }
