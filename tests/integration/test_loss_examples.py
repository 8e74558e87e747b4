"""The examples that show the loss outside tiedlm run, learn, and stay short."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(name):
    done = subprocess.run(
        [sys.executable, EXAMPLES / name], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", ["bare_loop.py", "huggingface_trainer.py"])
def test_example_is_under_forty_lines(name):
    assert len((EXAMPLES / name).read_text().splitlines()) < 40


def test_bare_loop_learns():
    perplexities = [float(x) for x in re.findall(r"perplexity +([\d.]+)", run("bare_loop.py"))]
    assert perplexities[-1] < 0.3 * perplexities[0]


@pytest.mark.slow
@pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("transformers", "accelerate")),
    reason="transformers and accelerate are not installed",
)
def test_hugging_face_trainer_learns():
    losses = [float(x) for x in re.findall(r"'loss': '?([\d.]+)", run("huggingface_trainer.py"))]
    assert losses[-1] < 0.2 * losses[0]
