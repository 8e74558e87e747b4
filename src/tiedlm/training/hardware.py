"""Choose the device, the threads and the arithmetic of a run before it begins."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

from tiedlm import cores, matmul, native
from tiedlm.arithmetic import Arithmetic, arithmetic
from tiedlm.cores import available_cores
from tiedlm.environment_variables import OMP_NUM_THREADS, read
from tiedlm.errors import UserError
from tiedlm.native import processor, routes, triton
from tiedlm.training.run import environment
from tiedlm.training.settings import Settings

# The matrix products are too small for more cores: more threads would only wait for each other.
MOST_THREADS = 8
WIDTHS = (200, 650, 1500)  # of the paper's models


def choose_device(name: str) -> torch.device:
    """Return the device called ``name``; ``auto`` is a GPU if there is one.

    Raises:
        UserError: for a device that this machine does not have.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        if device.type not in ("cpu", "cuda"):
            raise RuntimeError(f"nothing trains on {device}")
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(
            f"--device {name}: not available here; use auto or cpu"
            + (" or cuda" if torch.cuda.is_available() else "")
        ) from error
    return device


def default_threads() -> int:
    """Return the number of threads of a run without ``--threads``.

    It is the number of cores, at most 8. ``OMP_NUM_THREADS`` can lower it. The first number of a
    list, such as ``2,1``, counts.
    """
    return min(available_cores(), MOST_THREADS, _wished_threads() or MOST_THREADS)


def _wished_threads() -> int:
    """Return the number of threads in ``OMP_NUM_THREADS``, or 0 if it has none."""
    wish = re.match(r"\s*\+?(\d+)\s*(?:,|$)", read(OMP_NUM_THREADS))
    return int(wish[1]) if wish else 0


def _threads_info(threads: int) -> str:
    """Return a number of threads and what limits it."""
    limits = cores.cores_and_limits()
    if 0 < _wished_threads() < min(available_cores(), MOST_THREADS):
        wish = f"{OMP_NUM_THREADS}={read(OMP_NUM_THREADS).strip()}"
        return f"{threads} ({wish}; {limits}; --threads overrides)"
    return f"{threads} ({limits}; at most {MOST_THREADS}; {OMP_NUM_THREADS} and --threads override)"


def default_arithmetic() -> AbstractContextManager[Arithmetic]:
    """Return a context with the default threads.

    PyTorch's own number of threads ignores a container's CPU quota.
    """
    return arithmetic(threads=default_threads())


def fast_arithmetic() -> AbstractContextManager[Arithmetic]:
    """Return a context with the fastest exact float32 arithmetic and the default threads."""
    return arithmetic(route="fastest", kernels=True, reuse=True, threads=default_threads())


def threads_of(settings: Settings) -> AbstractContextManager[Arithmetic]:
    """Return a context with the threads of a run."""
    return arithmetic(threads=settings.threads or default_threads())


def threads_of_each(at_once: int) -> int:
    """Return the number of threads for each of several simultaneous runs."""
    return max(1, min(default_threads(), available_cores() // at_once))


def device_of(settings: Settings) -> torch.device:
    """Return the device of a run, after checking that it can do the run's arithmetic.

    Raises:
        UserError: for bfloat16 on a device that does not multiply it natively.
    """
    device = choose_device(settings.device)
    if settings.precision == "bf16" and not processor.has_fast_bf16(device):
        raise UserError(
            f"--precision bf16: {device} has neither AMX, AVX512-BF16 nor tensor cores for it, "
            "and would be slower than fp32; use --precision auto"
        )
    return device


@contextmanager
def arithmetic_of(settings: Settings, device: torch.device) -> Iterator[None]:
    """Use the arithmetic of a run, and keep its freed memory, inside a ``with`` block.

    The threads stay as they are. ``auto`` is float32 by the fastest exact route. bfloat16 is used
    only on request; docs/experiments.md has its measured cost.
    """
    name = "fp32" if settings.precision == "auto" else settings.precision
    with (
        torch.cuda.device(device) if device.type == "cuda" else nullcontext(),
        arithmetic(precision=name, route="fastest", kernels=True, reuse=True),
    ):
        yield


def machine_info() -> dict[str, Any]:
    """Return the facts that ``tiedlm info`` shows."""
    with default_arithmetic() as used:
        known, gemm = environment(), processor.gemm_info()
    del known["compiled"]  # true or false only during a run
    return {
        **known,
        "device": str(choose_device("auto")),
        "threads": _threads_info(used.threads),
        "fp32 products": f"{gemm['fp32_gemm']} ({gemm['fp32_gemm_reason']})",
        "tiedlm's products": routes.info(),
        "bf16 products": "native" if gemm["bf16"] else "not native: --precision bf16 is refused",
        "pointwise work": native.kernels_info(),
        **({"GPU's pointwise work": triton.triton_info()} if torch.cuda.is_available() else {}),
        "precision auto": "fp32, by the fastest route that is exact"
        + ("; bf16 is faster, and asked for with --precision bf16" if gemm["bf16"] else ""),
    }


def measured_products() -> list[dict[str, Any]]:
    """Return how the products of training steps are computed here, and the time of each way.

    A plain call of the library does not touch PyTorch's switch for oneDNN. The commands turn it on
    where it is faster, and then have rows of their own.
    """
    rows: list[dict[str, Any]] = []
    for where, context in (("library", default_arithmetic()), ("commands", fast_arithmetic())):
        with context as used:
            if where == "commands" and used.route != "fastest":
                continue
            for width in WIDTHS:
                for product, choice in matmul.measured_products(width).items():
                    rows.append({"in": where, "d": width, "product": product, **choice._asdict()})
    return rows
