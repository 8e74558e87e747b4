"""Runs with each optimizer and schedule: what they compute, and that they go on bit for bit."""

import itertools
import math
import signal
import subprocess
import sys
import time
from copy import deepcopy
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from tests_support import run_command
from tiedlm import load
from tiedlm.data import load_corpus
from tiedlm.data.streams import batch_streams
from tiedlm.evaluation import evaluate
from tiedlm.model import LanguageModel
from tiedlm.training import held_out, updater
from tiedlm.training.build import model_config
from tiedlm.training.loop import train
from tiedlm.training.run_files import read_metrics
from tiedlm.training.settings import Settings
from tiedlm.training.windows import window_starts

TINY = {
    "d_embed": 10, "d_hidden": 10, "dropout_input": 0.2, "dropout_hidden": 0.2, "tied": True,
    "init_range": 0.3, "batch_size": 8, "bptt": 9, "threads": 1, "precision": "fp32",
}  # fmt: skip
ASGD = {"optimizer": "nt-asgd", "average_trigger": 1, "lr": 0.5, "lr_decay": 1.0, "clip": 3.0,
        "weight_decay": 1e-4, "ar": 1.0, "tar": 1.0, "bptt_jitter": True, "epochs": 5}  # fmt: skip
ADAM = {"optimizer": "adam", "beta1": 0.5, "lr": 0.02, "lr_min": 0.002, "schedule": "cosine",
        "warmup": 20, "weight_decay": 1e-4, "weight_decay_inside": True, "average_from": 3,
        "alpha": 2.0, "temperature": 5.0, "epochs": 4}  # fmt: skip
ADAMW = {"optimizer": "adamw", "lr": 0.05, "schedule": "plateau", "weight_decay": 0.1,
         "lr_decay": 0.3, "tied": False, "accumulate": 2, "epochs": 4}  # fmt: skip
AWD = {**ASGD, "network": "awd_lstm", "dropout_words": 0.1, "d_hidden": 12, "alpha": 2.0,
       "options": {"dropconnect": 0.4, "dropout_output": 0.3, "mogrifier_rounds": 2}}  # fmt: skip
CASES = {"asgd": ASGD, "adam": ADAM, "adamw": ADAMW, "awd": AWD}


@pytest.fixture
def corpus(tiny_corpus):
    return load_corpus(str(tiny_corpus), progress=False)


def settings_of(case):
    return Settings(data="-", **{**TINY, **CASES[case]})


def outcome(out):
    lines = read_metrics(out)
    for line in lines:
        del line["seconds"], line["tokens_per_second"]
    return lines, (out / "model.safetensors").read_bytes()


class Killed(BaseException):
    """What no part of the program catches."""


@pytest.mark.parametrize("case", CASES)
def test_a_run_that_was_killed_goes_on_bit_for_bit(case, corpus, tmp_path, monkeypatch):
    settings = settings_of(case)
    if case in ("asgd", "awd"):  # turned over, validation gets worse, and averaging begins

        def turned_over(model, ids):
            return SimpleNamespace(perplexity=1000 / evaluate(model, ids).perplexity)

        monkeypatch.setattr(held_out, "evaluate", turned_over)
    train(settings, corpus, tmp_path / "whole")
    real_step, steps = updater.train_step, 0

    def killed(*arguments):
        nonlocal steps
        steps += 1
        if steps % 17 == 0:
            raise Killed
        return real_step(*arguments)

    monkeypatch.setattr(updater, "train_step", killed)
    kills = 0
    for _ in range(40):
        try:
            train(settings, corpus, tmp_path / "parts", save_every=0)
            break
        except Killed:
            kills += 1
    assert kills > 2
    assert outcome(tmp_path / "parts") == outcome(tmp_path / "whole")
    last = load_file(max((tmp_path / "parts" / "last").glob("*.safetensors")))
    assert ("memory.averaged_updates" in last) == (case != "adamw")
    if case != "adamw":  # training goes on with the weights, not with their mean
        name = "embedding.weight"
        assert not torch.equal(last[f"parameter.{name}"], last[f"memory.average.{name}"])


SCRIPT = [8.0, 8.5, 9.0, 7.0, 7.5]  # averaging begins after the third: 9.0 is above 8.0


def plain_asgd(settings, corpus):
    """Train as AWD-LSTM's program does, with PyTorch alone; return each epoch's perplexity.

    What it takes for its validation losses is scripted, so that averaging begins early.
    """
    torch.manual_seed(settings.seed)
    model = LanguageModel(model_config(settings, len(corpus.vocabulary)))
    streams = torch.from_numpy(batch_streams(corpus.train, settings.batch_size))
    best_val_loss, found, sums, count = [], [], None, 0
    for epoch in range(1, settings.epochs + 1):
        model.train()
        state, starts = None, window_starts(settings, streams.shape[1] - 1, epoch)
        for start, end in itertools.pairwise(starts):
            # The mean over steps, with the rate, clip and decay of bptt of them; lr by length.
            bptt, steps = settings.bptt, end - start
            optimizer = torch.optim.SGD(
                model.parameters(), lr=settings.lr * bptt * steps / bptt,
                weight_decay=settings.weight_decay / bptt,
            )  # fmt: skip
            hidden, state = model(streams[:, start:end], state)
            loss = model.loss(hidden, streams[:, start + 1 : end + 1]).loss
            loss = loss + settings.ar / bptt * hidden.pow(2).mean()
            if steps > 1:
                loss = loss + settings.tar / bptt * (hidden[:, 1:] - hidden[:, :-1]).pow(2).mean()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip / bptt)
            optimizer.step()
            optimizer.zero_grad()
            state = state.detach()
            if sums is not None:
                sums = [s + p.detach().double() for s, p in zip(sums, model.parameters())]  # noqa: B905
                count += 1
        measured = deepcopy(model).eval()
        if sums is not None:
            with torch.no_grad():
                for p, s in zip(measured.parameters(), sums, strict=True):
                    p.copy_(s / count)
        found.append(evaluate(measured, corpus.valid).perplexity)
        val_loss = math.log(SCRIPT[epoch - 1])
        n = settings.average_trigger
        if sums is None and len(best_val_loss) > n and val_loss > min(best_val_loss[:-n]):
            sums = [torch.zeros_like(p, dtype=torch.float64) for p in model.parameters()]
        best_val_loss.append(val_loss)
    return found, count


def test_nt_asgd_is_awd_lstms_and_evaluates_the_average(corpus, tmp_path, monkeypatch):
    settings = settings_of("asgd")  # a much higher rate would amplify rounding
    expected, averaged = plain_asgd(settings, corpus)
    found, script = [], iter([*SCRIPT, 1.0, 1.0])

    def scripted(model, ids):
        found.append(evaluate(model, ids).perplexity)
        return SimpleNamespace(perplexity=next(script))

    monkeypatch.setattr(held_out, "evaluate", scripted)
    train(settings, corpus, tmp_path)
    assert found[: settings.epochs] == pytest.approx(expected, rel=1e-4)
    assert averaged > 20
    plain = settings.replace(optimizer="sgd", epochs=4)
    monkeypatch.undo()
    train(plain, corpus, tmp_path / "plain")
    without = [line["valid_ppl"] for line in read_metrics(tmp_path / "plain")]
    assert without[:3] == pytest.approx(expected[:3], rel=1e-4)
    assert abs(math.log(without[3] / expected[3])) > 1e-3, "the average is another model"


def test_the_kept_model_is_the_average_of_the_last_epochs_updates(corpus, tmp_path, monkeypatch):
    """One epoch is averaged: the mean of the weights that its updates left."""
    seen, real = [], updater.Updater.add_to_average

    def spied(self):
        real(self)
        seen.append(self.model.embedding.weight.detach().clone())

    monkeypatch.setattr(updater.Updater, "add_to_average", spied)
    settings = settings_of("adam").replace(average_from=4)
    result = train(settings, corpus, tmp_path)
    assert result["best_epoch"] == 4
    kept = load(tmp_path)
    torch.testing.assert_close(kept.embedding.weight.detach(), torch.stack(seen).mean(0))
    assert kept.embedding.weight is kept.decoder.weight
    assert evaluate(kept, corpus.test).perplexity == pytest.approx(result["test_ppl"], rel=1e-5)


def test_the_rate_of_each_epoch_is_in_the_metrics(corpus, tmp_path, monkeypatch):
    script = iter([9.0, 8.0, 8.5, 7.0, 7.0, 6.0])
    monkeypatch.setattr(held_out, "evaluate", lambda *_: SimpleNamespace(perplexity=next(script)))
    train(settings_of("adamw"), corpus, tmp_path)
    lines = read_metrics(tmp_path)
    rates = [line["lr"] for line in lines]
    assert rates == pytest.approx([0.05, 0.05, 0.05, 0.015])


def test_a_cosine_s_number_of_epochs_is_fixed(corpus, tmp_path):
    settings = settings_of("adam").replace(epochs=1, average_from=None)
    train(settings, corpus, tmp_path)
    with pytest.raises(ValueError, match=r"other settings \(epochs: 1 -> 2\)"):
        train(settings.replace(epochs=2), corpus, tmp_path)


def options(case, **changes):
    settings = {**TINY, **CASES[case], **changes}
    given = [f"--option={name}={value}" for name, value in settings.pop("options", {}).items()]
    return given + [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--optimizer", "adamm"], 'Did you mean "adam"?'),
        (["--schedule", "cosin"], 'Did you mean "cosine"?'),
        (["--optimizer", "nt-asgd", "--average-from", "3"], "take --optimizer sgd"),
        (["--optimizer", "adamw", "--weight-decay-inside"], "take --optimizer adam"),
        (["--warmup", "0.5"], "expected a whole number"),
    ],
)
def test_a_mistake_is_one_line(tiny_corpus, capsys, arguments, message):
    status, _, err = run_command(capsys, "train", "small", "--data", tiny_corpus, *arguments)
    assert status == 2
    assert message in err
    assert err.count("\n") == 1


def test_averaging_by_validation_is_refused_without_a_validation_text(tmp_path, capsys):
    for part, text in (("train", "a b c\n" * 60), ("valid", "\n"), ("test", "a b c\n")):
        (tmp_path / f"{part}.txt").write_text(text)
    arguments = ["--data", tmp_path, "--out", tmp_path / "run", "--optimizer", "nt-asgd"]
    status, _, err = run_command(capsys, "train", "small", *arguments)
    assert status == 2
    assert "the valid text" in err
    assert "has no words" in err
    assert err.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_a_run_ended_by_sigkill_goes_on_bit_for_bit(case, tiny_corpus, tmp_path):
    def command(out):
        return [
            sys.executable, "-m", "tiedlm", "train", "small", "--quiet", "--data", str(tiny_corpus),
            "--out", str(tmp_path / out), *options(case, epochs=15),
        ]  # fmt: skip

    subprocess.run(command("whole"), check=True)
    process = subprocess.Popen(command("parts"))
    metrics, deadline = tmp_path / "parts" / "metrics.jsonl", time.monotonic() + 120
    while not (metrics.exists() and metrics.read_text().count("\n") >= 6):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "parts" / "result.json").exists()
    subprocess.run(command("parts"), check=True)
    assert outcome(tmp_path / "parts") == outcome(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_two_processes_have_the_curve_of_one(case, tiny_corpus, tmp_path):
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    for out, start in (("one", []), ("two", torchrun)):
        subprocess.run(
            [
                sys.executable, *start, "-m", "tiedlm", "train", "small", "--data",
                str(tiny_corpus), "--out", str(tmp_path / out), *options(case, accumulate=1),
            ],
            check=True, capture_output=True,
        )  # fmt: skip
    curves = [
        [line["valid_ppl"] for line in read_metrics(tmp_path / out)] for out in ("one", "two")
    ]
    assert curves[1] == pytest.approx(curves[0], rel=1e-4)
