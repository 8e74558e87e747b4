"""Describe the machine of a benchmark, because ratios differ from machine to machine."""

from __future__ import annotations

import os

import torch

from tiedlm.cpuinfo import description, processor_name

_LIMITS = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS", "CC")
_SETS = {"avx2": "AVX2", "avx512f": "AVX-512", "avx512_bf16": "BF16", "amx_tile": "AMX"}


def machine(device: str = "cpu") -> str:
    """Return a line on the processor, its instructions and what limits them, and PyTorch."""
    if device == "cuda":
        return f"{torch.cuda.get_device_name()}; torch {torch.__version__}"
    known = description()
    flags = known.get("flags", "").split()
    has = [name for flag, name in _SETS.items() if flag in flags]
    limits = [f"{name}={os.environ[name]}" for name in _LIMITS if name in os.environ]
    return (
        f"{processor_name()} (family {known.get('cpu family', '?')}, model "
        f"{known.get('model', '?')}) with {', '.join(has) or 'an unknown instruction set'}"
        + (f", limited by {' '.join(limits)}" if limits else "")
        + f"; {os.cpu_count()} cores, {torch.get_num_threads()} threads; torch {torch.__version__}"
    )
