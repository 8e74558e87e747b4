"""The kernels are compiled and kept, and everything works without them."""

import math
import mmap
import os
import subprocess
import sys

import pytest

from tiedlm import native
from tiedlm.native import library

pytestmark = pytest.mark.skipif(bool(native.why_not()), reason=native.why_not() or "-")


_BEGINNING = """
from tiedlm import native
from tiedlm.arithmetic import arithmetic
def on():
    with arithmetic(kernels=True) as used:
        return used.kernels
"""


def fresh(code, **environment):
    """Run Python in a process of its own and return its output."""
    done = subprocess.run(
        [sys.executable, "-c", _BEGINNING + code],
        capture_output=True, text=True, env={**os.environ, **environment}, check=True,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({"TIEDLM_NATIVE": "0"}, "TIEDLM_NATIVE=0"),
        ({"CC": "no-such-compiler"}, "no C compiler: no-such-compiler is not installed"),
        ({"CC": "false"}, "false cannot compile them"),
        ({"CC": "cc 'unclosed"}, "cc cannot compile them"),
        ({"TIEDLM_CACHE": "/proc/nowhere"}, "cannot write /proc/nowhere"),
    ],
)
def test_without_kernels_the_reason_is_one_line_and_everything_works(environment, reason):
    code = (
        "import torch, tiedlm\n"
        "w = torch.ones(1000, 2, requires_grad=True)\n"
        "out = tiedlm.augmented_cross_entropy(torch.ones(300, 2), w, torch.arange(300))\n"
        "print(on(), native.why_not())\nprint(out.ce.item())"
    )
    first, second = fresh(code, **environment).splitlines()
    assert first.startswith(f"False {reason}")
    assert float(second) == pytest.approx(math.log(1000))


def test_kernels_are_compiled_once_and_a_broken_file_is_replaced(tmp_path):
    cache = {"TIEDLM_CACHE": str(tmp_path)}
    assert fresh("print(on())", **cache) == "True"
    (made,) = (tmp_path / "native").glob("*.so")
    assert fresh("print(on())", **cache, CC="cc") == "True"
    assert list((tmp_path / "native").glob("*.so")) == [made]
    whole = made.read_bytes()
    made.write_bytes(whole[:1000])
    assert fresh("print(on())", **cache) == "True"
    assert len(made.read_bytes()) == len(whole)


def test_kernels_that_cannot_be_loaded_are_not_compiled_by_every_process(tmp_path, monkeypatch):
    """Clang's kernels, for example, need an OpenMP library of their own."""
    compiled = []

    def compile_for_another_openmp(compiler):
        compiled.append(compiler)
        (tmp_path / "a.c").write_text(
            "void __kmpc_fork_call(void); void a(void) { __kmpc_fork_call(); }"
        )
        command = ["cc", "-shared", "-fPIC", "a.c", "-o", "a.so"]
        subprocess.run(command, cwd=tmp_path, check=True)
        return (tmp_path / "a.so").read_bytes()

    monkeypatch.setenv("TIEDLM_CACHE", str(tmp_path))
    monkeypatch.setattr(library, "_compile", compile_for_another_openmp)
    for _ in range(2):
        kernels, reason = library._library.__wrapped__()
        assert kernels is None
        assert "undefined symbol: __kmpc_fork_call" in reason
    assert len(compiled) == 1


def test_a_mapped_file_whose_name_is_not_utf8_does_not_hide_pytorchs_threads(tmp_path):
    """A cache in such a folder has the texts, which are mapped."""
    before, path = library._openmp(), os.fsencode(tmp_path) + b"/r\xe9sum\xe9"
    with open(path, "wb+") as file:
        file.write(b"text")
        file.flush()
        with mmap.mmap(file.fileno(), 0):
            assert library._openmp() == before


def test_without_the_list_of_mapped_files_the_reason_is_known(monkeypatch):
    monkeypatch.setattr(library, "Path", lambda _: library.FOLDER / "nowhere")
    kernels, reason = library._library.__wrapped__()
    assert kernels is None
    assert "No such file" in reason
