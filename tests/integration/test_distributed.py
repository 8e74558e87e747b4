"""Several processes train the same model as one process."""

import json
import signal
import subprocess
import sys
import time

import pytest

from tiedlm.errors import UserError
from tiedlm.training import distributed
from tiedlm.training.distributed import Ranks

OPTIONS = {
    "d-embed": 12, "d-hidden": 12, "batch-size": 4, "bptt": 5, "epochs": 3, "threads": 1,
    "decay-after": 1, "alpha": 2, "temperature": 5,
    "decoder-bias": "false",  # else it learns only its bias, so narrow it is
}  # fmt: skip
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]


def train(corpus, out, processes=1, wait=True, **options):
    start = [sys.executable] if processes == 1 else TORCHRUN
    command = [
        *start, "-m", "tiedlm", "train", "small-real", "--data", str(corpus), "--out", str(out),
        *(f"--{name}={value}" for name, value in {**OPTIONS, **options}.items()),
    ]  # fmt: skip
    if not wait:
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def curve(out):
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [(line["train_ppl"], line["valid_ppl"], line["aug"]) for line in lines]


@pytest.mark.parametrize("dropout", [pytest.param(0.0, marks=pytest.mark.slow), 0.4])
def test_two_ranks_have_the_curve_of_one_process(tiny_corpus, tmp_path, dropout):
    drop = {"dropout-input": dropout, "dropout-hidden": dropout}
    one = train(tiny_corpus, tmp_path / "one", **drop)
    two = train(tiny_corpus, tmp_path / "two", **drop, processes=2)
    assert one.returncode == 0, one.stderr
    assert two.returncode == 0, two.stderr
    for a, b in zip(curve(tmp_path / "one"), curve(tmp_path / "two"), strict=True):
        assert b == pytest.approx(a, rel=1e-5)
    results = [json.loads((tmp_path / n / "result.json").read_text()) for n in ("one", "two")]
    assert results[1]["test_ppl"] == pytest.approx(results[0]["test_ppl"], rel=1e-5)
    assert results[1]["tokens"] == results[0]["tokens"]
    assert two.stdout.count("validation perplexity") == 1  # only the first rank speaks


@pytest.mark.slow
def test_a_dead_rank_ends_all_and_the_run_can_be_resumed(tiny_corpus, tmp_path):
    long = {"epochs": 60}
    whole = train(tiny_corpus, tmp_path / "whole", **long, processes=2)
    assert whole.returncode == 0, whole.stderr
    process = train(tiny_corpus, tmp_path / "parts", **long, processes=2, wait=False)
    metrics = tmp_path / "parts" / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not (metrics.exists() and metrics.read_text().count("\n") >= 3):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    workers = subprocess.run(
        ["pgrep", "-P", str(process.pid)], capture_output=True, text=True
    ).stdout.split()
    subprocess.run(["kill", f"-{signal.SIGKILL.value}", workers[-1]], check=True)
    process.communicate(timeout=120)
    assert process.returncode != 0
    assert not (tmp_path / "parts" / "result.json").exists()
    again = train(tiny_corpus, tmp_path / "parts", **long, processes=2)
    assert again.returncode == 0, again.stderr
    assert curve(tmp_path / "parts") == curve(tmp_path / "whole")


def test_ranks_wait_longer_for_each_other_than_a_long_validation_takes(monkeypatch):
    asked = {}
    for name, value in (("WORLD_SIZE", "2"), ("LOCAL_RANK", "0")):
        monkeypatch.setenv(name, value)
    for name in ("barrier", "destroy_process_group", "get_rank", "get_world_size"):
        monkeypatch.setattr(distributed.dist, name, lambda: 0)
    monkeypatch.setattr(
        distributed.dist, "init_process_group", lambda backend, **given: asked.update(given)
    )
    with distributed.join("cpu"):
        assert asked["timeout"].total_seconds() > 6 * 3600


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ("", "WORLD_SIZE: expected a whole number of at least 1, got ''"),
        ("two", "got 'two'; torchrun sets it"),
        ("2", "WORLD_SIZE asks for 2 processes, but torchrun did not start this one"),
    ],
)
def test_a_number_of_processes_without_torchrun_is_one_line(monkeypatch, size, message):
    monkeypatch.setenv("WORLD_SIZE", size)
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match=message), distributed.join("cpu"):
        pass


def test_each_rank_s_share_divides_into_the_groups_of_accumulation():
    Ranks(0, 2).check_batch(20, 5)
    with pytest.raises(UserError, match=r"2 processes of 4 groups each .* multiple of 8"):
        Ranks(0, 2).check_batch(20, 4)


def test_a_batch_that_does_not_divide_is_refused_once(tiny_corpus, tmp_path):
    done = train(tiny_corpus, tmp_path / "run", processes=2, **{"batch-size": 3})
    assert done.returncode != 0
    assert done.stderr.count("--batch-size 3 does not divide by 2 processes") == 1
    assert not (tmp_path / "run").exists()
