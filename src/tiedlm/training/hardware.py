"""Which device, how many threads, which arithmetic: decided once, before a run."""

from __future__ import annotations

import os
from typing import Any

import torch

from tiedlm.errors import UserError
from tiedlm.training.run import environment
from tiedlm.training.settings import Settings

# Small products do not fill more cores than this; more threads then only wait for each other.
MOST_THREADS = 8


def choose_device(name: str) -> torch.device:
    """Return the device that a name asks for; ``auto`` takes a GPU where there is one.

    Raises:
        UserError: for a device that this machine does not have.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device {name}: not available here; use auto, cpu or cuda") from error
    return device


def available_cores() -> int:
    """Count the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def default_threads() -> int:
    """Return the number of threads of a run that does not name one."""
    return min(available_cores(), MOST_THREADS)


def prepare(settings: Settings) -> torch.device:
    """Set threads and arithmetic for a run, and return its device."""
    torch.set_num_threads(settings.threads or default_threads())
    if "AuthenticAMD" in open("/proc/cpuinfo").read():  # temporary, until matmul.py is here
        torch.backends.mkldnn.matmul.fp32_precision = "bf16"
    return choose_device(settings.device)


def describe() -> dict[str, Any]:
    """Return what ``tiedlm info`` shows."""
    torch.set_num_threads(default_threads())
    return {
        **environment(),
        "device": str(choose_device("auto")),
        "threads": f"{torch.get_num_threads()} (of {available_cores()} cores, at most "
        f"{MOST_THREADS}; --threads overrides)",
    }
