"""The README and the page of commands are correct: their code and commands run."""

import importlib.util
import json
import os
import re
import shlex
from pathlib import Path

import pytest

from tests_support import blocks, run_command
from tiedlm.cli import build_app

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS, START, COMING_FROM = (
    (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
    for name in ("commands", "start", "coming_from")
)

# Not run here: CI runs them, or they need the network.
ELSEWHERE = {
    "make demo", "make test", "pip install torch", "pip install '.[demo]'",
    "tiedlm explore runs/demo/vd-lstm*",  # test_explore_command.py
}  # fmt: skip


def commands():
    """Return the lines of the pages' shell blocks, each once and without its comment."""
    pages = README + COMMANDS + START
    lines = dict.fromkeys(line for block in blocks(pages, "sh") for line in block.splitlines())
    return [line.split("  #")[0].split("   #")[0].strip() for line in lines if line.strip()]


def test_python_blocks_run():
    namespace = {}
    code = blocks(README, "python")
    assert code
    for block in code:
        exec(compile(block, "README.md", "exec"), namespace)
    assert namespace["out"].loss > namespace["out"].ce > 0
    assert namespace["embedding"].weight.grad is not None


def test_commands_for_your_own_text_run(tmp_path, monkeypatch, capsys, tiny_corpus):
    monkeypatch.chdir(tmp_path)
    for name in ("my.txt", "text.txt"):
        (tmp_path / name).write_text((tiny_corpus / "train.txt").read_text())
    ran = [line for line in commands() if line not in ELSEWHERE and "ptb" not in line]
    assert len(ran) >= 3
    for line in ran:
        status, out, err = run_command(capsys, *shlex.split(line)[1:])
        assert status == 0, f"{line}: {err}"
        assert out or "--out" in line, line


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


def test_every_command_is_on_the_page(capsys):
    named = {name.split()[0] for name in re.findall(r"`tiedlm ([a-z]+)", COMMANDS)}
    assert named == {name for name in build_app() if not name.startswith("-")}
    for name in named:
        assert run_command(capsys, name, "--help")[0] == 0


def test_flags_named_to_those_who_come_from_another_program_exist(capsys):
    ours = [line.split("|")[2] for line in COMING_FROM.splitlines() if line.startswith("| `")]
    named = {flag for cell in ours for flag in re.findall(r"--[a-z][a-z-]*", cell)}
    helped = "".join(run_command(capsys, name, "--help")[1] for name in build_app())
    assert len(named) > 8
    assert not named - set(re.findall(r"--[a-z][a-z-]*", helped))


def wishes():
    """Return the commands of the README's table "I want to", in order."""
    table = README[README.index("| I want to |") : README.index("[All commands]")]
    return re.findall(r"`(tiedlm [^`]*)`", table), len(table.strip().splitlines()) - 2


def test_each_wish_has_a_command_that_runs(tmp_path, monkeypatch, capsys, tiny_corpus):
    monkeypatch.chdir(tmp_path)
    text = (tiny_corpus / "train.txt").read_text()
    (tmp_path / "my.txt").write_text(text)
    (tmp_path / "text.txt").write_text(text[:200])
    pair = {"sentence_good": "the cat", "sentence_bad": "cat the"}
    (tmp_path / "pairs.jsonl").write_text(json.dumps(pair))
    hypotheses = [{"text": text[:10], "score": -1.0}, {"text": text[:20], "score": -2.0}]
    (tmp_path / "nbest.jsonl").write_text(json.dumps({"id": "1", "hypotheses": hypotheses}))
    ran, lines = wishes()
    assert lines == 7
    for line in ran:
        words = shlex.split(line)[1:]
        if words[0] == "train":
            words += ["--epochs", "1"]
        if words[0] == "reproduce":  # it would train the paper's models
            words += ["--show", "--results", str(ROOT / "results")]
        if words[0] == "export" and not importlib.util.find_spec("huggingface_hub"):
            continue
        if words[0] == "export":
            words += ["--no-check"]
        status, out, err = run_command(capsys, *words)
        assert status == 0, f"{line}: {err}"
        assert out or words[0] == "export", line
    assert {line.split()[1] for line in ran} == {
        "train", "score", "pairs", "rescore", "export", "reproduce",
    }  # fmt: skip


def test_every_linked_file_exists():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target
