"""A run folder written by an earlier version still works, so no training is lost."""

import importlib.util
import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests_support import run_command
from tiedlm import load
from tiedlm.evaluation import evaluate
from tiedlm.training.loop import train
from tiedlm.training.outcomes import Stopped
from tiedlm.training.settings import Settings

FOLDER = Path(__file__).parents[1] / "fixtures" / "run-2026-11"
EXPECTED = json.loads((FOLDER / "expected.json").read_text())


@pytest.fixture
def run(tmp_path):
    return shutil.copytree(FOLDER / "run", tmp_path / "run")


@pytest.fixture
def settings(run):
    """Return the settings of the run, with its text at a new place if one is given."""
    return Settings.of_run(run).replace(data=str(FOLDER / "text"))


@pytest.fixture
def corpus(settings):
    return settings.load_corpus(progress=False)


def test_it_loads_with_its_old_perplexity(run, corpus):
    model = load(run)
    assert model.vocabulary == corpus.vocabulary
    for part, perplexity in EXPECTED["when stopped"].items():
        found = evaluate(model, getattr(corpus, part)).perplexity
        assert found == pytest.approx(perplexity, rel=1e-4)


def test_it_resumes_from_its_checkpoint_to_the_same_result(run, settings, corpus, tmp_path):
    parts = shutil.copytree(run, tmp_path / "parts")
    result = train(settings, corpus, run)
    steps = 0

    def stop_now():
        nonlocal steps
        steps += 1
        return steps == 40  # in the third epoch

    with pytest.raises(Stopped):
        train(settings, corpus, parts, should_stop=stop_now)
    train(settings, corpus, parts)
    weights = [folder / "model.safetensors" for folder in (run, parts)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    for name, value in EXPECTED["at the end"].items():
        assert result[name] == pytest.approx(value, rel=1e-3)


def test_it_scores_a_text(run, capsys):
    status, table, errors = run_command(capsys, "score", run, FOLDER / "text" / "test.txt")
    assert status == 0, errors
    header, *rows = table.splitlines()
    assert "surprisal" in header
    words = (FOLDER / "text" / "test.txt").read_text().split()
    assert len(rows) == len(words) + (FOLDER / "text" / "test.txt").read_text().count("\n")


def test_it_is_exported(run, tmp_path, capsys):
    command = ["export", run, "--to", "hf", tmp_path / "hf"]
    without_extra = importlib.util.find_spec("transformers") is None
    status, _, errors = run_command(capsys, *command, *["--no-check"] * without_extra)
    assert status == 0, errors
    before = load_file(run / "model.safetensors")["embedding.weight"]
    exported = load_file(tmp_path / "hf" / "model.safetensors")
    assert any(
        tensor.shape == before.shape and tensor.equal(before) for tensor in exported.values()
    )
