"""The study of evaluation methods goes on, fits on validation alone, and mixes what it measured."""

import json
import shutil

import pytest

from conftest import write_corpus
from studies import evaluation_methods as study
from tiedlm.cli import main
from tiedlm.data import load_corpus
from tiedlm.errors import UserError

FLAGS = ["--d-embed=8", "--d-hidden=8", "--batch-size=4", "--bptt=5", "--epochs=1", "--threads=1",
         "--lr=0.5", "--init-range=0.3", "--quiet"]  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    corpus = write_corpus(folder / "corpus", lines=(60, 30, 30))
    for name, recipe in (("RE", "small-re"), ("REAL", "small-real")):
        main(["train", recipe, f"--data={corpus}", f"--out={folder / name}", *FLAGS])
    return folder


@pytest.fixture
def folder(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "runs")


def call(monkeypatch, folder, *flags):
    out = ["--out", str(folder / "out"), "--results", str(folder / "results")]
    runs = [str(folder / name) for name in ("RE", "REAL")]
    monkeypatch.setattr("sys.argv", ["evaluation_methods.py", *runs, *out, *flags])
    study.main()


def cells(text):
    return [[cell.strip() for cell in line.strip("|\n").split("|")] for line in
            text.splitlines()[2:]]  # fmt: skip


def test_it_stops_goes_on_fits_on_validation_and_mixes_the_losses(folder, monkeypatch, capsys):
    with pytest.raises(SystemExit, match=r"^0$"):
        call(monkeypatch, folder, "--tune", "--budget=0")
    assert "stopped; the same command continues" in capsys.readouterr().err
    call(monkeypatch, folder, "--tune", "--keep")
    valid = len(load_corpus(str(folder / "corpus")).valid) - 1
    for name in ("RE", "REAL"):
        lines = (folder / name / "tuning.jsonl").read_text().splitlines()
        assert {json.loads(line)["trial"]["words"] for line in lines} == {valid}
    (kept,) = (folder / "results").iterdir()
    assert kept.name.endswith("_evaluation-methods")
    rows = json.loads((kept / "metrics.json").read_text())
    assert [(row["runs"], row["method"]) for row in rows] == [
        *(([name], method) for name in ("RE", "REAL") for method in study.METHODS),
        *((["RE", "REAL"], method) for method in study.MIXED),
    ]
    by = {(*row["runs"], row["method"]): row for row in rows}
    for name in ("RE", "REAL"):
        result = json.loads((folder / name / "result.json").read_text())
        for part in ("valid", "test"):
            assert by[name, "plain"][f"{part}_ppl"] == pytest.approx(result[f"{part}_ppl"], 1e-4)
        for method in study.METHODS:
            assert by[name, method]["valid_ppl"] <= by[name, "plain"]["valid_ppl"] * 1.0001
    for method in study.MIXED:
        mixed = by["RE", "REAL", method]["valid_ppl"]
        assert mixed <= min(by[name, method]["valid_ppl"] for name in ("RE", "REAL")) * 1.0001
    table = (kept / "table.md").read_text()
    (against,) = [row[6] for row in cells(table) if row[:2] == ["REAL", "dynamic, cache"]]
    first, second = (by[name, "dynamic, cache"]["test_ppl"] for name in ("RE", "REAL"))
    assert against == f"{second - first:+.2f}"

    losses = sorted((folder / "out" / "losses").iterdir())
    times = [path.stat().st_mtime_ns for path in losses]
    call(monkeypatch, folder, "--tune", "--keep")  # nothing is evaluated again
    assert [path.stat().st_mtime_ns for path in losses] == times
    assert json.loads((kept / "metrics.json").read_text()) == rows


def test_gains_of_a_mixture_are_against_the_best_run_on_validation():
    def row(runs, method, ppl):
        values = {"ppl": ppl, "words": 1000, "seconds": 0.5}
        numbers = {f"{part}_{name}": values[name] for part in study.PARTS for name in values}
        return {"runs": runs, "method": method} | numbers

    rows = [row(["a"], "plain", 90.0), row(["a"], "cache", 80.0), row(["b"], "plain", 88.0),
            row(["b"], "cache", 81.0), row(["a", "b"], "plain", 84.5)]  # fmt: skip
    found = cells(study.table(rows))
    assert [line[5] for line in found] == ["-", "-10.00", "-", "-7.00", "-3.50"]
    assert [line[6] for line in found] == ["-", "-", "-2.00", "+1.00", "-"]
    assert {line[7] for line in found} == {"500"}


def test_runs_of_another_text_are_refused(folder, monkeypatch):
    other = write_corpus(folder / "other", lines=(60, 30, 30), seed=1)
    shutil.copy(folder / "corpus" / "train.txt", other / "train.txt")  # the same words
    config = json.loads((folder / "REAL" / "config.json").read_text())
    config["settings"]["data"] = str(other)
    (folder / "REAL" / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"REAL has another valid text than .*RE"):
        call(monkeypatch, folder)
