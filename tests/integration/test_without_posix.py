"""The package works in a Python without POSIX modules, signals and system calls, as on Windows."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import tiedlm

POSIX = {"fcntl", "grp", "posix", "pwd", "resource", "syslog", "termios", "tty"}

PROGRAM = """
import importlib, os, pkgutil, signal, sys, warnings

for name in ("fcntl", "grp", "pwd", "resource", "termios"):
    sys.modules[name] = None
everywhere = {"SIGABRT", "SIGFPE", "SIGILL", "SIGINT", "SIGSEGV", "SIGTERM", "SIG_DFL", "SIG_IGN"}
for name in dir(signal):
    if name.startswith("SIG") and name not in everywhere:
        delattr(signal, name)
for module, names in (
    (signal, ["pthread_sigmask", "setitimer"]),
    (os, ["sched_getaffinity", "sched_setaffinity", "getuid", "geteuid", "getloadavg", "nice"]),
):
    for name in names:
        if hasattr(module, name):
            delattr(module, name)
warnings.filterwarnings("ignore", "only soft file lock is available")  # of filelock

import tiedlm

optional = (".export.huggingface.", ".triton_kernels", ".triton_probe", ".__main__")
for module in pkgutil.walk_packages(tiedlm.__path__, "tiedlm."):
    if not any(part in module.name for part in optional):
        importlib.import_module(module.name)

from tiedlm.cli import main

def run(*arguments):
    try:
        main(list(arguments))
    except SystemExit as leaving:
        assert not leaving.code, (arguments, leaving.code)

corpus, out = sys.argv[1:]
tiny = ["--d-embed=8", "--d-hidden=8", "--batch-size=4", "--bptt=10", "--threads=1", "--quiet"]
for epochs in ("1", "2"):
    run("train", "small-real", "--data", corpus, "--out", out, *tiny, "--epochs", epochs)
run("evaluate", out)
run("score", out, f"{corpus}/test.txt", "--out", f"{out}/scores.tsv")
run("info")
assert tiedlm.load(out).vocabulary is not None
"""


def test_no_module_imports_posix_only_modules():
    for path in Path(tiedlm.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [name.name for name in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not POSIX & {name.partition(".")[0] for name in names}, path


@pytest.mark.slow
def test_everything_is_imported_and_a_model_is_trained_evaluated_and_scored(tiny_corpus, tmp_path):
    out = tmp_path / "run"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM, str(tiny_corpus), str(out)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "perplexity" in done.stdout
    assert (out / "scores.tsv").is_file()
