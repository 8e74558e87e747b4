"""Whole training runs write the right files and survive interruptions and damage."""

import contextlib
import dataclasses
import errno
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import torch

from tests_support import outcome
from tiedlm import load
from tiedlm.data import load_corpus
from tiedlm.errors import UserError
from tiedlm.evaluation import evaluate
from tiedlm.files import text_file, write_json
from tiedlm.matmul import kinds, weights
from tiedlm.native import routes
from tiedlm.native.processor import has_fast_bf16
from tiedlm.progress import ProgressView, Silent
from tiedlm.training import checkpoint, held_out, loop, resume, updater
from tiedlm.training.checkpoint import restore_checkpoint
from tiedlm.training.distributed import Ranks
from tiedlm.training.hardware import arithmetic_of, threads_of
from tiedlm.training.loop import train
from tiedlm.training.outcomes import Diverged, Stopped
from tiedlm.training.run import load_weights, save_weights
from tiedlm.training.run_files import read_config
from tiedlm.training.settings import Settings
from tiedlm.training.windows import FEW_UPDATES, Windows
from tiedlm.tying import is_tied

TINY = {
    "d_embed": 12, "d_hidden": 12, "dropout_input": 0.2, "dropout_hidden": 0.2, "tied": True,
    "alpha": 2.0, "temperature": 5.0, "batch_size": 4, "bptt": 5, "epochs": 3, "decay_after": 1,
    "threads": 1,
}  # fmt: skip


@pytest.fixture
def settings(tiny_corpus):
    return Settings(data=str(tiny_corpus), **TINY)


@pytest.fixture
def corpus(tiny_corpus):
    return load_corpus(str(tiny_corpus), progress=False)


def test_a_run_folder_holds_the_promised_files(settings, corpus, tmp_path):
    result = train(settings, corpus, tmp_path)
    names = {path.name for path in tmp_path.iterdir()} - {".lock"}
    assert names == {
        "config.json", "vocabulary.txt", "model.safetensors", "metrics.jsonl", "env.json",
        "result.json", "last",
    }  # fmt: skip
    assert json.loads((tmp_path / "result.json").read_text()) == result
    needed = {"recipe", "seed", "valid_ppl", "test_ppl", "tokens", "parameters", "epochs",
              "seconds"}  # fmt: skip
    assert needed <= result.keys()
    config = json.loads((tmp_path / "config.json").read_text())
    assert Settings.from_dict(config["settings"]) == settings
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    needed = {"epoch", "step", "tokens", "lr", "train_ppl", "valid_ppl", "seconds"}
    assert all(needed <= line.keys() for line in lines)
    assert [line["lr"] for line in lines] == [settings.lr_at(e) for e in (1, 2, 3)]
    words = (tmp_path / "vocabulary.txt").read_text().splitlines()
    assert tuple(words) == corpus.vocabulary.words


def test_loaded_model_is_the_best_one_and_has_its_perplexity(settings, corpus, tmp_path):
    result = train(settings, corpus, tmp_path)
    model = load(tmp_path)
    assert is_tied(model.embedding, model.decoder)
    assert model.vocabulary == corpus.vocabulary
    assert not model.training
    with threads_of(settings), arithmetic_of(settings, torch.device("cpu")):
        assert evaluate(model, corpus.valid).perplexity == result["valid_ppl"]
        assert evaluate(model, corpus.test).perplexity == result["test_ppl"]
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert result["valid_ppl"] == min(line["valid_ppl"] for line in lines)


def test_training_learns(settings, corpus, tmp_path):
    result = train(settings.replace(epochs=8, decay_after=8), corpus, tmp_path)
    assert result["valid_ppl"] < len(corpus.vocabulary) / 2


def test_word_vectors_are_held_at_norm_one_and_move(settings, corpus, tmp_path):
    alone = settings.replace(unit_norm=True, ce_weight=0.0, alpha=13.0)
    weights = []
    for lr in (1e-9, 1.0):
        train(alone.replace(lr=lr, epochs=1), corpus, tmp_path / f"{lr}")
        weights.append(load(tmp_path / f"{lr}").embedding.weight)
        torch.testing.assert_close(weights[-1].norm(dim=1), torch.ones(len(weights[-1])))
    assert (weights[0] - weights[1]).abs().max() > 1e-4


def test_a_tied_tensor_is_stored_once(settings, corpus, tmp_path):
    train(settings.replace(epochs=1), corpus, tmp_path)
    model = load(tmp_path)
    size = (tmp_path / "model.safetensors").stat().st_size
    assert 4 * model.num_params() <= size < 4 * model.num_params() + 2000


def test_same_seed_gives_the_same_run_bit_for_bit_and_another_seed_another(
    settings, corpus, tmp_path
):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train(settings.replace(seed=seed), corpus, tmp_path / name)
    a, b, c = (outcome(tmp_path / name) for name in "abc")
    assert a == b
    assert a[0] != c[0]


@pytest.fixture(scope="module")
def uninterrupted(tiny_corpus, tmp_path_factory):
    out = tmp_path_factory.mktemp("uninterrupted")
    corpus = load_corpus(str(tiny_corpus), progress=False)
    train(Settings(data=str(tiny_corpus), **TINY), corpus, out)
    return outcome(out)


@pytest.mark.parametrize("steps", [1, 7, 43, 44, 45, 100])
def test_a_stopped_run_resumes_bit_for_bit(settings, corpus, tmp_path, uninterrupted, steps):
    count = 0

    def stop_now():
        nonlocal count
        count += 1
        return count == steps

    with pytest.raises(Stopped, match="the same command continues"):
        train(settings, corpus, tmp_path / "parts", should_stop=stop_now)
    torch.manual_seed(12345)  # whatever random state the next process has
    train(settings, corpus, tmp_path / "parts")
    assert outcome(tmp_path / "parts") == uninterrupted


def test_a_run_from_before_networks_had_names_resumes_bit_for_bit(settings, corpus, tmp_path):
    train(settings, corpus, tmp_path / "whole")
    stop = iter([False] * 50 + [True]).__next__
    with pytest.raises(Stopped):
        train(settings, corpus, tmp_path / "parts", should_stop=stop)
    config = json.loads((tmp_path / "parts" / "config.json").read_text())
    for part in ("settings", "model"):
        assert config[part].pop("network") == "lstm"
    (tmp_path / "parts" / "config.json").write_text(json.dumps(config))
    train(settings, corpus, tmp_path / "parts")
    assert outcome(tmp_path / "parts") == outcome(tmp_path / "whole")


def test_a_run_with_an_averaged_soft_target_resumes_bit_for_bit(settings, corpus, tmp_path):
    settings = settings.replace(soft_target="average")
    train(settings, corpus, tmp_path / "whole")
    with pytest.raises(Stopped):
        train(
            settings,
            corpus,
            tmp_path / "parts",
            should_stop=iter([False] * 50 + [True]).__next__,
        )
    train(settings, corpus, tmp_path / "parts")
    assert outcome(tmp_path / "parts") == outcome(tmp_path / "whole")


def test_a_frozen_soft_target_stays_fixed_when_its_run_is_trained_further(
    settings, corpus, tmp_path
):
    source = tmp_path / "source"
    train(settings.replace(epochs=1), corpus, source)
    frozen = settings.replace(soft_target="frozen", soft_target_from=str(source))
    train(frozen, corpus, tmp_path / "whole")
    stop = iter([False] * 50 + [True]).__next__
    with pytest.raises(Stopped):
        train(frozen, corpus, tmp_path / "parts", should_stop=stop)
    shutil.copytree(tmp_path / "parts", tmp_path / "parts2")
    train(settings.replace(epochs=3), corpus, source)
    train(frozen, corpus, tmp_path / "parts")
    assert outcome(tmp_path / "parts") == outcome(tmp_path / "whole")
    (source / "result.json").unlink()  # as while it is trained further
    train(frozen, corpus, tmp_path / "parts2")
    assert outcome(tmp_path / "parts2") == outcome(tmp_path / "whole")
    with pytest.raises(UserError, match="is not a finished run"):
        train(frozen, corpus, tmp_path / "anew")
    (source / "result.json").write_text("{}")
    with pytest.raises(UserError, match=r"other settings \(soft_target_from: '.*' -> '.*'\)"):
        train(frozen.replace(soft_target_from=str(tmp_path / "whole")), corpus, tmp_path / "parts")


def test_the_record_of_how_a_finished_run_was_trained_is_kept(
    settings, corpus, tmp_path, monkeypatch
):
    def described(name):
        return json.loads((tmp_path / "run" / name).read_text())

    train(settings, corpus, tmp_path / "run")
    before = described("config.json"), described("env.json")
    monkeypatch.setattr(loop.run, "environment", lambda *_: {"processor": "another"})
    train(settings.replace(epochs=2, threads=2), corpus, tmp_path / "run")
    assert (described("config.json"), described("env.json")) == before
    train(settings.replace(data="elsewhere"), corpus, tmp_path / "run")
    assert described("config.json")["settings"]["data"] == "elsewhere"
    assert described("env.json") == before[1]
    train(settings.replace(epochs=4), corpus, tmp_path / "run")  # trains on
    assert described("config.json")["settings"]["epochs"] == 4
    now = {"processor": "another", "processes": 1}
    assert described("env.json") == {**now, "earlier": [before[1]]}


def test_a_finished_run_is_not_trained_again(settings, corpus, tmp_path, monkeypatch):
    result = train(settings, corpus, tmp_path)
    monkeypatch.setattr(updater, "train_step", None)  # a step would raise
    assert train(settings, corpus, tmp_path) == result


def test_a_finished_run_whose_model_is_damaged_says_so(settings, corpus, tmp_path):
    class Lines(Silent):
        def line(self, text):
            lines.append(text)

    lines = []
    result = train(settings, corpus, tmp_path)
    assert train(settings, corpus, tmp_path, watcher=Lines()) == result
    assert not [line for line in lines if "lost" in line]
    (tmp_path / "model.safetensors").write_bytes(b"cut")
    assert train(settings, corpus, tmp_path, watcher=Lines()) == result
    assert "the run is finished, but its model is lost" in lines[-1]


def test_more_epochs_continue_where_fewer_ended(settings, corpus, tmp_path):
    train(settings.replace(epochs=2), corpus, tmp_path / "grown")
    train(settings.replace(epochs=3), corpus, tmp_path / "grown")
    train(settings.replace(epochs=3), corpus, tmp_path / "whole")
    assert outcome(tmp_path / "grown") == outcome(tmp_path / "whole")


def test_a_run_cannot_end_before_the_epochs_it_has_trained(settings, corpus, tmp_path):
    with pytest.raises(Stopped):  # in the third
        train(settings, corpus, tmp_path, should_stop=iter([False] * 100 + [True]).__next__)
    with pytest.raises(UserError, match="has trained 2 epochs, more than --epochs 1;"):
        train(settings.replace(epochs=1), corpus, tmp_path)
    assert Settings.of_run(tmp_path).epochs == 3
    assert train(settings.replace(epochs=2), corpus, tmp_path)["epochs"] == 2
    assert Settings.of_run(tmp_path).epochs == 2


def test_the_old_result_is_removed_before_the_configuration_asks_for_more_epochs(
    settings, corpus, tmp_path, monkeypatch
):
    train(settings.replace(epochs=1), corpus, tmp_path)
    written = []

    def write(path, value):
        written.append(path.name)
        assert not (tmp_path / "result.json").exists()
        raise UserError("the disk is full")

    monkeypatch.setattr(resume, "write_json", write)
    with pytest.raises(UserError, match="full"):
        train(settings.replace(epochs=2), corpus, tmp_path)
    assert written == ["config.json"]


def test_the_same_text_under_another_name_is_the_same_corpus(settings, corpus, tmp_path):
    info = {**corpus.info, "verified": True, "split": "as published", "name": "x", "origin": "y"}
    train(settings.replace(epochs=1), dataclasses.replace(corpus, info=info), tmp_path)
    assert train(settings.replace(epochs=2), corpus, tmp_path)["epochs"] == 2


def test_resuming_with_other_settings_is_refused_and_names_them(settings, corpus, tmp_path):
    train(settings.replace(epochs=1), corpus, tmp_path)
    before = outcome(tmp_path)
    with pytest.raises(UserError, match=r"other settings \(alpha: 2.0 -> 3.0; lr: 1.0 -> 0.5\)"):
        train(settings.replace(epochs=1, lr=0.5, alpha=3.0), corpus, tmp_path)
    assert outcome(tmp_path) == before


def test_a_run_from_before_a_setting_existed_resumes(settings, corpus, tmp_path):
    train(settings.replace(epochs=1), corpus, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["settings"]["accumulate"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert train(settings, corpus, tmp_path)["epochs"] == settings.epochs


@pytest.mark.parametrize(
    ("name", "epochs", "content"),
    [
        ("config.json", 2, '{"settings": {}}'),
        ("config.json", 1, '{"settings": {}, "model": {}, "corpus": null}'),
        ("result.json", 1, "{}"),
        ("result.json", 1, "3"),
        ("env.json", 2, "[]"),
    ],
)
def test_a_file_that_is_not_a_runs_is_named_and_nothing_is_changed(
    settings, corpus, tmp_path, name, epochs, content
):
    train(settings.replace(epochs=1), corpus, tmp_path)
    (tmp_path / name).write_text(content)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file() and p.suffix}
    with pytest.raises(UserError, match=rf"{name} is not a run's"):
        train(settings.replace(epochs=epochs), corpus, tmp_path)
    assert {path: path.read_bytes() for path in before} == before


def test_a_run_resumes_with_a_default_spelled_out(settings, corpus, tmp_path):
    train(settings.replace(epochs=1), corpus, tmp_path)
    spelled = settings.replace(precision="fp32", decoder_bias=False)
    assert train(spelled, corpus, tmp_path)["epochs"] == settings.epochs


def test_another_corpus_is_refused(settings, corpus, tmp_path, tiny_corpus):
    train(settings.replace(epochs=1), corpus, tmp_path / "run")
    text = (tiny_corpus / "train.txt").read_text()
    other = tmp_path / "other"
    other.mkdir()
    for split in ("train", "valid", "test"):
        (other / f"{split}.txt").write_text(text + "one more line .\n")
    changed = load_corpus(str(other), progress=False)
    with pytest.raises(UserError, match="other settings"):
        train(settings.replace(epochs=1), changed, tmp_path / "run")


@pytest.mark.parametrize("part", ["valid", "test"])
def test_a_part_of_one_token_is_refused_before_training(settings, corpus, tmp_path, part):
    short = dataclasses.replace(corpus, **{part: corpus.valid[:1]})
    with pytest.raises(UserError, match=f"the {part} text of .* has 1 tokens"):
        train(settings, short, tmp_path)
    assert not (tmp_path / "metrics.jsonl").exists()


def test_a_text_too_short_for_its_batch_is_reported_once(settings, corpus, tmp_path, capsys):
    enough = len(corpus.train) // (settings.bptt * FEW_UPDATES) - 1
    for batch_size, is_short in ((enough, False), (enough * 2, True)):
        own = settings.replace(batch_size=batch_size, epochs=1)
        for _ in range(2):
            with ProgressView() as view:
                train(own, corpus, tmp_path / str(batch_size), watcher=view.watcher())
            assert ("a short text: " in capsys.readouterr().err) == is_short
            is_short = False


def test_a_warm_up_longer_than_the_training_is_reported(settings, corpus, tmp_path, capsys):
    updates = 2 * len(Windows(corpus, settings, Ranks(), torch.device("cpu")))
    for warmup, is_long in ((updates, True), (updates - 1, False)):
        own = settings.replace(epochs=2, warmup=warmup)
        with ProgressView() as view:
            train(own, corpus, tmp_path / str(warmup), watcher=view.watcher())
        err = capsys.readouterr().err
        assert (f"--epochs 2 makes {updates} updates" in err) == is_long


def test_patience_stops_a_run_that_no_longer_improves(settings, corpus, tmp_path):
    # With a learning rate this small, no epoch is better.

    stuck = settings.replace(lr=1e-30, epochs=50, patience=2)
    result = train(stuck, corpus, tmp_path)
    assert result["best_epoch"] == 1
    assert result["epochs"] == 3


def test_a_second_session_starts_from_the_best_weights(settings, corpus, tmp_path):
    first = train(settings, corpus, tmp_path / "first")
    second = settings.replace(init_from=str(tmp_path / "first"), epochs=1, lr=1e-30)
    result = train(second, corpus, tmp_path / "second")
    assert result["valid_ppl"] == pytest.approx(first["valid_ppl"], rel=1e-6)
    shutil.rmtree(tmp_path / "first")  # its checkpoint is enough to resume
    assert train(second.replace(epochs=2), corpus, tmp_path / "second")["epochs"] == 2


@pytest.fixture
def second(settings, corpus, tmp_path):
    """Return the settings of a second session of the run "first"; "other" is another run."""
    short = settings.replace(epochs=1)
    for name, seed in (("first", 1), ("other", 2)):
        train(short.replace(seed=seed), corpus, tmp_path / name)
    return short.replace(init_from=str(tmp_path / "first"))


def test_a_second_session_knows_the_run_that_it_began_from_in_a_new_place(second, corpus, tmp_path):
    train(second, corpus, tmp_path / "second")
    before = (tmp_path / "second" / "config.json").read_bytes()
    (tmp_path / "first").rename(tmp_path / "moved")
    for place, message in (("other", "is another run"), ("nowhere", "is not the folder of a run")):
        changed = second.replace(epochs=2, init_from=str(tmp_path / place))
        with pytest.raises(UserError, match=rf"init_from: .*{place} {message}"):
            train(changed, corpus, tmp_path / "second")
        assert (tmp_path / "second" / "config.json").read_bytes() == before
    moved = second.replace(epochs=2, init_from=str(tmp_path / "moved"))
    assert train(moved, corpus, tmp_path / "second")["epochs"] == 2
    ids = [read_config(tmp_path / name) for name in ("moved", "second")]
    assert ids[0]["id"] == ids[1]["began_from"]


def test_a_second_session_that_begins_again_names_the_run_that_it_begins_from_now(
    second, corpus, tmp_path
):
    with pytest.raises(Stopped):
        train(second, corpus, tmp_path / "second", should_stop=lambda: True)
    for folder in (tmp_path / "second" / "last", tmp_path / "first"):
        shutil.rmtree(folder)
    (tmp_path / "other").rename(tmp_path / "first")
    train(second, corpus, tmp_path / "second")
    ids = [read_config(tmp_path / name) for name in ("first", "second")]
    assert ids[0]["id"] == ids[1]["began_from"]


def test_a_stop_in_the_last_step_of_an_epoch_comes_before_the_validation(
    settings, corpus, tmp_path, monkeypatch
):
    train(settings, corpus, tmp_path / "whole")
    steps = json.loads((tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()[0])["step"]
    trained = []
    watcher = Silent()
    watcher.step = lambda *arguments: trained.append(arguments)
    with monkeypatch.context() as patch:
        patch.setattr(held_out, "evaluate", lambda *arguments: pytest.fail("it was validated"))
        with pytest.raises(Stopped, match=f"epoch 1, step {steps}"):
            train(
                settings, corpus, tmp_path / "run", watcher=watcher,
                should_stop=lambda: len(trained) == steps,
            )  # fmt: skip
    train(settings, corpus, tmp_path / "run")
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")


def test_a_model_that_cannot_be_made_is_one_line(settings, corpus, tmp_path):
    for changes in ({"n_layers": 1001}, {"d_embed": 10**9, "d_hidden": 10**9}):
        with pytest.raises(UserError, match=r"a model of these settings cannot be made here: \S"):
            train(settings.replace(**changes), corpus, tmp_path / "run")
    assert not (tmp_path / "run" / "config.json").exists()


def test_a_damaged_newest_checkpoint_is_skipped(settings, corpus, tmp_path):
    train(settings, corpus, tmp_path / "whole")
    train(settings.replace(epochs=2), corpus, tmp_path / "hurt")
    newest = max((tmp_path / "hurt" / "last").glob("*.safetensors"))
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1
    newest.write_bytes(data)
    train(settings, corpus, tmp_path / "hurt")
    assert outcome(tmp_path / "hurt") == outcome(tmp_path / "whole")


def test_the_products_of_a_checkpoint_with_a_damaged_description_are_not_used(
    settings, corpus, tmp_path
):
    train(settings.replace(epochs=2), corpus, tmp_path)
    last = tmp_path / "last"
    oldest, newest = sorted(last.glob("*.json"))
    newest.write_text(newest.read_text().replace('"machine"', '"lachine"'))
    assert checkpoint.products_of(last) == json.loads(oldest.read_text())["products"]
    assert train(settings, corpus, tmp_path)["epochs"] == settings.epochs


def test_when_every_checkpoint_is_damaged_the_run_is_refused(settings, corpus, tmp_path):
    train(settings.replace(epochs=2), corpus, tmp_path)
    for path in (tmp_path / "last").glob("*.safetensors"):
        path.write_bytes(b"nothing")
    with pytest.raises(UserError, match="no checkpoint is sound"):
        train(settings, corpus, tmp_path)


def test_a_sound_checkpoint_is_never_overwritten(settings, corpus, tmp_path, monkeypatch):
    """A stop at the end of an epoch and the epoch's end save at the same step."""
    one_window = settings.replace(bptt=10_000)
    train(one_window, corpus, tmp_path / "whole")
    out = tmp_path / "killed"
    with pytest.raises(Stopped):
        train(one_window, corpus, out, should_stop=lambda: True)
    real = checkpoint.write_json

    def killed(path, value):
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "write_json", killed)
    with pytest.raises(KeyboardInterrupt):
        train(one_window, corpus, out)
    monkeypatch.setattr(checkpoint, "write_json", real)
    train(one_window, corpus, out)
    assert outcome(out) == outcome(tmp_path / "whole")


def test_half_written_files_of_a_killed_process_are_removed(settings, corpus, tmp_path):
    train(settings.replace(epochs=1), corpus, tmp_path)
    for folder in (tmp_path, tmp_path / "last"):
        (folder / ".model.safetensors.123-abc.tmp").write_bytes(b"half")
    train(settings, corpus, tmp_path)
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_file_that_another_command_writes_into_the_folder_is_left_alone(
    settings, corpus, tmp_path
):
    """As `tiedlm score RUN TEXT --out RUN/scores.tsv` does for hours."""
    train(settings.replace(epochs=1), corpus, tmp_path)
    with text_file(tmp_path / "scores.tsv") as file:
        train(settings.replace(epochs=1), corpus, tmp_path)
        file.write("scores")
    assert (tmp_path / "scores.tsv").read_text() == "scores"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_during_the_final_evaluation_is_a_stop(
    settings, corpus, tmp_path, monkeypatch, number
):
    train(settings, corpus, tmp_path / "whole")
    real = held_out.evaluate
    calls = []

    def signalled(*arguments):
        calls.append(arguments)
        if len(calls) == settings.epochs + 1:  # the validation of the best model
            os.kill(os.getpid(), number)
        return real(*arguments)

    monkeypatch.setattr(held_out, "evaluate", signalled)
    with pytest.raises(Stopped, match="before the perplexity of its test text"):
        train(settings, corpus, tmp_path / "run")
    assert len(calls) == settings.epochs + 1
    train(settings, corpus, tmp_path / "run")
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")


def test_a_file_system_without_locks_is_one_line(settings, corpus, tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", flock)
    with pytest.raises(UserError, match=r"\.lock cannot be locked: No locks available; choose"):
        train(settings, corpus, tmp_path)


def test_two_checkpoints_are_kept(settings, corpus, tmp_path):
    train(settings, corpus, tmp_path, save_every=0)
    assert len(list((tmp_path / "last").iterdir())) == 4  # two of two files each


def test_a_diverging_run_keeps_its_best_model(settings, corpus, tmp_path, monkeypatch):
    train(settings.replace(epochs=1), corpus, tmp_path)
    good = (tmp_path / "model.safetensors").read_bytes()
    real_step = updater.train_step

    def explode(objective, *arguments):
        with torch.no_grad():
            objective.model.embedding.weight[0] = torch.nan
        return real_step(objective, *arguments)

    monkeypatch.setattr(updater, "train_step", explode)
    with pytest.raises(Diverged, match=r"epoch 2, step \d+: loss nan.*checkpoint in .* is kept"):
        train(settings, corpus, tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == good
    monkeypatch.undo()
    train(settings, corpus, tmp_path)


def test_an_infinite_training_perplexity_is_divergence(settings, corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "perplexity", lambda *_: math.inf)
    with pytest.raises(Diverged, match="epoch 1, training perplexity is inf; nothing is saved"):
        train(settings, corpus, tmp_path)


def test_an_infinite_perplexity_of_the_test_text_is_divergence(
    settings, corpus, tmp_path, monkeypatch
):
    script = iter([3.0, 3.0, math.inf])
    monkeypatch.setattr(held_out, "evaluate", lambda *_: SimpleNamespace(perplexity=next(script)))
    with pytest.raises(Diverged, match=r"epoch 1, test perplexity is inf; .* is kept"):
        train(settings.replace(epochs=1), corpus, tmp_path)
    assert not (tmp_path / "result.json").exists()


def test_two_processes_cannot_use_one_folder(settings, corpus, tmp_path, monkeypatch):
    monkeypatch.setattr("tiedlm.training.run_files.LOCK_PATIENCE", 0.1)

    def second_run():
        with pytest.raises(UserError, match="in use by another process"):
            train(settings, corpus, tmp_path)
        return True

    with pytest.raises(Stopped):
        train(settings, corpus, tmp_path, should_stop=second_run)


def test_a_corpus_shorter_than_a_batch_is_refused_before_anything_is_written(
    settings, corpus, tmp_path
):
    with pytest.raises(UserError, match="too few"):
        train(settings.replace(batch_size=5000), corpus, tmp_path / "run")
    assert not (tmp_path / "run" / "config.json").exists()


@pytest.mark.parametrize("damage", ["cut", "flip", "missing", "shape", "extra", "empty"])
def test_damaged_weights_are_refused_with_a_reason(settings, corpus, tmp_path, damage):
    train(settings.replace(epochs=1), corpus, tmp_path)
    path = tmp_path / "model.safetensors"
    data = path.read_bytes()
    if damage == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "flip":
        path.write_bytes(bytes([data[0] ^ 255]) + data[1:])
    elif damage == "missing":
        path.unlink()
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        options = {"d_hidden": 10} if damage == "shape" else {"n_layers": 3}
        other = load(tmp_path).config
        from dataclasses import replace

        from tiedlm.model import LanguageModel

        save_weights(LanguageModel(replace(other, **options)), path)
    with pytest.raises(UserError, match=r"model\.safetensors"):
        load(tmp_path)


def test_a_flipped_byte_anywhere_is_found(settings, corpus, tmp_path):
    train(settings.replace(epochs=1), corpus, tmp_path)
    path = tmp_path / "model.safetensors"
    data = path.read_bytes()
    places = range(0, len(data), 1000)
    assert len(places) > 5
    for place in places:
        path.write_bytes(data[:place] + bytes([data[place] ^ 255]) + data[place + 1 :])
        with pytest.raises(UserError, match=r"model\.safetensors"):
            load(tmp_path)
    for end in places:
        path.write_bytes(data[:end])
        with pytest.raises(UserError, match=r"model\.safetensors"):
            load(tmp_path)
    path.write_bytes(data)
    load(tmp_path)


def test_a_flipped_byte_anywhere_in_a_checkpoint_is_found(settings, corpus, tmp_path):
    train(settings.replace(epochs=1), corpus, tmp_path)
    (path,) = (tmp_path / "last").glob("*.safetensors")
    data, model, ident = path.read_bytes(), load(tmp_path), read_config(tmp_path)["id"]
    for place in range(0, len(data), 1000):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        notes = []
        with pytest.raises(UserError, match="no checkpoint is sound"):
            restore_checkpoint(tmp_path / "last", model, notes.append, ident)
        assert "is damaged" in notes[0]


def test_a_flipped_bit_anywhere_in_a_checkpoints_description_is_found(settings, corpus, tmp_path):
    train(settings.replace(epochs=1), corpus, tmp_path)
    (path,) = (tmp_path / "last").glob("*.json")
    data, model, ident = path.read_bytes(), load(tmp_path), read_config(tmp_path)["id"]
    described = json.loads(data)
    for place in range(len(data)):
        flipped = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        with contextlib.suppress(ValueError):
            if json.loads(flipped) == described:
                continue  # white space
        path.write_bytes(flipped)
        with pytest.raises(UserError, match="no checkpoint is sound"):
            restore_checkpoint(tmp_path / "last", model, list().append, ident)
    path.write_bytes(data)
    assert restore_checkpoint(tmp_path / "last", model, list().append, ident) is not None


@pytest.mark.parametrize("name", ["last", "model.safetensors"])
def test_files_of_another_run_are_refused(settings, corpus, tmp_path, name):
    one, two = tmp_path / "one", tmp_path / "two"
    for seed, out in ((1, one), (2, two)):
        train(settings.replace(epochs=1, seed=seed), corpus, out)
    if name == "last":
        shutil.rmtree(one / name)
        shutil.copytree(two / name, one / name)
    else:
        shutil.copy(two / name, one / name)
        with pytest.raises(UserError, match="or another run's"):
            load(one)
    with pytest.raises(UserError, match="another run"):
        train(settings.replace(epochs=2, seed=1), corpus, one)


@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_without_the_best_model_a_run_does_not_resume(settings, corpus, tmp_path, damage):
    train(settings.replace(epochs=1), corpus, tmp_path)
    path = tmp_path / "model.safetensors"
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UserError, match="best model so far, of epoch 1, is needed"):
        train(settings.replace(epochs=2), corpus, tmp_path)


def test_without_checkpoints_a_run_is_not_silently_trained_again(settings, corpus, tmp_path):
    result = train(settings.replace(epochs=1), corpus, tmp_path)
    shutil.rmtree(tmp_path / "last")
    assert train(settings.replace(epochs=1), corpus, tmp_path) == result  # it was finished
    with pytest.raises(UserError, match="none of its checkpoints"):
        train(settings.replace(epochs=2), corpus, tmp_path)
    assert json.loads((tmp_path / "result.json").read_text()) == result
    (tmp_path / "metrics.jsonl").unlink()  # as in a run that kept only its model
    with pytest.raises(UserError, match="none of its checkpoints"):
        train(settings.replace(epochs=2), corpus, tmp_path)
    assert train(settings.replace(epochs=1), corpus, tmp_path) == result
    again = command(settings.replace(epochs=2), tmp_path)
    done = subprocess.run([*again, "--resume"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "has no checkpoint" in done.stderr


def test_resuming_with_another_arithmetic_is_reported(settings, corpus, tmp_path):
    train(settings.replace(epochs=1), corpus, tmp_path)
    path = tmp_path / "env.json"
    kept = json.loads(path.read_text())
    path.write_text(json.dumps(kept | {"threads": 3, "processes": 2}))
    notes = []
    watcher = Silent()
    watcher.line = notes.append
    train(settings.replace(epochs=2), corpus, tmp_path, watcher=watcher)
    changed = "processes: 2 -> 1; threads: 3 -> 1"
    assert any(f"not bit for bit as it began ({changed})" in note for note in notes)


def test_resuming_without_the_cuda_graph_is_reported(tmp_path, monkeypatch):
    """A recorded step scales the gradient in float32, an ordinary one in float64."""
    folder = resume.RunFolder(tmp_path, Settings(), None, None, torch.device("cuda"))
    write_json(tmp_path / "env.json", folder._environment())
    assert folder._changed_arithmetic() == []
    monkeypatch.setenv("TIEDLM_CUDA_GRAPH", "0")
    (note,) = folder._changed_arithmetic()
    assert "not bit for bit as it began (cuda_graph: True -> False)" in note


def test_a_run_that_lost_its_checkpoints_in_the_first_epoch_says_that_it_begins_again(
    settings, corpus, tmp_path
):
    with pytest.raises(Stopped):
        train(settings, corpus, tmp_path, should_stop=lambda: True)
    shutil.rmtree(tmp_path / "last")
    notes = []
    watcher = Silent()
    watcher.line = notes.append
    train(settings.replace(epochs=1), corpus, tmp_path, watcher=watcher)
    assert "no checkpoint was found: the training begins" in notes


def test_a_run_goes_on_with_the_products_that_it_began_with(
    settings, corpus, tmp_path, monkeypatch
):
    monkeypatch.setattr(kinds, "_LEAST_PRODUCT", 0)
    monkeypatch.setattr(weights, "_LEAST_STEP", 0)
    monkeypatch.setattr(routes, "_choices", {})

    def session(epochs, chosen):
        """Train on a machine whose cache is empty and that would choose a certain way."""
        monkeypatch.setenv("TIEDLM_CACHE", str(tmp_path / f"cache-{epochs}"))
        monkeypatch.setattr(
            routes, "measure", lambda trial: routes.Choice([*trial.ways][chosen], {}, {})
        )
        train(settings.replace(epochs=epochs), corpus, tmp_path / "run")
        assert routes._choices == {}
        return checkpoint.products_of(tmp_path / "run" / "last")

    first, second = session(1, -1), session(2, 0)
    assert "oneDNN" in first["choices"].values()
    assert first == second


def test_a_checkpoint_of_an_earlier_version_does_not_say_how_products_were_made(tmp_path):
    assert checkpoint.products_of(tmp_path) is None
    for content in ("{}", "[]", "no JSON", '{"products": 3}'):
        (tmp_path / "000000001-00001.json").write_text(content)
        assert checkpoint.products_of(tmp_path) is None


def test_a_run_resumes_on_another_device_and_reports_it(settings, corpus, tmp_path):
    train(settings.replace(epochs=1, device="auto"), corpus, tmp_path)
    path = tmp_path / "env.json"
    path.write_text(path.read_text().replace('"device": "cpu"', '"device": "cuda"'))
    notes = []
    watcher = Silent()
    watcher.line = notes.append
    train(settings.replace(epochs=2, device="cpu"), corpus, tmp_path, watcher=watcher)
    assert any("not bit for bit as it began (device: 'cuda' -> 'cpu')" in note for note in notes)
    assert Settings.of_run(tmp_path).device == "cpu"


@pytest.mark.skipif(not has_fast_bf16(), reason="this CPU does not multiply bfloat16")
def test_the_result_equals_evaluate_for_any_precision(settings, corpus, tmp_path):
    result = train(settings.replace(precision="bf16", init_range=0.8), corpus, tmp_path)
    model = load(tmp_path)
    for name in ("valid", "test"):
        value = evaluate(model, getattr(corpus, name)).perplexity
        assert result[f"{name}_ppl"] == pytest.approx(value, rel=1e-6)


def test_a_vocabulary_of_another_size_is_refused(settings, corpus, tmp_path):
    train(settings.replace(epochs=1), corpus, tmp_path)
    with (tmp_path / "vocabulary.txt").open("a") as file:
        file.write("stranger\n")
    with pytest.raises(UserError, match="does not match the model"):
        load(tmp_path)


def test_weights_round_trip_exactly(settings, corpus, tmp_path):
    train(settings.replace(epochs=1), corpus, tmp_path)
    first, second = load(tmp_path), load(tmp_path)
    with torch.no_grad():
        for parameter in second.parameters():
            parameter.zero_()
    save_weights(first, tmp_path / "again.safetensors")
    load_weights(second, tmp_path / "again.safetensors")
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


def command(settings, out):
    values = {**TINY, "epochs": settings.epochs, "patience": 1000}
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in values.items()
             if not isinstance(value, bool)]  # fmt: skip
    return [sys.executable, "-m", "tiedlm", "train", "small-re", "--data", settings.data,
            "--out", str(out), *flags]  # fmt: skip


@pytest.mark.slow
def test_sigkill_at_random_moments_changes_nothing(settings, tmp_path):
    """A run that is killed and resumed thirty times ends as the uninterrupted one.

    An epoch takes about a tenth of a second and ends with a checkpoint, so many kills interrupt the
    writing of one.
    """
    rng = random.Random(0)
    settings = settings.replace(epochs=400)
    subprocess.run(command(settings, tmp_path / "whole"), check=True)
    kills = 0
    while kills < 30:
        before = checkpoints(tmp_path / "parts")
        process = subprocess.Popen(
            command(settings, tmp_path / "parts"),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        while checkpoints(tmp_path / "parts") == before and process.poll() is None:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.25))
        assert process.poll() is None, "the run is too short for so many kills"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        kills += 1
    subprocess.run(command(settings, tmp_path / "parts"), check=True)
    assert outcome(tmp_path / "parts") == outcome(tmp_path / "whole")


def checkpoints(out):
    """Return the names of a run's whole checkpoints."""
    return {path.name for path in (out / "last").glob("*.safetensors")}


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes")
def test_a_folder_whose_name_is_not_utf8_is_trained_loaded_and_resumed(settings, corpus, tmp_path):
    out = tmp_path / os.fsdecode(b"r\xe9sum\xe9")
    first = train(settings.replace(epochs=1), corpus, out)
    assert load(out).vocabulary == corpus.vocabulary
    longer = train(settings.replace(epochs=2), corpus, out)
    assert (first["epochs"], longer["epochs"]) == (1, 2)
