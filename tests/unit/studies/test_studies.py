"""The studies have a --help and handle runs in --out and kept runs."""

import importlib
import math
import shutil
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from studies import harness, noise, semantic
from tiedlm.errors import UserError
from tiedlm.experiments.parallel import Job
from tiedlm.experiments.results import keep
from tiedlm.experiments.supervisor import ChildDied
from tiedlm.files import write_json
from tiedlm.training.outcomes import Diverged, Stopped
from tiedlm.training.settings import Settings

ROOT = Path(__file__).parents[3]
STUDIES = [
    "adaptation", "bf16", "bias", "data_size", "defaults", "depth", "evaluation_methods", "evening",
    "high_temperature", "keep", "monte_carlo", "networks", "noise", "pieces", "quadratic",
    "reproduction", "rhn_curve", "semantic", "strength", "target_grad",
]  # fmt: skip
NO_STUDIES = {
    "__init__", "gains_plot", "gradient_paths", "harness", "idea", "inside", "network_tables",
}  # fmt: skip


def test_every_program_of_the_package_is_tested_here():
    assert {path.stem for path in (ROOT / "studies").glob("*.py")} == {*STUDIES, *NO_STUDIES}


@pytest.mark.parametrize("name", STUDIES)
def test_help_begins_with_what_the_study_asks_and_has_an_out_of_its_own(name, monkeypatch, capsys):
    study = importlib.import_module(f"studies.{name}")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("sys.argv", [f"/x/{name}.py", "--help"])
    with pytest.raises(SystemExit, match="0"):
        study.main()
    usage, first, rest = capsys.readouterr().out.split("\n\n", 2)
    assert usage.startswith(f"usage: python -m studies.{name} [-h] [--out OUT]")
    assert first == study.__doc__.split("\n\n")[0].strip()
    assert "\n" not in first
    assert first.endswith("." if name == "keep" else "?")
    folder = {"keep": "results", "reproduction": str(ROOT)}.get(
        name, f"runs/{name.replace('_', '-')}"
    )
    assert f"(default: {folder})" in " ".join(rest.split())


def test_the_out_of_a_long_schedule_is_another(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for flags, name in (([], "semantic"), (["--long"], "semantic-long")):
        monkeypatch.setattr("sys.argv", ["/x/semantic.py", *flags, "--show"])
        with pytest.raises(UserError, match=f"no run .* in {Path('runs', name)}$"):
            semantic.main()


def test_a_mistake_is_one_line_and_exit_status_2(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("sys.argv", ["/x/noise.py", str(tmp_path)])
    quadratic = importlib.import_module("studies.quadratic")
    with pytest.raises(SystemExit, match="2"):
        harness.start(quadratic.main)
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "status", "says"),
    [
        (Diverged("epoch 2, loss nan", Path("run")), 1, "epoch 2, loss nan"),
        (ChildDied("run-1", -9), 1, "The same command continues"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_what_stops_a_study_is_one_line(error, status, says, capsys):
    def main():
        raise error

    with pytest.raises(SystemExit, match=str(status)):
        harness.start(main)
    err = capsys.readouterr().err
    assert says in err
    assert err.count("\n") == 1


def test_a_study_that_is_asked_to_stop_ends_as_the_command_line_does(monkeypatch, capsys):
    def stop(*_):
        raise Stopped("everything is saved")

    monkeypatch.setattr(harness, "train_all", stop)
    with pytest.raises(SystemExit, match=r"^130$"):
        harness.train([], Namespace(jobs=1, budget=1.0))
    assert "everything is saved" in capsys.readouterr().err


def test_a_share_of_the_text_that_is_not_studied_is_refused(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["/x/data_size.py", "--fractions", "0.2"])
    with pytest.raises(SystemExit, match="2"):
        importlib.import_module("studies.data_size").main()
    assert "0.05, 0.1, 0.225, 0.5" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["evaluation_methods", "high_temperature", "monte_carlo"])
def test_runs_are_told_apart_by_their_names(name, monkeypatch, capsys):
    """Otherwise the gain of the second would be measured against the first."""
    monkeypatch.setattr("sys.argv", [f"/x/{name}.py", "a/seed1", "b/seed2", "b/seed1"])
    with pytest.raises(SystemExit, match="2"):
        importlib.import_module(f"studies.{name}").main()
    assert "two run folders are called 'seed1'; rename one" in capsys.readouterr().err


def test_a_command_may_be_typed_again_in_a_shell(monkeypatch):
    monkeypatch.setattr("sys.argv", ["/x/studies/semantic.py", "--only", "label smoothing 0.1"])
    assert harness.command() == "python -m studies.semantic --only 'label smoothing 0.1'"


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


def test_show_prefers_the_studys_own_kept_runs_and_writes_none_to_out(tmp_path):
    results, out = tmp_path / "results", tmp_path / "out"
    for folder, name, own in (("a", "the-study", 10.0), ("b", "zz-another", 20.0)):
        runs = [finished(job, own).out for job in jobs(tmp_path / folder).values()]
        keep(runs[: 2 if folder == "a" else 3], name, results, "make it")
    found = jobs(out)
    finished(found["RE", 1], 30.0)
    second_session = found["RE", 3].settings.replace(init_from=str(found["RE", 1].out))
    other = Job(found["RE", 3].settings.replace(seed=4), tmp_path / "c")
    keep([finished(Job(second_session, tmp_path / "d"), 1.0).out], "s2", results, "make it")

    shown = harness.trained(
        "the-study", {**found, ("RE", 4): other}, [], Namespace(show=True, results=results)
    )

    # Runs in --out come before kept ones, the study's own before others. A second session differs.
    values = harness.values_by_seed(shown, ("RE",), "test_ppl")
    assert values == {1: 30.0, 2: 10.0, 3: 20.0}
    assert [path.name for path in out.iterdir()] == ["RE-1"]
    assert not any(harness.has_weights(job) for job in shown.values())
    (found["RE", 1].out / "model.safetensors").touch()
    assert harness.has_weights(shown["RE", 1])


def test_a_kept_run_does_not_count_as_trained(tmp_path):
    found = jobs(tmp_path / "out")
    keep([finished(job, 1.0).out for job in jobs(tmp_path / "a").values()], "s", tmp_path, "it")
    options = Namespace(show=False, results=tmp_path, out=tmp_path / "out", jobs=1, budget=1.0)
    with pytest.raises(UserError, match=r"no run of this study is finished in .*out"):
        harness.trained("s", found, [], options)


def test_a_study_of_many_evenings_trains_what_is_wanted_and_not_kept(tmp_path, monkeypatch):
    found = jobs(tmp_path / "out")
    keep([finished(jobs(tmp_path / "a")["RE", 1], 10.0).out], "s", tmp_path, "it")
    trained = []

    def train_all(wanted, *given):
        trained.extend(finished(job, 20.0).settings.seed for job in wanted)

    monkeypatch.setattr(harness, "train_all", train_all)
    options = Namespace(show=False, results=tmp_path, jobs=1, budget=1.0)
    done = harness.trained_or_kept("s", found, [("RE", 1), ("RE", 3)], options)
    assert trained == [3]
    assert harness.values_by_seed(done, ("RE",), "test_ppl") == {1: 10.0, 3: 20.0}
    options.show = True
    again = harness.trained_or_kept("s", found, list(found), options)
    assert (trained, set(again)) == ([3], set(done))


SHOWN = {
    "bias": ("bias", ["--seeds", "3"]),
    "strength": ("strength", ["--seeds", "3"]),
    "data-size": ("data_size", []),
    "semantic-long": (
        "semantic",
        ["--long", "--seeds", "3", "--only", "RE", "own", "permuted", "uniform"],
    ),
}


@pytest.mark.parametrize("name", SHOWN)
def test_show_prints_the_kept_table_and_writes_nothing(name, monkeypatch, tmp_path, capsys):
    """The tables need neither numbers written by hand, nor the models, nor the text."""
    program, flags = SHOWN[name]
    (kept,) = (ROOT / "results").glob(f"????-??-??_{name}")
    results = tmp_path / "results"
    shutil.copytree(ROOT / "results", results)
    pictures = {path: path.read_bytes() for path in (ROOT / "docs/images").iterdir()}
    before = {path: path.stat().st_mtime_ns for path in sorted(tmp_path.rglob("*"))}
    study = importlib.import_module(f"studies.{program}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Settings, "load_corpus", lambda *given, **options: pytest.fail("no text"))
    given = [*flags, "--precision", "bf16", "--show", "--results", str(results)]
    monkeypatch.setattr("sys.argv", [f"/x/{program}.py", *given])
    study.main()
    assert capsys.readouterr().out == (kept / "table.md").read_text() + "\n"
    assert {path: path.stat().st_mtime_ns for path in sorted(tmp_path.rglob("*"))} == before
    assert pictures == {path: path.read_bytes() for path in (ROOT / "docs/images").iterdir()}


def test_noise_is_pooled_over_kinds_of_the_study_only(tmp_path):
    results, wanted = tmp_path / "results", semantic.jobs(tmp_path, 3, "bf16", long=True)[1]
    offsets = {
        "RE": (0.0, 1.0, 2.0),
        "own, with gradient (REAL)": (10.0, 12.0, 11.0),
        "unigram": (5.0, 5.0, 8.0),
        "uniform": (0.0, 90.0, 0.0),
    }
    for kind, values in offsets.items():
        runs = []
        for seed, value in enumerate(values, 1):
            runs.append(finished(wanted[kind, seed], value).out)
            result = {"seed": seed, "test_ppl": value, "valid_ppl": 2 * value}
            write_json(runs[-1] / "result.json", result)
        keep(runs, kind.split(",")[0], results, "make it")
    other = wanted["RE", 2].settings.replace(fraction=0.5)
    again = wanted["RE", 2].settings.replace(init_from=str(wanted["RE", 2].out))
    for name, settings in (("other", other), ("again", again)):
        keep([finished(Job(settings, tmp_path / name), 40.0).out], name, results, "make it")

    found = noise.kinds(results)
    assert found.pop("uniform, gamma 0.65, temperature 20")["test_ppl"][2] == 90.0
    tests = [parts["test_ppl"] for parts in found.values()]
    values_KS = np.array([[kind[seed] for seed in (1, 2, 3)] for kind in tests])
    assert sorted(map(tuple, values_KS)) == sorted(list(offsets.values())[:3])
    deviation, freedom = noise.pooled(tests)
    assert freedom == 6
    assert deviation == pytest.approx(math.sqrt(values_KS.var(1, ddof=1).mean()))
    # Least squares of kinds and seeds, of 9 values with 5 coefficients.
    kinds_KS, seeds_KS = np.indices(values_KS.shape)
    design = np.stack([*(kinds_KS == k for k in range(3)), seeds_KS == 1, seeds_KS == 2], -1)
    design = design.reshape(9, 5).astype(float)
    squares = np.linalg.lstsq(design, values_KS.ravel(), rcond=None)[1][0]
    assert noise.without_seeds(tests) == pytest.approx(math.sqrt(squares / 4))
    text = noise.table(results)
    assert "without uniform, gamma 0.65, temperature 20" in text
    half = scipy.stats.t.ppf(0.975, 6) * deviation * math.sqrt(2 / 3)
    assert f"three seeds differ by less than {2 * half:.2f} / {half:.2f} " in text
