"""Detect whether Triton's kernels run on a GPU here.

``TIEDLM_TRITON=0`` turns them off. For tests Triton's interpreter runs them on a CPU if
``TIEDLM_TRITON`` and ``TRITON_INTERPRET`` are 1. The kernels themselves are in ``loss/backends/``
and ``networks/backends/``.
"""

from __future__ import annotations

import importlib.util
from functools import cache

import torch
from torch import Tensor

from tiedlm.environment_variables import (
    GPU_SHARED_BY,
    TRITON,
    TRITON_INTERPRET,
    read,
    set_default,
)
from tiedlm.errors import UserError

_TYPES = (torch.float32, torch.bfloat16, torch.float16)


def is_for(*tensors: Tensor, products: torch.dtype) -> bool:
    """Tell whether Triton's kernels are on and can work on tensors like these.

    Args:
        tensors: what the kernels read and write, or samples of it.
        products: type of the operands of matrix products.
    """
    if products not in _TYPES or torch.compiler.is_compiling():
        return False
    if any(t.dtype != torch.float32 for t in tensors):
        return False
    if all(t.is_cuda for t in tensors):
        device = tensors[0].device
        return not why_not(device) and (
            products != torch.bfloat16 or torch.cuda.get_device_capability(device) >= (8, 0)
        )
    interprets = read(TRITON) == read(TRITON_INTERPRET) == "1"
    return interprets and _is_installed()


def why_not(device: torch.device) -> str:
    """Return why Triton's kernels do not run on a GPU, or "" where they do."""
    if read(TRITON) == "0":
        return f"{TRITON}=0"
    return _why_not(device.index if device.index is not None else torch.cuda.current_device())


@cache
def _why_not(index: int) -> str:
    """Return why Triton's kernels do not run on the GPU with this index, or "" if they do."""
    if torch.version.hip is not None:
        return "tried on NVIDIA's GPUs only"
    if not _is_installed():
        return "Triton is not installed"
    if torch.cuda.get_device_capability(index) < (7, 0):
        return "the GPU is too old for Triton"
    try:
        from tiedlm.native import triton_probe

        with torch.cuda.device(index):
            triton_probe.probe[(1,)](torch.empty(1, device="cuda"))
    except Exception as error:  # such as a missing compiler, header or driver
        return f"Triton fails here: {' '.join(str(error).split()) or type(error).__name__}"
    return ""


def version() -> str | None:
    """Return Triton's version where its kernels run on the current GPU, else None."""
    if not torch.cuda.is_available() or why_not(torch.device("cuda")):
        return None
    import triton

    return str(triton.__version__)


def triton_info() -> str:
    """Return the line of ``tiedlm info`` on the current GPU's pointwise work."""
    reason = why_not(torch.device("cuda"))
    return f"PyTorch's ({reason})" if reason else "Triton's"


@cache
def _is_installed() -> bool:
    return importlib.util.find_spec("triton") is not None


def share_gpu(processes: int) -> None:
    """Set how many processes use a GPU at once, unless the user has set it."""
    set_default(GPU_SHARED_BY, str(processes))


def gpu_shared_by() -> int:
    """Return how many processes use a GPU at once.

    Raises:
        UserError: if the environment variable is not a whole number of at least 1.
    """
    text = read(GPU_SHARED_BY)
    if not text.isdecimal() or int(text) < 1:
        raise UserError(f"{GPU_SHARED_BY}: expected a whole number of at least 1, got {text!r}")
    return int(text)
