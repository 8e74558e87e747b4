"""Runs on records and compressed texts resume bit for bit, and bad input is one line."""

import gzip
import json
import random
import sys

import pytest

from tests_support import kill_when_saved, outcome, run_command
from tiedlm.data import load_corpus
from tiedlm.data.source import PARTS
from tiedlm.training.loop import train
from tiedlm.training.outcomes import Stopped
from tiedlm.training.settings import Settings

TINY = {"d_embed": 8, "d_hidden": 8, "tied": True, "batch_size": 4, "bptt": 5, "threads": 1,
        "dropout_hidden": 0.2, "shuffle": "documents"}  # fmt: skip


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Return a gzipped file of JSON lines, each with a few sentences."""
    draw = random.Random(0)
    path = tmp_path_factory.mktemp("records") / "texts.jsonl.gz"
    words = ["the", "cat", "dog", "sees", "hears", "a", "fish", "now", "."]
    texts = ["\n".join(" ".join(draw.choices(words, k=6)) for _ in range(draw.randint(1, 4)))
             for _ in range(60)]  # fmt: skip
    path.write_bytes(gzip.compress("".join(json.dumps({"body": t}) + "\n" for t in texts).encode()))
    return path


def test_a_shuffled_run_goes_on_in_the_middle_of_an_epoch(records, tmp_path):
    settings = Settings(data=str(records), field="body", epochs=3, **TINY)
    corpus = settings.load_corpus(progress=False)
    train(settings, corpus, tmp_path / "whole")
    windows = len(corpus.train) // 4 // 5
    stops = iter([False] * (windows + 4) + [True])
    with pytest.raises(Stopped, match="at epoch 2"):
        train(settings, corpus, tmp_path / "parts", should_stop=stops.__next__)
    train(settings, corpus, tmp_path / "parts")
    assert outcome(tmp_path / "parts") == outcome(tmp_path / "whole")
    train(settings.replace(shuffle="none"), corpus, tmp_path / "in order")
    assert outcome(tmp_path / "in order")[0] != outcome(tmp_path / "whole")[0]


@pytest.mark.slow
def test_a_shuffled_run_that_was_killed_goes_on_bit_for_bit(records, tmp_path, capsys):
    given = {name.replace("_", "-"): value for name, value in TINY.items() if name != "tied"}
    flags = [f"--{name}={value}" for name, value in given.items()]

    def command(name, epochs):
        place = ["--data", str(records), "--field=body", "--out", str(tmp_path / name)]
        return ["train", "small-re", *place, f"--epochs={epochs}", *flags, "--quiet"]

    done = kill_when_saved(
        [sys.executable, "-m", "tiedlm", *command("parts", 1000)], tmp_path / "parts"
    )
    for name in ("parts", "whole"):
        status, _, err = run_command(capsys, *command(name, done + 2))
        assert status == 0, err
    assert outcome(tmp_path / "parts") == outcome(tmp_path / "whole")


def test_a_run_is_evaluated_on_the_same_text_from_any_format(records, tmp_path, capsys):
    out = tmp_path / "run"
    flags = ["--epochs=1", "--d-embed=8", "--d-hidden=8", "--batch-size=4", "--field=body"]
    assert run_command(capsys, "train", "small-re", "--data", records, "--out", out, *flags)[0] == 0
    status, expected, _ = run_command(capsys, "evaluate", out, "--json")
    assert status == 0
    plain = tmp_path / "texts.jsonl"
    plain.write_bytes(gzip.decompress(records.read_bytes()))
    status, found, err = run_command(capsys, "evaluate", out, "--json", "--data", plain)
    assert (status, err) == (0, "")
    assert json.loads(found)["perplexity"] == json.loads(expected)["perplexity"]
    pattern = f"{tmp_path}/*.jsonl"
    status, found, err = run_command(capsys, "evaluate", out, "--json", "--data", pattern)
    assert (status, err) == (0, "")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.txt.gz", gzip.compress(b"a b c\n" * 99)[:-9], "t.txt.gz is damaged: it ends early"),
        ("t.jsonl", b'{"text": "a b"}\n' * 12 + b'{"id": 1}\n', "line 13 of"),
        ("t.jsonl", b'{"text": "a b"}\n' * 12 + b"{text}\n", "line 13 of"),
        ("t.jsonl", b'{"text": "a b"}\n' * 12 + b'{"text": ""}\n', "line 13 of"),
        ("t.txt", b"a b\n" * 500_000 + b"a \xff\n", "(byte 0xff in line 500001)"),
        ("t.txt", b"a b\n" * 500_000 + b"a \0\n", "line 500001 holds zero bytes"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    tmp_path, capsys, monkeypatch, name, content, message
):
    monkeypatch.setenv("TIEDLM_CACHE", str(tmp_path / "cache"))
    (tmp_path / name).write_bytes(content)
    data = ["--data", tmp_path / name, "--out", tmp_path / "run"]
    status, out, err = run_command(capsys, "train", "small-re", *data)
    assert (status, out, err.count("\n")) == (2, "", 1), err
    assert message in err
    assert not list(tmp_path.glob("cache/corpora/*"))
    assert not (tmp_path / "run").exists()


def test_a_text_in_several_blocks_and_processes_has_the_same_ids(tmp_path, monkeypatch):
    lines = [f"word{n % 977} and word{n % 13}\n" + "\n" * (n % 5 == 0) for n in range(3000)]
    (tmp_path / "t.txt").write_text("".join(lines))
    one = load_corpus(str(tmp_path / "t.txt"))
    monkeypatch.setenv("TIEDLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("tiedlm.data.encode.BLOCK", 5000)
    monkeypatch.setattr("tiedlm.data.encode.PARALLEL", 20_000)
    monkeypatch.setattr("tiedlm.data.encode.available_cores", lambda: 2)
    several = load_corpus(str(tmp_path / "t.txt"))
    assert several.vocabulary == one.vocabulary
    assert several.info == one.info
    for name in (*PARTS, "documents"):
        assert getattr(several, name).tolist() == getattr(one, name).tolist()
