"""A small table of the paper is trained within a budget, resumed and kept."""

import json
import subprocess
import time
from pathlib import Path

import pytest

from tests_support import run_command as run
from tiedlm.experiments import figure1
from tiedlm.experiments.cells import Cell
from tiedlm.experiments.paper import Published
from tiedlm.experiments.recipes import get_recipe
from tiedlm.experiments.reproduce import find_results, line_of, run_cells
from tiedlm.experiments.supervisor import ChildDied
from tiedlm.experiments.theory import TheoryRun
from tiedlm.files import write_json
from tiedlm.progress import ProgressView
from tiedlm.training.outcomes import OutOfTime, Stopped
from tiedlm.training.settings import Settings

TINY = {
    "d_embed": 12, "d_hidden": 12, "tied": True, "alpha": 2.0, "temperature": 5.0,
    "batch_size": 4, "bptt": 5, "epochs": 2,
}  # fmt: skip


def reproduce(cells, tmp_path, seconds=float("inf"), out="runs", **changes):
    with ProgressView() as view:
        run_cells(
            cells, [1], tmp_path / out, view, at_once=2, seconds=seconds,
            results=tmp_path / "results", command="tiedlm reproduce",
            changes={"threads": 1} | changes,
        )  # fmt: skip


needs_shell = pytest.mark.skipif(not Path("/bin/sh").exists(), reason="needs a shell")


def gpu_runs(tmp_path, python, *rows, **environment):
    """Start studies/gpu_runs.sh for two minutes, with a shell script instead of Python."""
    fake = tmp_path / "python3"
    fake.write_text(f"#!/bin/sh\ncd {tmp_path}\n{python}\n")
    fake.chmod(0o755)
    script = Path(__file__).parents[2] / "studies" / "gpu_runs.sh"
    path = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    return subprocess.Popen(["/bin/sh", script, "2", "out", *rows], env=path | environment)


@needs_shell
def test_gpu_runs_continues_after_a_failed_table_and_reports_it(tmp_path):
    for fails in (0, 1):
        (tmp_path / "asked").unlink(missing_ok=True)
        python = 'echo "$*" >> asked\nexit $((3 * FAILS))'
        assert gpu_runs(tmp_path, python, FAILS=str(fails)).wait(timeout=60) == 3 * fails
        asked = (tmp_path / "asked").read_text().splitlines()
        tables, recipes = asked[:4], sorted(asked[4:])
        assert [line.split()[3] for line in tables] == ["table1", "table2", "table1", "table1"]
        assert all("* --precision" in line and line.endswith("--out out") for line in tables)
        assert recipes == [
            f"-m tiedlm train {name} --precision bf16 --threads 1 --out out/{name}-seed1"
            for name in ("ptb-rhn-9-re", "ptb-rhn-9-real")
        ]


@needs_shell
def test_gpu_runs_stops_the_recipes_when_the_time_is_over(tmp_path):
    (tmp_path / "timeout").write_text('#!/bin/sh\nshift\nexec /usr/bin/timeout 1 "$@"\n')
    (tmp_path / "timeout").chmod(0o755)
    python = (
        "[ $3 = reproduce ] && exit 0\n"
        "trap 'echo > saved-$4; exit 0' TERM\nwhile :; do sleep 0.01; done"
    )
    assert gpu_runs(tmp_path, python).wait(timeout=60) == 0
    saved = {path.name for path in tmp_path.glob("saved-*")}
    assert saved == {"saved-ptb-rhn-9-re", "saved-ptb-rhn-9-real"}


@needs_shell
def test_gpu_runs_trains_rows_that_are_named_side_by_side(tmp_path):
    rows = ("table1 --only ptb* --jobs 2", "table2 --jobs 4")
    # Each waits for the other, so they would hang if they ran in sequence.
    python = (
        'echo "$* for $TIEDLM_GPU_SHARED_BY" > $4\n'
        "until [ -e table1 ] && [ -e table2 ]; do sleep 0.01; done\n[ $4 = table2 ]"
    )
    # The failure is reported and does not stop the other.
    assert gpu_runs(tmp_path, python, *rows).wait(timeout=60) == 1
    for table, row in zip(("table1", "table2"), rows, strict=True):
        asked = (tmp_path / table).read_text().strip()
        assert asked.startswith(f"-m tiedlm reproduce {row} --precision bf16")
        assert asked.endswith("--out out for 6")


@needs_shell
@pytest.mark.parametrize("rows", [(), ("table1", "table2")])
def test_gpu_runs_stops_its_processes_when_it_is_stopped(tmp_path, rows):
    python = "trap 'echo > saved-$4; exit 130' TERM\necho > began-$4\nwhile :; do sleep 0.01; done"
    running = gpu_runs(tmp_path, python, *rows)
    while len(began := {path.name[6:] for path in tmp_path.glob("began-*")}) < max(1, len(rows)):
        assert running.poll() is None
        time.sleep(0.01)
    running.terminate()
    assert running.wait(timeout=60) == 130
    assert {path.name[6:] for path in tmp_path.glob("saved-*")} == began


def test_a_table_stops_in_time_resumes_and_keeps_both_sessions(tiny_corpus, tmp_path, capsys):
    settings = Settings(data=str(tiny_corpus), **TINY)
    cells = [
        Cell("twice", settings, Published(50.0, 60.0), sessions=2),
        Cell("once", settings.replace(alpha=0.0), Published(None, 61.0)),
    ]
    with pytest.raises(OutOfTime, match="the same command continues"):
        reproduce(cells, tmp_path, seconds=0.0)
    reproduce(cells, tmp_path)
    names = sorted(path.name.partition("_")[2] for path in (tmp_path / "results").iterdir())
    assert names == ["once-seed1", "twice-seed1", "twice-seed1-session2"]
    first, second = (
        json.loads((tmp_path / "runs" / name / "result.json").read_text())
        for name in ("twice-seed1", "twice-seed1-session2")
    )
    assert second["valid_ppl"] < first["valid_ppl"]  # it started from the best weights
    found = find_results(tmp_path / "results")
    line = line_of(Cell("twice", settings, Published(50.0, 60.0), 2), found)
    assert line.sessions[0] == f"{first['valid_ppl']:.1f} / {first['test_ppl']:.1f} (1 seed)"
    assert line.difference == (f"{second['valid_ppl'] - 50:+.1f} / {second['test_ppl'] - 60:+.1f}")
    capsys.readouterr()
    # Nothing is left to do, even in a moved folder and with other hardware options.
    (tmp_path / "runs").rename(tmp_path / "moved")
    reproduce(cells, tmp_path, out="moved", threads=2)
    assert "3 runs, 3 finished" in capsys.readouterr().err
    assert len(list((tmp_path / "results").iterdir())) == 3


@pytest.mark.parametrize(("error", "expected"), [(Stopped, 130), (OutOfTime, 0)])
def test_a_signal_is_not_reported_as_the_end_of_the_budget(
    capsys, tmp_path, monkeypatch, error, expected
):
    def stop(*arguments, **options):
        raise error("saved")

    monkeypatch.setattr("tiedlm.experiments.reproduce.run_cells", stop)
    folders = ("--out", tmp_path / "runs", "--results", tmp_path / "results")
    arguments = ("table1", "--only", "ptb-small", "--budget", "5", *folders)
    assert run(capsys, "reproduce", *arguments)[0] == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["table9"], "table9"),
        (["table1", "--only", "ptb-smal"], "no such cell; there are ptb-small"),
        (["table1", "--seeds", "0"], "--seeds: expected at least 1"),
        (["table1", "--budget", "0"], "--budget: expected minutes above 0"),
        (["figure1", "--only", "ptb-small"], "--only names cells of table1 and table2"),
        (["table3", "--only", "ptb-small"], "--only names cells of table1 and table2"),
        (["table3", "--first-seed", "2"], "--first-seed needs table1, table2 or figure1"),
        (["table3", "--seeds", "2"], "--seeds needs table1, table2 or figure1"),
        (["figure2", "--jobs", "2"], "--jobs needs table1, table2 or figure1; figure2 trains"),
        (["predictions", "--budget", "5"], "--budget needs table1, table2 or figure1"),
        (["figure1", "--first-seed", "11"], "--first-seed 11 is above --seeds 10"),
        (["table1", "--first-seed", "2"], "--first-seed 2 is above --seeds 1"),
        (["figure1", "--show"], "results have no finished run; leave out --show to train"),
        (["figure2"], "run `tiedlm reproduce table1 --only 'ptb-small*'` first"),
        (["predictions"], "compare a finished VD-LSTM with a finished REAL"),
        (["predictions", "--show"], "results has no kept predictions; name its folder"),
    ],
)
def test_a_mistake_is_one_line(capsys, tmp_path, arguments, message):
    pytest.importorskip("matplotlib")
    folders = ("--out", tmp_path / "runs", "--results", tmp_path / "results")
    status, _, err = run(capsys, "reproduce", *arguments, *folders)
    assert status == 2
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("asked", "at_once", "threads"),
    [
        (["--only", "ptb-small"], 1, 8),
        (["--only", "ptb-small", "--jobs", "4"], 1, 8),
        (["--only", "ptb-small", "--seeds", "2"], 2, 4),
        (["--only", "ptb-small", "--threads", "3"], 1, 3),
        (["--jobs", "4"], 4, 2),
        ([], 8, 1),
    ],
)
def test_fewer_runs_than_cores_take_all_cores(
    capsys, tmp_path, monkeypatch, asked, at_once, threads
):
    given = {}
    monkeypatch.setattr("tiedlm.cores.available_cores", lambda: 8)
    monkeypatch.setattr("tiedlm.training.hardware.available_cores", lambda: 8)
    monkeypatch.setattr("tiedlm.training.hardware.default_threads", lambda: 8)
    monkeypatch.setattr(
        "tiedlm.experiments.reproduce.run_cells", lambda *_, **options: given.update(options)
    )
    folders = ("--out", tmp_path / "runs", "--results", tmp_path / "results")
    run(capsys, "reproduce", "table1", "--device", "cpu", *asked, *folders)
    assert (given["at_once"], given["changes"]["threads"]) == (at_once, threads)


def test_a_missing_folder_of_results_is_noted(capsys, tmp_path):
    for what in ("table1", "table3"):
        status, _, err = run(capsys, "reproduce", what, "--show", "--results", tmp_path / "none")
        assert status == 0
        assert err == f"note: {tmp_path}/none has no results; name their folder with --results\n"


@pytest.mark.parametrize(
    ("ended", "status", "says"),
    [
        (
            ChildDied("seed 2", -9),
            1,
            "seed 2: the process ended with -9; is there too little memory?",
        ),
        (Stopped("stopped with 9 runs left"), 130, "stopped with 9 runs left"),
    ],
)
@pytest.mark.parametrize("finishes_one", [False, True])
def test_figure1_keeps_what_ended_before_it_failed(
    capsys, tmp_path, monkeypatch, ended, status, says, finishes_one
):
    pytest.importorskip("matplotlib")

    def train(points, seeds, folder, *_):
        if finishes_one:
            theory_run = TheoryRun((1.0, 10.0), 1)
            settings = theory_run.settings().to_dict()
            result = {"beta": 1.0, "temperature": 10.0, "distance": 0.1, "settings": settings}
            write_json(folder / theory_run.name(), result)
        raise ended

    monkeypatch.setattr(figure1, "run_figure1", train)
    folders = ("--out", tmp_path / "runs", "--results", tmp_path / "results")
    code, out, err = run(capsys, "reproduce", "figure1", *folders)
    assert code == status
    assert says in err
    assert ("distance 0.100" in out) == finishes_one
    assert (tmp_path / "results").exists() == finishes_one


def test_figure1_keeps_once_what_an_earlier_call_could_not(capsys, tmp_path, monkeypatch):
    """Such as one that was killed after its last run, or whose --results could not be written."""
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(figure1, "run_figure1", lambda *_: [])
    folders = ("--out", tmp_path / "runs", "--results", tmp_path / "results")
    theory_run = TheoryRun((1.0, 10.0), 1)
    settings = theory_run.settings().to_dict()
    result = {"beta": 1.0, "temperature": 10.0, "seed": 1, "distance": 0.1, "settings": settings}
    write_json(tmp_path / "runs" / "figure1" / theory_run.name(), result)
    for is_first in (True, False):
        status, out, err = run(capsys, "reproduce", "figure1", *folders)
        assert status == 0, err
        assert (str(tmp_path / "results") in out) == is_first
    (kept,) = (tmp_path / "results").iterdir()
    assert json.loads((kept / "metrics.json").read_text())["figure1"][0]["distance"] == 0.1


def test_a_table_is_shown_without_training(capsys, tmp_path):
    folders = ("--out", tmp_path / "runs", "--results", tmp_path / "results")
    status, out, _ = run(capsys, "reproduce", "table2", "--show", *folders)
    assert status == 0
    assert "wikitext-2-first-half-small-real" in out
    assert f"not begun in {tmp_path / 'runs'}: 8 runs" in out
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("what", "shown"),
    [
        ("predictions", "federal vd-lstm: the 0.168, federal 0.098,"),
        ("predictions", "[federal: 0.098]"),
        ("figure1", "beta 1, temperature 10: distance 0.096 (from 0.089 to 0.103, 10 runs)"),
        ("figure2", "small, session 1, best on validation: vd-lstm 92.8, vd-lstm-al 90.7"),
        ("table1", "ptb-small-real"),
        ("table3", "REAL, small (ours, seed 1"),
    ],
)
def test_show_prints_what_is_kept_and_writes_nothing(capsys, tmp_path, monkeypatch, what, shown):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    results = Path(__file__).parents[2] / "results"
    before = {path: path.stat().st_mtime_ns for path in results.rglob("*")}
    status, out, err = run(capsys, "reproduce", what, "--show", "--results", results)
    assert status == 0, err
    assert shown in " ".join(out.split())
    assert list(tmp_path.iterdir()) == []
    assert {path: path.stat().st_mtime_ns for path in results.rglob("*")} == before


@pytest.fixture
def kept(tmp_path):
    """Return a folder of results with an invented baseline and REAL of Table 1."""
    for number, recipe in enumerate(("ptb-small", "ptb-small-real")):
        folder = tmp_path / "results" / f"2026-01-01_{recipe}-seed1"
        folder.mkdir(parents=True)
        settings = {"settings": get_recipe(recipe).to_dict()}
        (folder / "config.json").write_text(json.dumps(settings))
        curve = [{"epoch": e, "valid_ppl": 200 / e - number} for e in (1, 2)]
        metrics = {
            "valid_ppl": 100 - number, "test_ppl": 98.25, "parameters": 2_600_000, "best_epoch": 2,
            "curve": curve,
        }  # fmt: skip
        (folder / "metrics.json").write_text(json.dumps(metrics))
    return ("--out", tmp_path / "runs", "--results", tmp_path / "results")


def test_figure2_is_drawn_from_kept_runs(capsys, tmp_path, kept):
    pytest.importorskip("matplotlib")
    status, out, err = run(capsys, "reproduce", "figure2", *kept)
    assert status == 0, err
    assert (tmp_path / "runs" / "figure2-small.png").read_bytes().startswith(b"\x89PNG")
    assert "figure2-small.png" in out


def test_table3_has_others_numbers_and_kept_runs(capsys, kept, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    status, out, _ = run(capsys, "reproduce", "table3", *kept)
    assert status == 0
    assert "Pointer Sentinel-LSTM" in out
    ours = next(line for line in out.splitlines() if "REAL, small (ours, seed 1" in line)
    assert "2.6M" in ours
    assert "98.2" in ours
