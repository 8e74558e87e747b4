"""The demo runs from start to report, also when it is stopped or killed on the way."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from rich.console import Console

from tests_support import run_command
from tiedlm import load
from tiedlm.errors import UserError
from tiedlm.experiments.demo import MODELS, run_demo
from tiedlm.experiments.parallel import Job, train_all
from tiedlm.experiments.recipes import get_recipe
from tiedlm.experiments.report import NETWORKS
from tiedlm.progress import ProgressView
from tiedlm.training.loop import train
from tiedlm.training.outcomes import Diverged
from tiedlm.training.settings import Settings

TINY = {"d_embed": 12, "d_hidden": 12, "batch_size": 4, "bptt": 5, "epochs": 2, "fraction": 1.0}


@pytest.fixture(scope="module")
def demo(tiny_corpus, tmp_path_factory):
    """Return (folder, report, progress lines) of a demo on a tiny corpus."""
    os.environ["TIEDLM_CACHE"] = str(tmp_path_factory.getbasetemp() / "cache")
    out = tmp_path_factory.mktemp("demo")
    shown = (out / "shown.txt").open("w+")
    with shown, ProgressView(Console(file=shown, width=120)) as view:
        report = run_demo(out, view, jobs=2, data=str(tiny_corpus), **TINY)
        shown.seek(0)
        text = shown.read()
    return out, report, text


def test_results_hold_the_four_models_and_the_corpus(demo):
    out, _, _ = demo
    results = json.loads((out / "results.json").read_text())
    assert list(results["models"]) == ["vd-lstm", "vd-lstm-al", "vd-lstm-re", "vd-lstm-real"]
    for name, model in results["models"].items():
        tied = name in ("vd-lstm-re", "vd-lstm-real")
        assert model["valid_ppl"] > 1
        assert model["test_ppl"] > 1
        assert (model["subspace_distance"] < 1e-6) is tied
        assert 0 < model["mean_p_unk"] < 1
        assert model["tokens_per_second"] > 0
        assert len(model["curve"]) == TINY["epochs"]
    parameters = {name: model["parameters"] for name, model in results["models"].items()}
    assert parameters["vd-lstm"] == parameters["vd-lstm-al"] > parameters["vd-lstm-real"]
    assert results["corpus"]["parts"]["train"]["tokens"] > 0


def test_pictures_and_report_are_written(demo):
    out, report, _ = demo
    assert report == out / "report.html"
    assert "VD-LSTM" in report.read_text()
    for name in ("curves.png", "perplexity.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")


def test_progress_of_every_model_is_shown(demo):
    _, _, shown = demo
    for name in MODELS:
        assert f"{name} " in shown
    assert "tokens/s" in shown
    assert shown.count("epoch   2/2") == 4


def test_a_second_demo_trains_nothing(demo, tiny_corpus, capsys):
    out, _, _ = demo
    before = {p: p.stat().st_mtime_ns for p in out.glob("*/model.safetensors")}
    assert len(before) == 4
    with ProgressView() as view:
        run_demo(out, view, jobs=2, data=str(tiny_corpus), **TINY)
    assert {p: p.stat().st_mtime_ns for p in out.glob("*/model.safetensors")} == before


def test_fewer_epochs_than_were_trained_are_refused(demo, tiny_corpus):
    out, _, _ = demo
    with (
        ProgressView(Console(quiet=True)) as view,
        pytest.raises(UserError, match="trained for 2 epochs already; give --epochs 2 or more"),
    ):
        run_demo(out, view, jobs=2, data=str(tiny_corpus), **{**TINY, "epochs": 1})


def test_a_model_trained_beside_others_equals_one_trained_alone(demo, tiny_corpus, tmp_path):
    out, _, _ = demo
    settings = get_recipe("demo-real").replace(data=str(tiny_corpus), **TINY)
    train(settings, settings.load_corpus(progress=False), tmp_path)
    together = (out / "vd-lstm-real" / "model.safetensors").read_bytes()
    assert (tmp_path / "model.safetensors").read_bytes() == together


def test_a_model_that_diverges_is_reported_and_stops_the_others(tiny_corpus, tmp_path):
    settings = Settings(data=str(tiny_corpus), threads=1, **TINY)
    wild = settings.replace(lr=1e30, clip=1e30)
    jobs = [Job(wild, tmp_path / "wild"), Job(settings.replace(epochs=200), tmp_path / "tame")]
    with (
        ProgressView(Console(quiet=True)) as view,
        pytest.raises(Diverged, match="nothing is saved") as found,
    ):
        train_all(jobs, 2, view)
    assert found.value.out == tmp_path / "wild"
    assert not (tmp_path / "tame" / "result.json").exists()


def demo_command(out):
    command = [sys.executable, "-m", "tiedlm", "demo", "--epochs", "2", "--out", str(out)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_demo_resumes_within_the_same_model(tmp_path, how):
    whole = demo_command(tmp_path / "whole")
    _, err = whole.communicate(timeout=500)
    assert whole.returncode == 0, err
    process = demo_command(tmp_path / "parts")
    deadline = time.monotonic() + 300
    while not list((tmp_path / "parts").glob("*/metrics.jsonl")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    os.kill(process.pid, how)
    _, err = process.communicate(timeout=60)
    if how == signal.SIGKILL:
        time.sleep(2)
    else:
        assert process.returncode == 130
        assert "the same command continues" in err
        assert "Traceback" not in err
    done = {p.parent.name: p.read_text() for p in (tmp_path / "parts").glob("*/metrics.jsonl")}
    again = demo_command(tmp_path / "parts")
    _, err = again.communicate(timeout=500)
    assert again.returncode == 0, err
    for name, text in done.items():  # no finished epoch was trained again
        assert (tmp_path / "parts" / name / "metrics.jsonl").read_text().startswith(text)
    for name in MODELS:
        expected = (tmp_path / "whole" / name / "model.safetensors").read_bytes()
        assert (tmp_path / "parts" / name / "model.safetensors").read_bytes() == expected


@pytest.mark.slow
@pytest.mark.parametrize("network", ["rhn", "transformer"])
def test_another_network_is_compared_in_the_same_way(tiny_corpus, tmp_path, network):
    with (tmp_path / "shown.txt").open("w") as shown:
        view = ProgressView(Console(file=shown, width=120))
        changes = {**TINY, "epochs": 1}
        with view:
            page = run_demo(tmp_path / "out", view, 2, network, data=str(tiny_corpus), **changes)
    text = page.read_text(encoding="utf-8")
    name = NETWORKS[network][1]
    assert f"VD-{name}" in text
    assert "LSTM" not in re.sub('base64,[^"]*', "", text)
    assert f"vd-{network}-real" in text
    for folder in (f"vd-{network}", f"vd-{network}-real"):
        assert load(tmp_path / "out" / folder).config.network == network


def test_the_command_ends_by_naming_the_one_that_explores_its_models(demo, capsys, monkeypatch):
    out, report, _ = demo
    monkeypatch.setattr("tiedlm.experiments.demo.run_demo", lambda *given, **changes: report)
    status, text, _ = run_command(capsys, "demo", "--out", out)
    assert status == 0
    *_, last = text.splitlines()
    name, _, command = last.partition(": ")
    assert (name, command) == ("explore", f"tiedlm explore {out}/vd-lstm*")
    assert {run.name for run in out.glob("vd-lstm*")} == set(MODELS)


def test_a_network_without_a_demo_is_refused(capsys, tmp_path):
    status, _, err = run_command(capsys, "demo", "--network", "rnh", "--out", tmp_path / "out")
    assert status == 2
    assert "--network 'rnh': the demo compares lstm, gru, rhn, transformer (did you mean" in err
    assert not (tmp_path / "out").exists()
