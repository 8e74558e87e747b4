"""Detect whether this machine has fast bfloat16, and whether oneDNN is faster in float32.

- **bfloat16** is fast where the hardware multiplies it natively.
- **float32**: PyTorch's usual library is MKL. A switch of PyTorch sends float32 products to oneDNN
  instead: ``torch.backends.mkldnn.matmul.fp32_precision = "bf16"``. The switch *permits* bfloat16
  arithmetic, which oneDNN uses only on CPUs with AMX. So the switch is used only if oneDNN was
  measured to be faster here, and its products agree with float64.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tiedlm.native import routes
from tiedlm.native.routes import FP32_LEVEL, Trial


def has_fast_bf16(device: torch.device | str = "cpu") -> bool:
    """Tell whether ``device`` multiplies bfloat16 natively: AMX, AVX512-BF16 or tensor cores."""
    if torch.device(device).type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def fp32_switch() -> Any:
    """Return the owner of ``fp32_precision`` for oneDNN's products, or None before PyTorch 2.9."""
    return getattr(torch.backends.mkldnn, "matmul", None)


def why_not_fast_fp32() -> str:
    """Return why float32 products are not sent to oneDNN here; "" if they are."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return "this PyTorch has no oneDNN"
    if fp32_switch() is None:
        return f"PyTorch {torch.__version__} has no switch for it"
    choice = routes.choose("float32 products of PyTorch", "default", _trial)
    if choice.route == "oneDNN":
        return ""
    if routes.why_not() or not choice.milliseconds:
        return f"not measured: {routes.why_not()}"
    error = choice.errors.get("oneDNN", 1.0)
    if error > FP32_LEVEL:
        return f"oneDNN's relative error is {error:.1e}: not float32"
    return f"oneDNN takes {_share(choice):.2f} of the usual time"


def _share(choice: routes.Choice) -> float:
    return choice.milliseconds["oneDNN"] / choice.milliseconds["default"]


def _trial() -> Trial:
    """Return a trial that times the products of a training step with the switch off and on."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float32, device="cpu")

    h, w, grad, step, w_step = (
        draw(*shape) for shape in ((512, 650), (10_000, 650), (512, 10_000), (20, 650), (2600, 650))
    )
    factors = ((h, w.t()), (grad, w), (grad.t(), h), *[(step, w_step.t())] * 16)

    def with_switch(value: str) -> Callable[[], list[Tensor]]:
        def run() -> list[Tensor]:
            switch = fp32_switch()
            before, switch.fp32_precision = switch.fp32_precision, value
            try:
                return [torch.mm(a, b) for a, b in factors]
            finally:
                switch.fp32_precision = before

        return run

    def error(products: list[Tensor]) -> float:
        return max(routes.error_of(p, a, b) for p, (a, b) in zip(products, factors, strict=True))

    ways: dict[str, routes.Way] = {
        "default": lambda: with_switch("none"),
        "oneDNN": lambda: with_switch("bf16"),
    }
    return Trial(ways, error)


def gemm_info() -> dict[str, object]:
    """Return the results of the detection, for ``tiedlm info``."""
    reason = why_not_fast_fp32()
    return {
        "bf16": has_fast_bf16(),
        "amx": torch.cpu._is_amx_tile_supported(),
        "fp32_gemm": "default" if reason else "oneDNN",
        "fp32_gemm_reason": reason or "measured: faster, and exact to float32",
    }
