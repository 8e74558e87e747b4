"""The wheel is complete: it works without the repository."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_an_installed_wheel_trains_evaluates_and_exports(tiny_corpus, tmp_path):
    pytest.importorskip("hatchling")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    build = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path, ROOT]
    subprocess.run([*pip, *build], check=True)
    (wheel,) = tmp_path.glob("tiedlm-*.whl")
    target = tmp_path / "site"
    subprocess.run([*pip, "install", "--no-deps", "--target", target, wheel], check=True)

    def tiedlm(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "tiedlm", *map(str, arguments)],
            cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(target)},
            check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip

    where = subprocess.run(
        [sys.executable, "-c", "import tiedlm; print(tiedlm.__file__)"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(target)},
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert where.startswith(str(target))
    flags = ["--d-embed=8", "--d-hidden=8", "--epochs=1", "--threads=1", "--quiet"]
    tiedlm("train", "small-real", "--data", tiny_corpus, "--out", "run", *flags)
    assert "perplexity" in tiedlm("evaluate", "run")
    tiedlm("export", "run", "--to", "hf", "hf", "--no-check")
    assert (tmp_path / "hf" / "modeling_tiedlm.py").is_file()
    assert "tiedlm" in tiedlm("info")
    for name in ("kernels.h", "losses.c", "product.c", "lstm.c", "adapt.c"):
        assert (target / "tiedlm" / "native" / name).is_file()
