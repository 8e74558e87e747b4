"""Which device, how many threads, which arithmetic: decided once, before a run."""

from __future__ import annotations

import os

import torch

from tiedlm.errors import UserError
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


def prepare(settings: Settings) -> torch.device:
    """Set threads and arithmetic for a run, and return its device."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    torch.set_num_threads(settings.threads or min(cores or 1, MOST_THREADS))
    return choose_device(settings.device)
