"""A kept run has its settings, its result and its environment."""

import json

import pytest

from tiedlm.errors import UserError
from tiedlm.experiments.results import keep, kept_runs, summary, unpack
from tiedlm.files import write_json


def finished_run(folder, seed):
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"settings": {"seed": seed}}))
    (folder / "env.json").write_text(json.dumps({"torch": "x"}))
    (folder / "metrics.jsonl").write_text('{"epoch": 1, "valid_ppl": 9.0}\n')
    (folder / "result.json").write_text(json.dumps({"recipe": "r", "seed": seed}))
    return folder


def test_a_run_keeps_its_result_with_the_curve_and_the_command(tmp_path):
    folder = keep([finished_run(tmp_path / "a", 1)], "name", tmp_path / "results", "make it")
    assert folder.name.endswith("_name")
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics == {"recipe": "r", "seed": 1, "curve": [{"epoch": 1, "valid_ppl": 9.0}]}
    assert json.loads((folder / "env.json").read_text()) == {"torch": "x", "command": "make it"}
    assert json.loads((folder / "config.json").read_text()) == {"settings": {"seed": 1}}


def test_a_study_keeps_all_its_runs(tmp_path):
    runs = [finished_run(tmp_path / name, seed) for name, seed in (("a", 1), ("b", 2))]
    folder = keep(runs, "study", tmp_path / "results", "make it")
    metrics = json.loads((folder / "metrics.json").read_text())
    assert [run["seed"] for run in metrics["runs"]] == [1, 2]
    first, *lines, last = (folder / "metrics.json").read_text().splitlines()
    assert (first, last) == ('{"runs": [', "]}")
    assert [json.loads(line.removesuffix(",")) for line in lines] == metrics["runs"]


def test_a_kept_run_unpacks_to_the_same_run_without_weights(tmp_path):
    runs = [finished_run(tmp_path / name, seed) for name, seed in (("a", 1), ("b", 2))]
    keep(runs, "study", tmp_path / "results", "make it")
    keep(runs[:1], "one", tmp_path / "results", "make it")
    kept = list(kept_runs(tmp_path / "results"))
    assert sorted((run.folder.name[11:], run.metrics["seed"]) for run in kept) == [
        ("one", 1), ("study", 1), ("study", 2),
    ]  # fmt: skip
    again = tmp_path / "again"
    unpack(next(run for run in kept if run.metrics["seed"] == 2), again)
    assert summary(again) == summary(runs[1])
    assert json.loads((again / "config.json").read_text()) == {"settings": {"seed": 2}}
    assert not (again / "model.safetensors").exists()


def test_only_a_complete_result_is_found(tmp_path, monkeypatch):
    def full(path, value):
        if path.name == "config.json":
            raise UserError("no space")
        write_json(path, value)

    run = finished_run(tmp_path / "a", 1)
    monkeypatch.setattr("tiedlm.experiments.results.write_json", full)
    with pytest.raises(UserError, match="no space"):
        keep([run], "name", tmp_path / "results", "make it")
    assert not list((tmp_path / "results").glob("*/metrics.json"))


def test_an_unfinished_run_is_refused(tmp_path):
    run = finished_run(tmp_path / "a", 1)
    (run / "result.json").unlink()
    with pytest.raises(UserError, match="is not finished"):
        keep([run], "name", tmp_path / "results", "make it")
    assert not (tmp_path / "results").exists()
