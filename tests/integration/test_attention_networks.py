"""Networks with a memory of words, in the commands: what must hold for every network."""

import json
import subprocess
import sys

import numpy as np
import pytest

from tests_support import kill_when_saved, outcome, run_command, surprisals
from tiedlm import load
from tiedlm.cli import main
from tiedlm.data import load_corpus
from tiedlm.evaluation import evaluate, segments
from tiedlm.scoring import surprisal
from tiedlm.training.loop import train
from tiedlm.training.outcomes import Stopped
from tiedlm.training.settings import Settings
from tiedlm.tying import is_tied

OPTIONS = {
    "transformer": {"n_heads": 2, "memory": 7, "dropout_attention": 0.1},
    "encoder": {"n_heads": 2, "d_inner": 10, "context": 6},
}
TINY = {
    "d_embed": 12, "d_hidden": 12, "dropout_input": 0.1, "dropout_hidden": 0.2, "init_range": 0.1,
    "temperature": 5.0, "batch_size": 4, "bptt": 5, "epochs": 2, "lr": 0.1, "clip": 1.0,
    "threads": 1,
}  # fmt: skip


def arguments(network, corpus, out, **changes):
    """Return the arguments of ``tiedlm train``."""
    named = {**TINY, "network": network, "data": corpus, "out": out, "alpha": 2, **changes}
    given = [f"--option={name}={value}" for name, value in OPTIONS[network].items()]
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in named.items()]
    return ["train", "small-real", *flags, *given, "--quiet"]


@pytest.fixture(scope="module", params=OPTIONS)
def real(request, tiny_corpus, tmp_path_factory):
    """Return the folder of a run."""
    folder = tmp_path_factory.mktemp(request.param)
    main(arguments(request.param, tiny_corpus, folder / "run"))
    return folder / "run"


def test_it_learns_tied_and_is_counted(real):
    _, lines, result = outcome(real)
    model = load(real)
    assert is_tied(model.embedding, model.decoder)
    assert result["valid_ppl"] < len(model.vocabulary) * 0.8
    assert lines[-1]["aug"] > 0
    assert result["parameters"] == model.config.num_params() == model.num_params()


@pytest.mark.parametrize("network", OPTIONS)
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_run_stopped_within_an_epoch_carries_its_memory_on(
    tiny_corpus, tmp_path, network, accumulate
):
    corpus = load_corpus(str(tiny_corpus), progress=False)
    settings = Settings(
        data=str(tiny_corpus), network=network, tied=True, alpha=2.0, accumulate=accumulate,
        options=OPTIONS[network], **{**TINY, "epochs": 1},
    )  # fmt: skip
    train(settings, corpus, tmp_path / "whole")
    with pytest.raises(Stopped):
        train(
            settings, corpus, tmp_path / "parts", stop_requested=iter([False] * 7 + [True]).__next__
        )
    train(settings, corpus, tmp_path / "parts")
    assert outcome(tmp_path / "parts") == outcome(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("network", OPTIONS)
def test_a_killed_run_goes_on_bit_for_bit(capsys, tiny_corpus, tmp_path, network):
    command = arguments(network, tiny_corpus, tmp_path / "parts", epochs=1000)
    done = kill_when_saved([sys.executable, "-m", "tiedlm", *command], tmp_path / "parts")
    for name in ("parts", "whole"):
        command = arguments(network, tiny_corpus, tmp_path / name, epochs=done + 2)
        status, _, err = run_command(capsys, *command)
        assert status == 0, err
    assert outcome(tmp_path / "parts") == outcome(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("network", OPTIONS)
def test_two_processes_have_the_curve_of_one(capsys, tiny_corpus, tmp_path, network):
    one, two = (arguments(network, tiny_corpus, tmp_path / name) for name in ("one", "two"))
    assert run_command(capsys, *one)[0] == 0
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "tiedlm"]
    done = subprocess.run(
        [sys.executable, *torchrun, *two], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    for a, b in zip(*(outcome(tmp_path / name)[1] for name in ("one", "two")), strict=True):
        for key in ("train_ppl", "valid_ppl", "aug"):
            assert b[key] == pytest.approx(a[key], rel=1e-5)


def test_perplexity_does_not_depend_on_the_window_and_the_text_is_one_stream(capsys, real):
    expected = outcome(real)[2]["test_ppl"]
    for window in (1, 50, 1000):
        out = json.loads(run_command(capsys, "evaluate", real, "--window", window, "--json")[1])
        assert out["perplexity"] == pytest.approx(expected, rel=1e-5)
    assert segments.segments_for(load(real), 10**9) == 1


def test_scores_are_those_of_evaluate_and_of_any_batch(capsys, monkeypatch, tiny_corpus, real):
    text = tiny_corpus / "test.txt"
    document = surprisals(run_command(capsys, "score", real, text, "--unit", "document")[1])
    corpus = load_corpus(str(tiny_corpus), progress=False)
    expected = evaluate(load(real), corpus.test).bits_per_word
    assert np.nanmean(document) == pytest.approx(expected, rel=1e-4)
    together = surprisals(run_command(capsys, "score", real, text)[1])
    monkeypatch.setattr(surprisal, "BATCH", 1)
    alone = surprisals(run_command(capsys, "score", real, text)[1])
    np.testing.assert_allclose(alone, together, rtol=1e-5)


def test_it_adapts_while_it_reads(capsys, tiny_corpus, real):
    text = tiny_corpus / "test.txt"
    status, out, err = run_command(capsys, "score", real, text, "--adapt", "--adapt-lr", 0.1)
    assert status == 0, err
    adapted, fixed = surprisals(out), surprisals(run_command(capsys, "score", real, text)[1])
    np.testing.assert_allclose(adapted[:8], fixed[:8], rtol=1e-5)
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
    scores = surprisals(
        run_command(capsys, "score", real, tmp_path / "lines.txt", "--base", "e")[1]
    )
    for text, nats in zip(texts, scores.reshape(4, -1).sum(1), strict=True):
        assert found[text] == pytest.approx(-nats, rel=1e-5)


def test_it_predicts_and_generates(capsys, real):
    status, out, err = run_command(capsys, "predict", real, "the cat", "--json", "--top", 3)
    assert status == 0, err
    assert len(json.loads(out)) == 3
    texts = [run_command(capsys, "generate", real, "--words", 12)[1] for _ in range(2)]
    assert texts[0] == texts[1]
    assert set(texts[0].split()) <= set(load(real).vocabulary.words)


@pytest.mark.parametrize(
    ("network", "given", "says"),
    [
        ("transformer", "n_heads=4", "option n_heads: expected a divisor of d_hidden = 12"),
        ("transformer", "memory=0", "option memory: expected at least 1, got 0"),
        ("transformer", "dropout_feedforward=1", "dropout_feedforward is the probability of drop"),
        ("encoder", "context=1", "option context: expected at least 2, got 1"),
    ],
)
def test_a_wrong_option_is_one_line_and_nothing_is_written(
    capsys, tiny_corpus, tmp_path, monkeypatch, network, given, says
):
    name = given.partition("=")[0]
    others = {one: value for one, value in OPTIONS[network].items() if one != name}
    monkeypatch.setitem(OPTIONS, network, others)
    command = arguments(network, tiny_corpus, tmp_path / "run")
    status, _, err = run_command(capsys, *command, "--option", given)
    assert (status, err.count("\n")) == (2, 1)
    assert says in err
    assert not (tmp_path / "run").exists()
