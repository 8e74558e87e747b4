"""Pointwise work compiled for this machine: faster where there is a C compiler, never needed.

The losses and the networks are plain PyTorch, which passes over memory once for every operation.
``kernels.c`` does the same work in one pass a row. It is compiled when a program first asks for it,
by whatever ``cc`` is there, and kept in the user's cache; without a compiler and in float64 the
PyTorch code runs. Both are tested against each other. On a GPU the same is done by Triton's kernels
(:mod:`tiedlm.native.gpu`).

Threads are PyTorch's own: the kernels call the OpenMP library that PyTorch has loaded.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from tiedlm.errors import UserError
from tiedlm.files import cache_folder, write_bytes
from tiedlm.tracing import is_recording

SOURCE = Path(__file__).with_name("kernels.c")
OFF = "TIEDLM_NATIVE"  # environment variable; 0 keeps to PyTorch
SHARED_BY = "TIEDLM_GPU_SHARED_BY"  # environment variable: how many processes use a GPU at once
_FLAGS = "-std=gnu11 -O3 -fno-math-errno -fno-trapping-math -fPIC -fvisibility=hidden -fopenmp"
_TYPES = {torch.float32: 1, torch.bfloat16: 2}  # as kernels.c names them; 0 is no matrix

_pointer, _count, _int, _float = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int, ctypes.c_float
_SIZES = [_count, _count, _int]
_SIGNATURES = {
    "soft_targets": [*_SIZES, _pointer, _count, _int, _float, *[_pointer] * 5],
    "tokens": [
        *_SIZES, _pointer, _count, _int, *[_pointer] * 3, _int, *[_pointer] * 3, _float, _float,
        *[_pointer] * 6,
    ],
    "through_soft_targets": [*_SIZES, *[_pointer] * 4, _count, _int],
    "words": [
        *_SIZES, _pointer, _count, _int, *[_pointer] * 4, _int, _pointer, _pointer, _float, _float,
        *[_pointer] * 8,
    ],
    "distributions": [*_SIZES, *[_pointer] * 7],
}  # fmt: skip

_is_on = False


def enable() -> bool:
    """Use the compiled kernels from here on, where they can be had; compile them if need be.

    Returns whether it did. The switch belongs to the whole process, so this is for programs, not
    for libraries.
    """
    global _is_on
    _is_on = not why_not()
    return _is_on


def is_on() -> bool:
    """Tell whether the kernels are used."""
    return _is_on


@contextmanager
def native() -> Iterator[bool]:
    """Do what :func:`enable` does for a block of code, and yield whether it did."""
    global _is_on
    before = _is_on
    try:
        yield enable()
    finally:
        _is_on = before


def why_not() -> str:
    """Return why there are no kernels here, or "" where there are; compile them if need be."""
    if os.environ.get(OFF) == "0":
        return f"{OFF}=0"
    return _library()[1]


def share_gpu(processes: int) -> None:
    """Take note that so many processes use a GPU at once, unless the user said how many."""
    os.environ.setdefault(SHARED_BY, str(processes))


def gpu_shared_by() -> int:
    """Return how many processes use a GPU at once.

    Raises:
        UserError: where the environment variable holds no such number.
    """
    text = os.environ.get(SHARED_BY, "1")
    if not text.isdecimal() or int(text) < 1:
        raise UserError(f"{SHARED_BY}: expected a whole number of at least 1, got {text!r}")
    return int(text)


def kernels_for(*tensors: Tensor | None, products: torch.dtype) -> ctypes.CDLL | None:
    """Return the kernels if they are on and serve such work, else None.

    Args:
        tensors: what they read and write, or samples of it: float32 on a CPU.
        products: type of the matrix products' operands and results: float32 or bfloat16.
    """
    if not _is_on or products not in _TYPES:
        return None
    for tensor in tensors:
        if tensor is None:
            continue
        if tensor.device.type != "cpu" or tensor.dtype != torch.float32 or is_recording(tensor):
            return None
    return _library()[0]


def type_of(tensor: Tensor) -> int:
    """Return the number by which ``kernels.c`` knows a tensor's type."""
    return _TYPES[tensor.dtype]


def rows_of(matrix: Tensor) -> tuple[int, int, int]:
    """Return where a matrix is, how many numbers a row is from the next, and its type's number."""
    assert matrix.stride(1) == 1
    return matrix.data_ptr(), matrix.stride(0), type_of(matrix)


def pointer(tensor: Tensor | None) -> int | None:
    """Return where a contiguous tensor's numbers are; None where there is no tensor."""
    if tensor is None:
        return None
    assert tensor.is_contiguous()
    return tensor.data_ptr()


@cache
def _library() -> tuple[ctypes.CDLL | None, str]:
    """Return the kernels, or None and why not."""
    if platform.system() != "Linux":
        return None, f"they are for Linux, this is {platform.system()}"
    openmp = _openmp()
    if openmp is None:
        return None, "this PyTorch has not loaded GNU OpenMP"
    compiler = os.environ.get("CC", "").split() or ["cc"]
    if shutil.which(compiler[0]) is None:
        return None, f"no C compiler: {compiler[0]} is not installed"
    try:
        path = cache_folder() / "native" / f"kernels-{_fingerprint(compiler)}.so"
        # From here on its symbols are there for what is loaded later.
        ctypes.CDLL(openmp, mode=ctypes.RTLD_GLOBAL)
        library = _load(path) if path.is_file() else None
        if library is None:  # not compiled yet, or a broken file
            code = _compile(compiler)
            write_bytes(path, code + hashlib.sha256(code).digest())
            library = _load(path)
    except subprocess.SubprocessError as error:
        output = " ".join(str(getattr(error, "stderr", None) or error).split())
        return None, f"{compiler[0]} cannot compile them: {output[:200]}"
    except (OSError, UserError, RuntimeError, ValueError) as error:
        return None, " ".join(str(error).split())
    return library, "" if library else f"{path} cannot be loaded"


def _load(path: Path) -> ctypes.CDLL | None:
    """Return the kernels of a file, or None if it does not hold them, whole.

    The file ends in its checksum: loading a damaged library would kill the process.
    """
    content = path.read_bytes()
    if hashlib.sha256(content[:-32]).digest() != content[-32:]:
        return None
    try:
        library = ctypes.CDLL(str(path))
        for name, arguments in _SIGNATURES.items():
            function = getattr(library, name)
            function.argtypes, function.restype = arguments, None
    except (OSError, AttributeError):
        return None
    return library


def _compile(compiler: list[str]) -> bytes:
    """Return the kernels as a shared library, for this processor."""
    with tempfile.TemporaryDirectory() as folder:
        target, library = Path(folder) / "kernels.o", Path(folder) / "kernels.so"
        flags = [*_FLAGS.split(), *_processor_flags()]
        # Linked without -fopenmp, which would load a second OpenMP beside PyTorch's.
        for arguments in (
            [*flags, "-c", str(SOURCE), "-o", str(target)],
            ["-shared", str(target), "-o", str(library), "-lm"],
        ):
            subprocess.run(
                [*compiler, *arguments], check=True, capture_output=True, text=True, timeout=120
            )
        return library.read_bytes()


def _processor_flags() -> list[str]:
    flags = ["-march=native"] if platform.machine() == "x86_64" else []
    if torch.cpu._is_avx512_supported():
        flags.append("-mprefer-vector-width=512")
    return flags


def _fingerprint(compiler: list[str]) -> str:
    """Return a name for the kernels that changes with the source, the compiler and the CPU."""
    version = subprocess.run(
        [*compiler, "--version"], check=True, capture_output=True, text=True, timeout=60
    ).stdout
    cpu = "".join(
        sorted({line for line in Path("/proc/cpuinfo").read_text().splitlines() if _names(line)})
    )
    parts = (SOURCE.read_text(), *compiler, version, cpu, _FLAGS, *_processor_flags())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _names(line: str) -> bool:
    return line.split("\t")[0].strip() in ("flags", "Features", "model name", "CPU part")


def _openmp() -> str | None:
    """Return the path of the GNU OpenMP library that this process has loaded."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        path = "".join(line.split(maxsplit=5)[5:])
        if Path(path).name.startswith("libgomp"):
            return path
    return None


def describe() -> str:
    """Return what ``tiedlm info`` says."""
    reason = why_not()
    return f"PyTorch's ({reason})" if reason else "compiled for this machine"
