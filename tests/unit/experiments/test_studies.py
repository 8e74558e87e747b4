"""What the studies of ``benchmarks/`` make of runs that are here and of runs that are only kept."""

import importlib
import json
from argparse import Namespace
from pathlib import Path

import pytest

from tiedlm.experiments.parallel import Job
from tiedlm.experiments.results import keep
from tiedlm.files import write_json
from tiedlm.training.settings import Settings

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")


def finished(job, test_ppl):
    write_json(job.out / "config.json", {"settings": job.settings.to_dict()})
    write_json(job.out / "env.json", {})
    write_json(job.out / "result.json", {"seed": job.settings.seed, "test_ppl": test_ppl})
    (job.out / "metrics.jsonl").write_text('{"epoch": 1, "valid_ppl": 9.0}\n')
    return job


def jobs(out):
    settings = Settings(data="ptb", tied=True, epochs=1)
    return {
        ("RE", seed): Job(settings.replace(seed=seed), out / f"RE-{seed}") for seed in (1, 2, 3)
    }


def test_to_show_a_study_takes_kept_runs_its_own_first_and_writes_none_of_them_to_out(tmp_path):
    study = importlib.import_module("study")
    results, out = tmp_path / "results", tmp_path / "out"
    for folder, name, own in (("a", "the-study", 10.0), ("b", "zz-another", 20.0)):
        runs = [finished(job, own).out for job in jobs(tmp_path / folder).values()]
        keep(runs[: 2 if folder == "a" else 3], name, results, "make it")
    found = jobs(out)
    finished(found["RE", 1], 30.0)
    second_session = found["RE", 3].settings.replace(init_from=str(found["RE", 1].out))
    other = Job(found["RE", 3].settings.replace(seed=4), tmp_path / "c")
    keep([finished(Job(second_session, tmp_path / "d"), 1.0).out], "s2", results, "make it")

    shown = study.trained(
        "the-study", {**found, ("RE", 4): other}, [], Namespace(show=True, results=results)
    )

    # Here before kept, the study's own before another's; a second session is another run.
    values = study.values_by_seed(shown, ("RE",), "test_ppl")
    assert values == {1: 30.0, 2: 10.0, 3: 20.0}
    assert [path.name for path in out.iterdir()] == ["RE-1"]
    assert not any(study.has_weights(job) for job in shown.values())
    (found["RE", 1].out / "model.safetensors").touch()
    assert study.has_weights(shown["RE", 1])


def test_what_is_only_kept_does_not_count_as_trained(tmp_path):
    study = importlib.import_module("study")
    found = jobs(tmp_path / "out")
    keep([finished(job, 1.0).out for job in jobs(tmp_path / "a").values()], "s", tmp_path, "it")
    with pytest.raises(SystemExit, match="no run of this study is finished"):
        study.trained("s", found, [], Namespace(show=False, results=tmp_path, jobs=1, budget=1.0))


@pytest.mark.parametrize("name", ["bias", "strength"])
def test_a_kept_table_is_made_again_from_what_is_kept(name, monkeypatch, tmp_path, capsys):
    """No number of theirs was written by hand, and none needs the models."""
    folders = sorted((ROOT / "results").glob(f"*_{name}"))
    assert len(folders) == 1
    results = tmp_path / "results"
    for folder in (*folders, *(ROOT / "results").glob("*_semantic-long*")):
        (results / folder.name).mkdir(parents=True)
        for file in folder.glob("*.json"):
            (results / folder.name / file.name).write_bytes(file.read_bytes())
    flags = ["--show", "--precision", "bf16", "--seeds", "3", "--out", str(tmp_path / "none")]
    monkeypatch.setattr("sys.argv", [f"{name}.py", *flags, "--results", str(results)])
    importlib.import_module(name).main()
    made = next(results.glob(f"*_{name}/table.md"))
    assert made.read_text() == (folders[0] / "table.md").read_text()
    capsys.readouterr()
    kept = json.loads((folders[0] / "measured.json").read_text())
    assert json.loads(made.with_name("measured.json").read_text()) == kept
