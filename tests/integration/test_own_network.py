"""Every command works with a network defined outside tiedlm, in twenty lines."""

import csv
import io
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import own_network
from tests_support import blocks, run_command
from tiedlm import load
from tiedlm.cli import main
from tiedlm.data import load_corpus
from tiedlm.evaluation import evaluate, segments
from tiedlm.networks import network
from tiedlm.scoring import surprisal
from tiedlm.training.loop import train
from tiedlm.training.outcomes import Stopped
from tiedlm.training.settings import Settings
from tiedlm.tying import is_tied

PROGRAM = [sys.executable, own_network.__file__]
TORCHRUN = [
    sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
    own_network.__file__,
]  # fmt: skip
TINY = {
    "d_embed": 12, "d_hidden": 10, "dropout_input": 0.0, "dropout_hidden": 0.2, "init_range": 0.3,
    "temperature": 5.0, "batch_size": 4, "bptt": 5, "epochs": 3, "decay_after": 2, "lr": 0.5,
    "clip": 1.0, "threads": 1,
}  # fmt: skip
VARIANTS = {"small": (False, 0), "small-al": (False, 2), "small-re": (True, 0),
            "small-real": (True, 2)}  # fmt: skip


def options(corpus, out, **changes):
    """Return the arguments of ``train`` after the recipe."""
    named = {**TINY, "network": "own", "data": corpus, "out": out, **changes}
    return [f"--{name.replace('_', '-')}={value}" for name, value in named.items()]


def outcome(out):
    """Return the outputs that exact resume promises, without measured times."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    result = json.loads((out / "result.json").read_text())
    for line in [*lines, result]:
        for key in ("seconds", "tokens_per_second"):
            line.pop(key, None)
    return (out / "model.safetensors").read_bytes(), lines, result


@pytest.fixture(scope="module")
def runs(tiny_corpus, tmp_path_factory):
    """Return a folder with a run of each variant."""
    folder = tmp_path_factory.mktemp("runs")
    for recipe, (_, alpha) in VARIANTS.items():
        arguments = options(tiny_corpus, folder / recipe, alpha=alpha)
        main(["train", recipe, *arguments, "--quiet"])
    return folder


@pytest.fixture
def real(runs):
    return runs / "small-real"


@pytest.mark.parametrize("recipe", VARIANTS)
def test_it_trains_as_each_variant(runs, recipe):
    _, lines, result = outcome(runs / recipe)
    model = load(runs / recipe)
    assert isinstance(model.network, own_network.OwnNetwork)
    assert "own.weight_hh" in dict(model.named_parameters())
    assert is_tied(model.embedding, model.decoder) == VARIANTS[recipe][0]
    assert lines[-1]["aug"] > 0 or not VARIANTS[recipe][1]
    assert result["valid_ppl"] < len(model.vocabulary) / 2
    assert result["parameters"] == model.config.num_params() == model.num_params()


def test_a_killed_run_resumes_bit_for_bit(capsys, tiny_corpus, tmp_path):
    def command(name, epochs):
        return ["train", "small-real", *options(tiny_corpus, tmp_path / name, epochs=epochs)]

    process = subprocess.Popen([*PROGRAM, *command("parts", 1000), "--quiet"])
    deadline = time.monotonic() + 120
    while not list((tmp_path / "parts" / "last").glob("*.json")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = len((tmp_path / "parts" / "metrics.jsonl").read_text().splitlines())
    for name in ("parts", "whole"):
        status, _, err = run_command(capsys, *command(name, done + 2))
        assert status == 0, err
    assert outcome(tmp_path / "parts") == outcome(tmp_path / "whole")


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_run_stopped_within_an_epoch_carries_its_state_on(tiny_corpus, tmp_path, accumulate):
    corpus = load_corpus(str(tiny_corpus), progress=False)
    settings = Settings(
        data=str(tiny_corpus), network="own", tied=True, alpha=2.0, accumulate=accumulate,
        **{**TINY, "epochs": 1},
    )  # fmt: skip
    train(settings, corpus, tmp_path / "whole")
    with pytest.raises(Stopped):
        train(
            settings, corpus, tmp_path / "parts", stop_requested=iter([False] * 7 + [True]).__next__
        )
    train(settings, corpus, tmp_path / "parts")
    assert outcome(tmp_path / "parts") == outcome(tmp_path / "whole")


def test_two_processes_have_the_curve_of_one(capsys, tiny_corpus, tmp_path):
    def arguments(name):
        return ["train", "small-real", *options(tiny_corpus, tmp_path / name, epochs=1, alpha=2)]

    assert run_command(capsys, *arguments("one"))[0] == 0
    done = subprocess.run(
        [*TORCHRUN, *arguments("two")], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    (_, one, _), (_, two, _) = (outcome(tmp_path / name) for name in ("one", "two"))
    for a, b in zip(one, two, strict=True):
        for key in ("train_ppl", "valid_ppl", "aug"):
            assert b[key] == pytest.approx(a[key], rel=1e-5)


def test_perplexity_does_not_depend_on_the_window_or_on_how_many_streams_are_read(
    capsys, monkeypatch, real
):
    expected = outcome(real)[2]["test_ppl"]
    for least in (10**9, 1):  # one stream; segments side by side
        monkeypatch.setattr(segments, "LEAST_LENGTH", least)
        for window in (3, 50, 1000):
            arguments = ("evaluate", real, "--window", window, "--json")
            out = json.loads(run_command(capsys, *arguments)[1])
            assert out["perplexity"] == pytest.approx(expected, rel=1e-5)


def test_a_network_that_does_not_forget_is_read_as_one_stream(monkeypatch, real):
    model = load(real)
    assert segments.segments_for(model, 10**9) > 1
    monkeypatch.setattr(own_network.OwnNetwork, "forgets", False)
    assert segments.segments_for(model, 10**9) == 1


def test_monte_carlo_dropout_samples_its_masks(capsys, real):
    status, out, err = run_command(capsys, "evaluate", real, "--mc", 2, "--json")
    assert status == 0, err
    exact = outcome(real)[2]["test_ppl"]
    assert json.loads(out)["perplexity"] == pytest.approx(exact, rel=0.5)
    assert json.loads(out)["perplexity"] != pytest.approx(exact, rel=1e-6)


def table(text):
    """Return the surprisals of a table, NaN for NA."""
    rows = csv.DictReader(io.StringIO(text), delimiter="\t")
    return np.array([float(row["surprisal"].replace("NA", "nan")) for row in rows])


def test_scores_equal_evaluate_for_any_batch(capsys, monkeypatch, tiny_corpus, real):
    text = tiny_corpus / "test.txt"
    document = table(run_command(capsys, "score", real, text, "--unit", "document")[1])
    corpus = load_corpus(str(tiny_corpus), progress=False)
    expected = evaluate(load(real), corpus.test).bits_per_word
    assert np.nanmean(document) == pytest.approx(expected, rel=1e-4)
    together = table(run_command(capsys, "score", real, text)[1])
    monkeypatch.setattr(surprisal, "BATCH", 1)
    np.testing.assert_allclose(table(run_command(capsys, "score", real, text)[1]), together)


def test_it_adapts_while_it_reads(capsys, tiny_corpus, real):
    text = tiny_corpus / "test.txt"
    status, out, err = run_command(capsys, "score", real, text, "--adapt", "--adapt-lr", 0.5)
    assert status == 0, err
    adapted, fixed = table(out), table(run_command(capsys, "score", real, text)[1])
    np.testing.assert_allclose(adapted[:8], fixed[:8])  # a sentence is scored before it is learned
    assert abs(adapted[8:] - fixed[8:]).max() > 1e-3


def test_n_best_lists_are_scored_prefix_by_prefix_as_sentence_by_sentence(
    capsys, tmp_path, tiny_corpus, real
):
    said = (tiny_corpus / "test.txt").read_text().splitlines()[:3]
    texts = [*said, " ".join(reversed(said[0].split()))]
    hypotheses = [{"text": text, "score": 0.0} for text in texts]
    (tmp_path / "lists.jsonl").write_text(json.dumps({"id": "u", "hypotheses": hypotheses}) + "\n")
    (tmp_path / "lines.txt").write_text("".join(text + "\n" for text in texts))
    status, out, err = run_command(capsys, "rescore", real, tmp_path / "lists.jsonl", "--json")
    assert status == 0, err
    found = {h["text"]: h["log_prob"] for h in json.loads(out)["hypotheses"]}
    scores = table(run_command(capsys, "score", real, tmp_path / "lines.txt", "--base", "e")[1])
    for text, nats in zip(texts, scores.reshape(4, -1).sum(1), strict=True):
        assert found[text] == pytest.approx(-nats, rel=1e-5)


def test_it_predicts_and_generates(capsys, real):
    status, out, err = run_command(capsys, "predict", real, "the cat", "--json", "--top", 3)
    assert status == 0, err
    assert {word["word"] for word in json.loads(out)} & {"sees", "hears"}
    texts = [run_command(capsys, "generate", real, "--words", 12)[1] for _ in range(2)]
    assert texts[0] == texts[1]
    assert set(texts[0].split()) <= set(load(real).vocabulary.words)


@pytest.mark.parametrize("to", ["hf", "onnx"])
def test_export_refuses_it(capsys, tmp_path, real, to):
    status, _, err = run_command(capsys, "export", real, "--to", to, tmp_path / "exported")
    assert status == 2
    assert "and this run has own; tiedlm.load reads it in Python" in err
    assert not (tmp_path / "exported").exists()


def test_where_it_is_not_registered_the_known_ones_are_named(
    capsys, monkeypatch, tiny_corpus, tmp_path, real
):
    known = {"lstm": network.builder_of("lstm")}
    monkeypatch.setattr(network, "_BUILDERS", known)
    arguments = options(tiny_corpus, tmp_path / "run")
    for command in (("train", "small", *arguments), ("predict", real, "the cat")):
        status, _, err = run_command(capsys, *command)
        assert status == 2
        assert "network 'own' is not registered; known: lstm" in err
    assert not (tmp_path / "run").exists()


def test_a_run_of_one_network_cannot_be_resumed_with_another(capsys, tiny_corpus, tmp_path, real):
    other = options(tiny_corpus, real, network="lstm", alpha=2)
    status, _, err = run_command(capsys, "train", "small-real", *other)
    assert status == 2
    assert "network: 'own' -> 'lstm'" in err
    fresh = options(tiny_corpus, tmp_path / "run", network="lstm")
    status, _, err = run_command(capsys, "train", "small-real", *fresh, "--init-from", real)
    assert status == 2
    assert "has network own, this run lstm" in err


def test_the_network_of_the_documentation_works(monkeypatch):
    monkeypatch.setattr(network, "_BUILDERS", dict(network._BUILDERS))
    page = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
    (code,) = blocks(page, "python")
    names = {}
    exec(compile(code, "docs/training.md", "exec"), names)
    assert names["hidden"].shape == (2, 5, 64)
    assert names["config"].num_params() == 1000 * 64 + 2 * 6 * 64 * 65
