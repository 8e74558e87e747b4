"""The runs of Figure 1 are done once, resumed, kept and drawn."""

import multiprocessing
import threading
import time

import pytest

from tiedlm.analysis.plots import plot_theory
from tiedlm.experiments import figure1
from tiedlm.experiments.figure1 import (
    distances_by_point,
    keep_figure1,
    read_figure1,
    restore_figure1,
    run_figure1,
)
from tiedlm.experiments.results import keep_study
from tiedlm.experiments.supervisor import ChildDied
from tiedlm.experiments.theory import TheoryRun
from tiedlm.files import read_json, write_json
from tiedlm.progress import ProgressView


def test_finished_runs_are_not_repeated_and_a_zero_budget_leaves_the_rest(tmp_path, monkeypatch):
    points = [(0.0, 10.0), (1.0, 10.0)]
    result = {"beta": 0.0, "temperature": 10.0, "distance": 0.9}
    write_json(tmp_path / TheoryRun((0.0, 10.0), 1).name(), result)
    with ProgressView() as view:
        left = run_figure1(points, [1], tmp_path, view, at_once=1, seconds=0.0, changes={})
    assert [run.point for run in left] == [(1.0, 10.0)]
    assert distances_by_point(read_figure1(tmp_path)) == {(0.0, 10.0): [0.9]}


def test_a_killed_process_leaves_nothing_half_written(tmp_path):
    others = set(multiprocessing.active_children())

    def kill_the_first():
        while not (children := set(multiprocessing.active_children()) - others):
            time.sleep(0.01)
        children.pop().kill()

    killer = threading.Thread(target=kill_the_first)
    killer.start()
    with ProgressView() as view, pytest.raises(ChildDied) as died:
        run_figure1(
            [(1.0, 10.0)], [1, 2], tmp_path, view, at_once=1, seconds=100.0,
            changes={"data": str(tmp_path / "none")},  # without the kill it would fail
        )  # fmt: skip
    killer.join()
    assert died.value.was_killed
    assert not list(tmp_path.iterdir())


def test_kept_runs_are_used_if_their_folder_is_gone(tmp_path):
    results, folder = tmp_path / "results", tmp_path / "runs"
    run = {"beta": 0.0, "temperature": 10.0, "seed": 3, "distance": 0.9}
    own, other = (TheoryRun((beta, 10.0), 3).settings().to_dict() for beta in (0.0, 1.0))
    study, settings = {"figure1": [run]}, {"figure1": other | {"threads": 5}}
    keep_study("figure1", study, settings, results, "command", ran_in={"compiled": True})
    restore_figure1(results, folder)
    file = folder / TheoryRun((0.0, 10.0), 3).name()
    environment = {"compiled": True, "command": "command"}
    expected = {**run, "settings": own | {"threads": 5}, "environment": environment}
    assert read_json(file) == expected
    write_json(file, {"distance": 0.5})
    restore_figure1(results, folder)
    assert read_json(file) == {"distance": 0.5}


def test_runs_are_kept_with_the_settings_of_each(tmp_path):
    runs = [
        {"beta": 0.0, "temperature": 10.0, "seed": seed, "environment": {"command": "before"},
         "settings": TheoryRun((0.0, 10.0), seed, changes=changes).settings().to_dict()}
        for seed, changes in ((1, {"precision": "bf16"}), (2, {"precision": "fp32", "threads": 2}))
    ]  # fmt: skip
    for _ in range(2):  # kept runs are kept again, with new ones
        keep_figure1(runs, tmp_path / "results", "command")
        restore_figure1(tmp_path / "results", tmp_path / "runs")
        assert read_figure1(tmp_path / "runs") == runs


def test_the_figure_has_both_panels(tmp_path):
    found = {point: [0.1, 0.2] for point in {*figure1.PANEL_A, *figure1.PANEL_B}}
    plot_theory(found, tmp_path / "figure1.png")
    assert (tmp_path / "figure1.png").read_bytes().startswith(b"\x89PNG")
