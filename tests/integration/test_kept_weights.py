"""Weights are kept after given numbers of words, and evaluated inside an epoch."""

import contextlib
import errno
import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests_support import run_command
from tiedlm import files, folders, load
from tiedlm.data import load_corpus
from tiedlm.errors import UserError
from tiedlm.evaluation import evaluate
from tiedlm.training.loop import train
from tiedlm.training.outcomes import Stopped
from tiedlm.training.run_files import read_metrics
from tiedlm.training.settings import Settings
from tiedlm.training.updater import Updater

SHAPE = {
    "d_embed": 12, "d_hidden": 12, "dropout_input": 0.2, "dropout_hidden": 0.2, "tied": True,
    "alpha": 2.0, "temperature": 5.0, "batch_size": 4, "bptt": 5, "epochs": 2, "threads": 1,
}  # fmt: skip
UPDATE = SHAPE["batch_size"] * SHAPE["bptt"]  # words
FLAGS = [
    "small-re", "--d-embed=12", "--d-hidden=12", "--batch-size=4", "--bptt=5", "--threads=1",
]  # fmt: skip


class Lines:
    """A watcher that keeps the messages."""

    def __init__(self):
        self.lines = []

    def start(self, title, total, done):
        pass

    def step(self, tokens, epoch, epochs, perplexity):
        pass

    def epoch_end(self, text, best_valid):
        pass

    def line(self, text):
        self.lines.append(text)


@pytest.fixture
def settings(tiny_corpus):
    return Settings(data=str(tiny_corpus), **SHAPE)


@pytest.fixture(scope="module")
def corpus(tiny_corpus):
    return load_corpus(str(tiny_corpus), progress=False)


@pytest.fixture(scope="module")
def epoch_words(corpus):
    """Return the words of an epoch: all words of all streams but the first of each."""
    return (len(corpus.train) // 4 - 1) * 4


def stop_after(updates):
    return iter([False] * updates + [True]).__next__


def metrics_of(out):
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        for key in ("seconds", "tokens_per_second"):
            line.pop(key, None)
    return lines


def kept_of(out):
    """Return the bytes of every file below ``checkpoints/``, by its name."""
    root = out / "checkpoints"
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def all_of(out):
    return kept_of(out), (out / "model.safetensors").read_bytes(), metrics_of(out)


def record_weights(monkeypatch):
    """Return a list that receives a copy of the weights after each update."""
    update, found = Updater.update, []

    def recorded(self, *arguments):
        out = update(self, *arguments)
        found.append({name: p.detach().clone() for name, p in self.model.named_parameters()})
        return out

    monkeypatch.setattr(Updater, "update", recorded)
    return found


def same(model, other):
    """Return whether a model has the weights of another one, or those recorded."""
    theirs = dict(other.named_parameters()) if isinstance(other, torch.nn.Module) else other
    return all(torch.equal(p, theirs[name]) for name, p in model.named_parameters())


def test_weights_are_those_after_the_first_update_at_or_beyond_the_mark(
    settings, corpus, tmp_path, monkeypatch, epoch_words
):
    after = record_weights(monkeypatch)
    second = epoch_words + 3 * UPDATE  # exactly after the third update of the second epoch
    marks = {"1": 1, "100": 5, "101": 6, str(second): -(-epoch_words // UPDATE) + 3}
    train(settings.replace(keep_at=",".join(marks)), corpus, tmp_path / "run")
    assert {path.name for path in (tmp_path / "run/checkpoints").iterdir()} == marks.keys()
    for mark, updates in marks.items():
        folder = tmp_path / "run/checkpoints" / mark
        assert same(load(folder), after[updates - 1])
        assert not same(load(folder), after[updates])
        place = json.loads((folder / "config.json").read_text())["checkpoint"]
        epoch = 1 if int(mark) < epoch_words else 2
        words = updates * UPDATE if epoch == 1 else second
        expected = {"keep_at": int(mark), "tokens": words, "epoch": epoch, "step": updates}
        assert place == expected


def test_a_kept_folder_is_a_run_folder_with_all_that_readers_need(settings, corpus, tmp_path):
    train(settings.replace(keep_at="200,1k", epochs=1), corpus, tmp_path)
    (folder,) = (tmp_path / "checkpoints").iterdir()
    assert folder.name == "200"
    assert {path.name for path in folder.iterdir()} == {
        "config.json", "env.json", "model.safetensors", "vocabulary.txt",
    }  # fmt: skip
    config, own = (json.loads((p / "config.json").read_text()) for p in (tmp_path, folder))
    assert own.pop("checkpoint")["keep_at"] == 200
    assert own == config
    for name in ("env.json", "vocabulary.txt"):
        assert (folder / name).read_bytes() == (tmp_path / name).read_bytes()
    assert load(folder).vocabulary == corpus.vocabulary


def test_every_command_reads_a_kept_folder(settings, corpus, tmp_path, capsys):
    train(settings.replace(keep_at="200", epochs=1), corpus, tmp_path / "run")
    kept, text = tmp_path / "run/checkpoints/200", tmp_path / "text.txt"
    text.write_text("the cat sees a fish today .\n")
    status, out, _ = run_command(capsys, "evaluate", kept, "--split", "valid", "--json")
    assert status == 0
    expected = evaluate(load(kept), corpus.valid).perplexity
    assert json.loads(out)["word_perplexity"] == pytest.approx(expected, rel=1e-5)
    for command in (
        ("score", kept, text), ("predict", kept, "the"), ("generate", kept, "--words", "3"),
        ("info",),
    ):  # fmt: skip
        status, out, err = run_command(capsys, *command)
        assert status == 0, err
        assert out


@pytest.mark.parametrize("updates", [4, 8, 60])
def test_a_stopped_run_keeps_the_same_bytes(corpus, settings, tmp_path, whole, updates):
    asked, expected = whole
    with pytest.raises(Stopped):
        train(asked, corpus, tmp_path, should_stop=stop_after(updates))
    torch.manual_seed(12345)
    train(asked, corpus, tmp_path)
    assert all_of(tmp_path) == expected


@pytest.fixture(scope="module")
def whole(tiny_corpus, corpus, tmp_path_factory):
    """Return settings with marks and evaluations, and the files of an uninterrupted run."""
    out = tmp_path_factory.mktemp("whole")
    asked = Settings(data=str(tiny_corpus), keep_at="100,101,240,1000", evaluate_every=300, **SHAPE)
    train(asked, corpus, out)
    found = all_of(out)
    assert len(found[0]) == 4 * 4
    return asked, found


@pytest.mark.parametrize("died", ["before it is renamed", "after it is renamed"])
def test_a_run_that_died_at_a_mark_ends_with_the_same_bytes(
    corpus, tmp_path, whole, monkeypatch, died
):
    """A killed process writes no checkpoint: the next one reads the text again from before."""
    asked, expected = whole

    class Killed(BaseException):
        pass

    @contextlib.contextmanager
    def dying(path):
        if died == "after it is renamed":
            with atomic_folder(path) as new:
                yield new
        else:
            new = files.temporary_name(path)
            new.mkdir(parents=True)
            yield new
        raise Killed

    atomic_folder = folders.atomic_folder
    monkeypatch.setattr(folders, "atomic_folder", dying)
    for _ in range(2 if died == "before it is renamed" else 4):
        with pytest.raises(Killed):
            train(asked, corpus, tmp_path)
    assert len(list((tmp_path / "checkpoints").glob(".*"))) == (1 if "before" in died else 0)
    monkeypatch.undo()
    train(asked, corpus, tmp_path)
    assert all_of(tmp_path) == expected
    assert not list((tmp_path / "checkpoints").glob(".*"))


def test_a_mark_that_is_kept_is_not_written_again(settings, corpus, tmp_path, monkeypatch):
    asked = settings.replace(keep_at="100", epochs=1)
    monkeypatch.setattr("tiedlm.training.loop.save_checkpoint", lambda *_: None)
    with pytest.raises(Stopped):  # as killed: it goes on from the start
        train(asked, corpus, tmp_path, should_stop=stop_after(10))
    monkeypatch.undo()
    weights = tmp_path / "checkpoints/100/model.safetensors"
    before = weights.stat()
    watcher = Lines()
    train(asked, corpus, tmp_path, watcher=watcher)
    assert weights.stat().st_ino == before.st_ino
    assert weights.stat().st_mtime_ns == before.st_mtime_ns
    assert not [line for line in watcher.lines if "kept" in line]


def test_what_is_kept_and_evaluated_may_change_and_changes_no_weight(
    settings, corpus, tmp_path, epoch_words
):
    plain, busy, changed = (tmp_path / name for name in ("plain", "busy", "changed"))
    train(settings, corpus, plain)
    train(settings.replace(keep_at="20,40,500", evaluate_every=100), corpus, busy)
    with pytest.raises(Stopped):
        train(settings.replace(keep_at="20"), corpus, changed, should_stop=stop_after(5))
    watcher = Lines()
    asked = settings.replace(keep_at="20,40,500,1M", evaluate_every=700)
    train(asked, corpus, changed, watcher=watcher)
    assert [line for line in watcher.lines if "nothing is kept" in line] == [
        "--keep-at 40: the run has already read 120 words, so nothing is kept there",
        f"--keep-at 1M is beyond the {2 * epoch_words:,} words of this run: nothing is kept there",
    ]
    assert sorted(path.name for path in (changed / "checkpoints").iterdir()) == ["20", "500"]
    weights = [(out / "model.safetensors").read_bytes() for out in (plain, busy, changed)]
    assert weights[0] == weights[1] == weights[2]
    results = [json.loads((out / "result.json").read_text()) for out in (plain, busy, changed)]
    for result in results:
        del result["seconds"]
    assert results[0] == results[1] == results[2]
    without = [line for line in metrics_of(busy) if "epoch" in line]
    assert without == metrics_of(plain)
    newest = [max((out / "last").glob("*.safetensors")).read_bytes() for out in (plain, busy)]
    assert newest[0] == newest[1], "parameters, state and random generators"


def test_a_finished_run_says_what_it_did_not_keep(settings, corpus, tmp_path):
    asked = settings.replace(keep_at="100", epochs=1)
    train(asked, corpus, tmp_path)
    for keep_at, notes in (("100", 0), ("100,200", 1)):
        watcher = Lines()
        train(asked.replace(keep_at=keep_at), corpus, tmp_path, watcher=watcher)
        assert len(watcher.lines) == notes


def test_evaluations_inside_an_epoch_have_lines_of_their_own(
    settings, corpus, tmp_path, epoch_words
):
    seen = []
    asked = settings.replace(evaluate_every=300, keep_at="300,1200")
    train(asked, corpus, tmp_path, on_metrics=lambda lines: seen.append(len(lines)))
    lines = metrics_of(tmp_path)
    # Each at the first update at or beyond a multiple of 300; an epoch starts a new window.
    second = [-(-(mark - epoch_words) // UPDATE) * UPDATE for mark in (1200, 1500, 1800)]
    words = [300, 600, 900, epoch_words, *(epoch_words + more for more in second), 2 * epoch_words]
    assert [line["tokens"] for line in lines] == words
    assert [line.get("inside_epoch") for line in lines] == [1, 1, 1, None, 2, 2, 2, None]
    inside = [line for line in lines if "inside_epoch" in line]
    assert all("epoch" not in line for line in inside)
    needed = {"inside_epoch", "step", "tokens", "lr", "train_ppl", "valid_ppl"}
    assert all(line.keys() == needed for line in inside)
    for number, name in ((0, "300"), (3, "1200")):
        kept = evaluate(load(tmp_path / "checkpoints" / name), corpus.valid).perplexity
        assert inside[number]["valid_ppl"] == pytest.approx(kept, rel=1e-5)
    assert [line["epoch"] for line in read_metrics(tmp_path)] == [1, 2]
    assert seen == list(range(len(lines) + 1))


def test_the_last_window_of_an_epoch_is_evaluated_once(settings, corpus, tmp_path, epoch_words):
    train(settings.replace(evaluate_every=epoch_words), corpus, tmp_path)
    assert ["epoch" in line for line in metrics_of(tmp_path)] == [True, True]


def test_the_best_epoch_is_chosen_among_ends_of_epochs(settings, corpus, tmp_path, monkeypatch):
    values = iter([1.0, 9.0, 1.0, 1.0, 8.0, 8.0, 8.0])

    class Scripted:
        def __init__(self, perplexity):
            self.perplexity = perplexity

    monkeypatch.setattr("tiedlm.training.held_out.evaluate", lambda *_: Scripted(next(values)))
    result = train(settings.replace(evaluate_every=600), corpus, tmp_path)
    kinds = [("epoch" in line, line["valid_ppl"]) for line in metrics_of(tmp_path)]
    assert kinds == [(False, 1.0), (True, 9.0), (False, 1.0), (False, 1.0), (True, 8.0)]
    assert result["best_epoch"] == 2


def test_a_perplexity_that_overflows_inside_an_epoch_is_null_and_stops_nothing(
    settings, corpus, tmp_path, monkeypatch
):
    own = evaluate
    values = iter([float("inf")])

    class Scripted:
        def __init__(self, perplexity):
            self.perplexity = perplexity

    def scripted(model, ids):
        return Scripted(next(values, None) or own(model, ids).perplexity)

    monkeypatch.setattr("tiedlm.training.held_out.evaluate", scripted)
    train(settings.replace(evaluate_every=600, epochs=1), corpus, tmp_path)
    assert [line["valid_ppl"] is None for line in metrics_of(tmp_path)] == [True, False]


def test_evaluations_do_not_count_as_training_time(settings, corpus, tmp_path, monkeypatch):
    own = evaluate

    def slow(model, ids):
        time.sleep(0.05)
        return own(model, ids)

    monkeypatch.setattr("tiedlm.training.held_out.evaluate", slow)
    train(settings.replace(evaluate_every=200, epochs=1), corpus, tmp_path)
    (line,) = read_metrics(tmp_path)
    training = line["tokens"] / line["tokens_per_second"]
    assert line["seconds"] - training > 5 * 0.05, "four evaluations inside, one at the end"


def test_averaged_weights_are_kept_where_evaluation_would_use_them(settings, corpus, tmp_path):
    marks = "100,1200,1400"
    asked = settings.replace(keep_at=marks, evaluate_every=1200, average_from=2)
    train(asked, corpus, tmp_path / "averaged")
    train(settings.replace(keep_at=marks), corpus, tmp_path / "plain")
    first, second, third = (
        [load(tmp_path / name / "checkpoints" / folder) for name in ("averaged", "plain")]
        for folder in ("100", "1200", "1400")
    )
    assert same(*first), "the first epoch averages nothing"
    assert not same(*second)
    assert not same(*third)
    [line] = [line for line in metrics_of(tmp_path / "averaged") if "inside_epoch" in line]
    expected = evaluate(second[0], corpus.valid).perplexity
    assert line["valid_ppl"] == pytest.approx(expected, rel=1e-5)


def test_training_in_a_kept_folder_is_refused_and_from_it_is_not(settings, corpus, tmp_path):
    train(settings.replace(keep_at="100", epochs=1), corpus, tmp_path / "run")
    kept = tmp_path / "run/checkpoints/100"
    before = kept_of(tmp_path / "run")
    with pytest.raises(UserError, match="is a checkpoint kept by --keep-at"):
        train(settings.replace(epochs=1), corpus, kept)
    assert {k: v for k, v in kept_of(tmp_path / "run").items() if ".lock" not in k} == before
    train(settings.replace(init_from=str(kept), lr=1e-30, epochs=1), corpus, tmp_path / "next")
    assert same(load(kept), load(tmp_path / "next"))


def test_a_full_disk_leaves_no_part_of_a_kept_folder(
    settings, corpus, tmp_path, whole, monkeypatch
):
    asked, expected = whole
    own = Path.write_bytes

    def full(path, data):
        if "checkpoints" in path.parts and "safetensors" in path.name:
            own(path, data[:100])
            raise OSError(errno.ENOSPC, "No space left on device")
        return own(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match="No space left on device; free some space") as caught:
        train(asked, corpus, tmp_path)
    assert str(tmp_path / "checkpoints") in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "checkpoints").iterdir())
    monkeypatch.undo()
    train(asked, corpus, tmp_path)
    assert all_of(tmp_path) == expected


@pytest.mark.parametrize(
    ("flag", "value"),
    [("--keep-at", "0"), ("--keep-at", "abc"), ("--keep-at", "1M,,2M"), ("--evaluate-every", "0"),
     ("--evaluate-every", "often"), ("--evaluate-every", "1.5")],
)  # fmt: skip
def test_a_bad_number_of_words_is_one_line_that_names_the_flag(
    tiny_corpus, tmp_path, capsys, flag, value
):
    arguments = ("train", *FLAGS, "--data", tiny_corpus, "--out", tmp_path / "run", flag, value)
    status, _, err = run_command(capsys, *arguments)
    assert status == 2
    assert err.count("\n") == 1
    assert flag in err
    assert "expected a number of words such as 1000, 500k or 1M" in err
    assert not (tmp_path / "run").exists()


def test_the_command_keeps_and_notes(tiny_corpus, tmp_path, capsys):
    out = tmp_path / "run"
    status, _, err = run_command(
        capsys, "train", *FLAGS, "--data", tiny_corpus, "--out", out, "--epochs", "1",
        "--keep-at", "0.5k,100,1000M", "--evaluate-every", "0.4k",
    )  # fmt: skip
    assert status == 0
    assert sorted(path.name for path in (out / "checkpoints").iterdir()) == ["100", "500"]
    assert "--keep-at 1000M is beyond the" in err
    assert "checkpoints/100 after 100 words" in err
    assert [line["tokens"] for line in metrics_of(out)][:2] == [400, 800]


@pytest.mark.slow
def test_kills_at_any_moment_change_nothing(tiny_corpus, tmp_path):
    def command(name):
        return [
            sys.executable, "-m", "tiedlm", "train", *FLAGS, "--data", str(tiny_corpus), "--out",
            str(tmp_path / name), "--epochs=6", "--keep-at=20,100,1000,1020,3k,5k",
            "--evaluate-every=500", "--quiet",
        ]  # fmt: skip

    subprocess.run(command("whole"), check=True)
    metrics, generator, kills = tmp_path / "parts/metrics.jsonl", random.Random(3), 0
    while True:
        before = metrics.stat().st_mtime_ns if metrics.exists() else 0
        process = subprocess.Popen(command("parts"))
        while process.poll() is None and not (
            metrics.exists() and metrics.stat().st_mtime_ns != before
        ):
            time.sleep(0.01)  # it writes the metrics again as it begins to train
        time.sleep(generator.uniform(0, 0.3 * (kills + 1)))  # long enough at last
        process.send_signal(signal.SIGKILL)
        if process.wait() == 0:
            break
        kills += 1
    subprocess.run(command("parts"), check=True)
    assert kills >= 2
    assert all_of(tmp_path / "parts") == all_of(tmp_path / "whole")
