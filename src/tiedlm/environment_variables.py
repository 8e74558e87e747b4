"""Read the environment variables of tiedlm.

The table below has all of them. docs/environment.md shows it to users.
"""

from __future__ import annotations

import os
from typing import NamedTuple

CACHE = "TIEDLM_CACHE"
DATA = "TIEDLM_DATA"
MIRROR = "TIEDLM_MIRROR"
NATIVE = "TIEDLM_NATIVE"
TRITON = "TIEDLM_TRITON"
GPU_SHARED_BY = "TIEDLM_GPU_SHARED_BY"
CUDA_GRAPH = "TIEDLM_CUDA_GRAPH"
XDG_CACHE_HOME = "XDG_CACHE_HOME"
HF_MODULES_CACHE = "HF_MODULES_CACHE"
CC = "CC"
OMP_NUM_THREADS = "OMP_NUM_THREADS"
TRITON_INTERPRET = "TRITON_INTERPRET"
RANK = "RANK"
LOCAL_RANK = "LOCAL_RANK"
WORLD_SIZE = "WORLD_SIZE"


class Variable(NamedTuple):
    """An environment variable.

    Args:
        name: the name.
        meaning: what it does.
        default: the value if the variable is not set; "" stands for no value.
        read_in: the module that reads it.
    """

    name: str
    meaning: str
    default: str
    read_in: str


TABLE = (
    Variable(CACHE, "folder of downloads, encoded corpora, kernels and measurements", "", "files"),
    Variable(DATA, "folder with your copies of ptb/ and wikitext-2/", "", "data.standard"),
    Variable(MIRROR, "address of your copies of the downloads", "", "data.standard"),
    Variable(
        NATIVE, "0 turns the compiled kernels and measured products off", "", "native.library"
    ),
    Variable(TRITON, "0 turns Triton's kernels off", "", "native.triton"),
    Variable(GPU_SHARED_BY, "number of processes that use a GPU at once", "1", "native.triton"),
    Variable(CUDA_GRAPH, "0 records no CUDA graph, which saves memory", "", "training.captured"),
    Variable(XDG_CACHE_HOME, "parent of the cache folder without TIEDLM_CACHE", "", "files"),
    Variable(
        HF_MODULES_CACHE, "folder where transformers copies the code of an export to check it; "
        "temporary if not set", "", "export.hf",
    ),
    Variable(CC, "C compiler of the compiled kernels, with its options", "cc", "native.library"),
    Variable(OMP_NUM_THREADS, "upper limit of the default threads", "", "training.hardware"),
    Variable(
        TRITON_INTERPRET, "with TIEDLM_TRITON=1, 1 runs Triton's kernels on a CPU, for tests",
        "", "native.triton",
    ),
    Variable(RANK, "set by torchrun: this process among all", "0", "environment_variables"),
    Variable(
        LOCAL_RANK, "set by torchrun: this process on its machine", "0", "training.distributed"
    ),
    Variable(WORLD_SIZE, "set by torchrun: number of processes", "1", "training.distributed"),
)  # fmt: skip

# Prefixes of the variables that change how PyTorch's libraries compute matrix products.
_LIBRARIES = ("ATEN_CPU_CAPABILITY", "DNNL_", "MKL_", "ONEDNN_")

_DEFAULTS = {variable.name: variable.default for variable in TABLE}


def read(name: str) -> str:
    """Return the value of a variable of the table, or its default."""
    return os.environ.get(name, _DEFAULTS[name])


def of_libraries() -> list[str]:
    """Return the variables that are set for the libraries of matrix products, with their values."""
    return sorted(
        f"{name}={os.environ[name]}" for name in os.environ if name.startswith(_LIBRARIES)
    )


def set_default(name: str, value: str) -> None:
    """Set a variable of the table for this process and its children, unless the user has set it."""
    assert name in _DEFAULTS
    os.environ.setdefault(name, value)


def of_child(**defaults: str) -> dict[str, str]:
    """Return the environment of a process that this one starts: its own, and these defaults."""
    return {**defaults, **os.environ}


def is_first_rank() -> bool:
    """Tell whether this is the first of the processes that ``torchrun`` started, or the only one.

    It reads the environment only, so that PyTorch need not be imported.
    """
    return read(RANK) == "0"
