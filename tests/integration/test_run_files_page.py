"""The page about a run's files names every file and key of a real run, and no others."""

import json
import re
from pathlib import Path

import pytest

from conftest import write_corpus
from tests_support import run_command

PAGE = (Path(__file__).parents[2] / "docs" / "run_files.md").read_text(encoding="utf-8")
PIECES = {
    "word_perplexity", "bits_per_byte", "valid_word_perplexity", "test_word_perplexity",
    "valid_bits_per_byte", "test_bits_per_byte",
}  # fmt: skip


def named(heading):
    """Return the names in the first column of the table below a heading."""
    table = PAGE[PAGE.index(heading) :].split("\n\n|", 1)[1].split("\n\n")[0]
    cells = [line.split("|")[1] for line in f"|{table}".splitlines()]
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return the folder of a run of two epochs, tuned, with kept weights."""
    from tiedlm.cli import main

    folder = tmp_path_factory.mktemp("files")
    text = write_corpus(folder / "text", lines=(60, 60, 60))
    main([
        "train", "small", f"--data={text}", f"--out={folder / 'run'}", "--keep-at=200",
        "--evaluate-every=150", "--d-embed=8", "--d-hidden=8", "--batch-size=4", "--bptt=5",
        "--epochs=1", "--threads=1", "--quiet",
    ])  # fmt: skip
    main(["evaluate", str(folder / "run"), "--dynamic"])
    main(["evaluate", str(folder / "run"), "--temperature", "fit", "--tune"])
    return folder / "run"


def test_every_file_is_named(run):
    found = {path.name for path in run.iterdir()}
    assert named("# The files of a run") - found <= {
        "tokenizer.json",
        "tensorboard",
        "unfinished",
    }
    assert found <= named("# The files of a run")


def test_every_key_is_named(run):
    def keys(path):
        return {key for line in path.read_text().splitlines() for key in json.loads(line)}

    def whole(path):
        return set(json.loads(path.read_text()))

    kept = whole(run / "checkpoints" / "200" / "config.json")
    assert (
        named("## `config.json`") - {"keep_at", "began_from"} == whole(run / "config.json") | kept
    )
    assert named("## `metrics.jsonl`") - PIECES == keys(run / "metrics.jsonl")
    assert named("## `result.json`") - PIECES == whole(run / "result.json")
    on_a_gpu = {"gpu_shared_by", "cuda_graph"}
    assert named("## `env.json`") - {"earlier"} == whole(run / "env.json") | on_a_gpu


def test_every_key_of_a_run_of_pieces_is_named(tmp_path, capsys):
    pytest.importorskip("tokenizers")
    text = write_corpus(tmp_path / "text", lines=(60, 20, 20))
    status, _, err = run_command(
        capsys, "train", "small", f"--data={text}", f"--out={tmp_path / 'run'}", "--pieces=bpe",
        "--vocab-size=270", "--d-embed=8", "--d-hidden=8", "--batch-size=4", "--bptt=5",
        "--epochs=1", "--threads=1", "--quiet",
    )  # fmt: skip
    assert not status, err
    line = json.loads((tmp_path / "run" / "metrics.jsonl").read_text())
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert line.keys() == named("## `metrics.jsonl`") - {"inside_epoch"}
    assert result.keys() == named("## `result.json`")
    assert (tmp_path / "run" / "tokenizer.json").is_file()
