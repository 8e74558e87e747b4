"""The README is correct: its code and commands run, and its linked files exist."""

import os
import re
import shlex
from pathlib import Path

import pytest

from tests_support import blocks, run_command

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")

# Not run here: CI runs them, or they need the network.
ELSEWHERE = {"make demo", "make test", "pip install torch", "pip install '.[demo]'"}


def commands():
    """Return the lines of the README's shell blocks without their comments."""
    lines = [line for block in blocks(README, "sh") for line in block.splitlines()]
    return [line.split("  #")[0].split("   #")[0].strip() for line in lines if line.strip()]


def test_python_blocks_run():
    namespace = {}
    code = blocks(README, "python")
    assert len(code) >= 2
    for block in code:
        exec(compile(block, "README.md", "exec"), namespace)
    assert namespace["out"].loss > namespace["out"].ce > 0
    assert namespace["model"].embedding.weight.grad is not None


def test_commands_for_your_own_text_run(tmp_path, monkeypatch, capsys, tiny_corpus):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.txt").write_text((tiny_corpus / "train.txt").read_text())
    ran = [line for line in commands() if line not in ELSEWHERE and "ptb" not in line]
    assert len(ran) >= 3
    for line in ran:
        status, out, err = run_command(capsys, *shlex.split(line)[1:])
        assert status == 0, f"{line}: {err}"
        assert out, line


@pytest.mark.skipif("TIEDLM_DATA" not in os.environ, reason="Penn Treebank is not here")
def test_commands_with_penn_treebank_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    ran = [line for line in commands() if "ptb" in line]
    assert ran
    for line in ran:
        # The README's run takes an hour. This one trains an epoch on a hundredth of the text.
        short = ["--epochs", "1", "--fraction", "0.01"]
        status, _, err = run_command(capsys, *shlex.split(line)[1:], *short)
        assert status == 0, f"{line}: {err}"


def test_commands_run_elsewhere_are_targets_of_the_makefile():
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for line in commands():
        if line.startswith("make "):
            assert line.split()[1] in targets
            assert line in ELSEWHERE


def test_every_command_of_the_table_exists(capsys):
    named = {name.split()[0] for name in re.findall(r"`tiedlm ([a-z]+)", README)}
    assert {"demo", "train", "evaluate", "compare", "predict", "data", "info"} <= named
    for name in named:
        assert run_command(capsys, name, "--help")[0] == 0


def test_every_linked_file_exists():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target
