"""Compile the kernels for this machine, cache the result, and load it.

The kernels run on PyTorch's own threads: they call the OpenMP library that PyTorch has loaded.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tiedlm.cpuinfo import processor_lines
from tiedlm.environment_variables import CC, NATIVE, read
from tiedlm.errors import UserError
from tiedlm.files import cache_folder, lock, write_bytes
from tiedlm.native.locks import ForkSafeLock
from tiedlm.tracing import is_recording

FOLDER = Path(__file__).parent
UNITS = ("losses.c", "lstm.c", "adapt.c")  # the other C files are included by these
_FLAGS = "-std=gnu11 -O3 -fno-math-errno -fno-trapping-math -fPIC -fvisibility=hidden -fopenmp"
_loading = ForkSafeLock()
_PATIENCE = 120  # seconds to wait for another process that compiles
_TYPES = {torch.float32: 1, torch.bfloat16: 2}  # as in kernels.h, where 0 (NONE) is no matrix


def why_not() -> str:
    """Return why the kernels do not work here, or "" if they do; the first call compiles them."""
    if is_off():
        return f"{NATIVE}=0"
    with _loading:
        return _library()[1]


def is_off() -> bool:
    """Tell whether the user has turned off compiled kernels and measured products."""
    return read(NATIVE) == "0"


def suitable_kernels(*tensors: Tensor | None, products: torch.dtype) -> ctypes.CDLL | None:
    """Return the kernels if they work here and suit these tensors, else None.

    Args:
        tensors: what the kernels read and write, or samples of it: float32 on a CPU.
        products: type of the operands and results of matrix products: float32 or bfloat16.
    """
    if products not in _TYPES:
        return None
    for tensor in tensors:
        if tensor is None:
            continue
        if tensor.device.type != "cpu" or tensor.dtype != torch.float32 or is_recording(tensor):
            return None
    return None if why_not() else _library()[0]


def declare(kernels: ctypes.CDLL, signatures: Mapping[str, Sequence[Any]]) -> None:
    """Tell ctypes the types of some kernels' arguments; no kernel returns anything.

    The module that calls a kernel declares it.

    Args:
        kernels: the loaded library.
        signatures: name of a kernel -> ctypes types of its arguments.
    """
    for name, arguments in signatures.items():
        function = getattr(kernels, name)
        function.argtypes, function.restype = arguments, None


def type_of(tensor: Tensor) -> int:
    """Return the number by which ``kernels.h`` names the type of a tensor."""
    return _TYPES[tensor.dtype]


def rows_of(matrix: Tensor) -> tuple[int, int, int]:
    """Return a matrix's address, its row stride, and the number of its type."""
    assert matrix.stride(1) == 1
    return matrix.data_ptr(), matrix.stride(0), type_of(matrix)


def pointer(tensor: Tensor | None) -> int | None:
    """Return the address of a contiguous tensor; None for no tensor."""
    if tensor is None:
        return None
    assert tensor.is_contiguous()
    return tensor.data_ptr()


@cache
def _library() -> tuple[ctypes.CDLL | None, str]:
    """Return the kernels and "", or None and the reason why they do not work."""
    if platform.system() != "Linux":
        return None, f"they are for Linux, this is {platform.system()}"
    compiler = read(CC).split() or ["cc"]
    try:
        openmp = _openmp()
        if openmp is None:
            return None, "this PyTorch has not loaded GNU OpenMP"
        if shutil.which(compiler[0]) is None:
            return None, f"no C compiler: {compiler[0]} is not installed"
        path = cache_folder() / "native" / f"kernels-{_fingerprint(compiler)}.so"
        # RTLD_GLOBAL makes its symbols visible to libraries that are loaded later.
        ctypes.CDLL(openmp, mode=ctypes.RTLD_GLOBAL)
        library = _load(path) or _make(path, compiler)
    except subprocess.SubprocessError as error:
        output = " ".join(str(getattr(error, "stderr", None) or error).split())
        return None, f"{compiler[0]} cannot compile them: {output[:200]}"
    except (OSError, UserError, RuntimeError, ValueError) as error:
        return None, " ".join(str(error).split())
    return library, "" if library else f"{path} was damaged while it was written"


def _make(path: Path, compiler: list[str]) -> ctypes.CDLL | None:
    """Compile the kernels into the cache and load them; only one process compiles at a time."""
    with lock(path.parent, _PATIENCE):
        library = _load(path)
        if library is None:
            code = _compile(compiler)
            write_bytes(path, code + hashlib.sha256(code).digest())
            library = _load(path)
        return library


def _load(path: Path) -> ctypes.CDLL | None:
    """Return the kernels of a file, or None if there is none or it is damaged.

    The file ends with its checksum, because loading a damaged library would kill the process.

    Raises:
        OSError: if the system cannot load it, and compiling it again would not help. For example,
            clang's kernels need an OpenMP library of their own, and a mount may allow no programs.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    if hashlib.sha256(content[:-32]).digest() != content[-32:]:
        return None
    return ctypes.CDLL(str(path))


def _compile(compiler: list[str]) -> bytes:
    """Return the bytes of a shared library for this processor; compile its units in parallel."""
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor() as pool:
        library = Path(folder) / "kernels.so"
        objects = [str(Path(folder) / f"{unit}.o") for unit in UNITS]
        flags = [*_FLAGS.split(), *_processor_flags()]

        def compile_unit(unit: str, target: str) -> None:
            _run([*compiler, *flags, "-c", str(FOLDER / unit), "-o", target])

        list(pool.map(compile_unit, UNITS, objects))
        # Linked without -fopenmp, which would load a second OpenMP beside PyTorch's.
        _run([*compiler, "-shared", *objects, "-o", str(library), "-lm"])
        return library.read_bytes()


def _run(command: list[str]) -> str:
    """Run a command and return its output."""
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout


def _processor_flags() -> list[str]:
    flags = ["-march=native"] if platform.machine() == "x86_64" else []
    if torch.cpu._is_avx512_supported():
        flags.append("-mprefer-vector-width=512")
    return flags


def _fingerprint(compiler: list[str]) -> str:
    """Return the kernels' name, which changes with source, compiler, processor and C library."""
    version = _run([*compiler, "--version"])
    cpu = "\n".join(processor_lines())
    sources = (path.read_text() for path in sorted(FOLDER.glob("*.[ch]")))
    parts = (
        *sources, *compiler, version, cpu, *platform.libc_ver(), _FLAGS, *_processor_flags()
    )  # fmt: skip
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _openmp() -> str | None:
    """Return the path of the GNU OpenMP library that this process has loaded.

    The list has every file that is mapped, such as a text, and names need not be UTF-8.
    """
    mapped = os.fsdecode(Path("/proc/self/maps").read_bytes())
    for line in mapped.splitlines():
        path = "".join(line.split(maxsplit=5)[5:])
        if Path(path).name.startswith("libgomp"):
            return path
    return None


def kernels_info() -> str:
    """Return the line of ``tiedlm info`` on the CPU's pointwise work."""
    reason = why_not()
    return f"PyTorch's ({reason})" if reason else "compiled for this machine"
