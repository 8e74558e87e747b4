"""A table of the paper shows kept runs beside the paper's numbers."""

import json
import re
from pathlib import Path

import pytest

from tiedlm.errors import UserError
from tiedlm.experiments.cells import choose, is_finished, jobs_of, table1, table2, what_it_is
from tiedlm.experiments.parallel import Job
from tiedlm.experiments.recipes import get_recipe
from tiedlm.experiments.reproduce import (
    HEADER,
    find_results,
    keep_finished,
    line_of,
    markdown,
    remaining,
    runs_of,
)
from tiedlm.experiments.results import kept_runs
from tiedlm.files import write_json

REAL = choose(table1(), ["ptb-small-real"])[0]


def kept(results, name, valid, test, **changes):
    settings = get_recipe("ptb-small-real").replace(**changes).to_dict()
    folder = results / f"2026-01-01_{name}"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"settings": settings}))
    metrics = {"valid_ppl": valid, "test_ppl": test, "seconds": 1.0, "curve": []}
    (folder / "metrics.json").write_text(json.dumps(metrics))


@pytest.mark.parametrize("config", ['{"settings": {"lr": 1}}', "5", None])
def test_results_of_another_program_do_not_count(tmp_path, config):
    kept(tmp_path, "a", 90.0, 86.0)
    (tmp_path / "exp1").mkdir()
    (tmp_path / "exp1" / "metrics.json").write_text('{"accuracy": 1.0}')
    if config is not None:
        (tmp_path / "exp1" / "config.json").write_text(config)
    assert [run.metrics["valid_ppl"] for _, run in find_results(tmp_path)] == [90.0]


def test_a_cell_is_the_mean_over_seeds_and_its_last_session_is_compared(tmp_path):
    kept(tmp_path, "a", 90.0, 86.0, seed=1)
    kept(tmp_path, "b", 92.0, 88.0, seed=2, threads=1, precision="bf16", device="cuda")
    kept(tmp_path, "c", 86.8, 83.0, seed=1, init_from="runs/x")
    line = line_of(REAL, find_results(tmp_path))
    assert line.sessions == ("91.0 / 87.0 (2 seeds)", "86.8 / 83.0 (1 seed)")
    assert line.difference == "+0.5 / +0.3"
    assert line.seeds == "1"
    assert line.paper == "86.3 / 82.7"


def test_arithmetic_that_is_not_float32_is_named(tmp_path):
    kept(tmp_path, "b", 92.0, 88.0, seed=2, precision="bf16")
    assert line_of(REAL, find_results(tmp_path)).seeds == "2, bf16"


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 9},
        {"lr_decay": 0.65},
        {"alpha": 12.0},
        {"fraction": 0.5},
        {"target_grad": False},
        {"decoder_bias": False},
    ],
)
def test_a_run_with_other_settings_is_not_the_cell(tmp_path, change):
    kept(tmp_path, "a", 90.0, 86.0, **change)
    found = find_results(tmp_path)
    assert len(found) == 1
    assert runs_of(REAL, found, 1) == []
    line = line_of(REAL, found)
    assert line.difference == line.seeds == "-"
    assert line.sessions[0].startswith("not run, ")


def test_a_number_from_memory_is_marked():
    cell = choose(table1(), ["wikitext-2-small"])[0]
    assert line_of(cell, []).paper == "~112.2 / 105.9"


def test_markdown_has_a_row_for_each_line():
    text = markdown([line_of(cell, []) for cell in table1()])
    rows = text.splitlines()
    assert len(rows) == 2 + len(table1())
    assert {row.count("|") for row in rows} == {len(HEADER) + 1}


def begin(run, epochs, finished=None):
    """Make a run folder. ``finished`` are the settings of a finished one."""
    run.mkdir(parents=True)
    lines = [{"epoch": e + 1, "valid_ppl": 100.0 - e, "seconds": 60.0} for e in range(epochs)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if finished:
        result = {"valid_ppl": 1.0, "test_ppl": 2.0, "seconds": 3.5}
        (run / "result.json").write_text(json.dumps(result))
        (run / "config.json").write_text(json.dumps({"settings": finished.to_dict()}))
        (run / "env.json").write_text("{}")


def test_remaining_runs_are_listed_with_their_cost(tmp_path):
    begin(tmp_path / "ptb-small-real-seed1", 5)
    lines = remaining([REAL], [1], tmp_path)
    assert lines[0] == (
        "ptb-small-real-seed1: epoch 5 of 45, best validation 96.00, 40:00 left at this rate"
    )
    hours = f"{REAL.hours():.1f} h on two CPU cores"
    assert lines[1] == f"not begun in {tmp_path}: 1 runs, about {hours}"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"decoder_bias": None}, "decoder_bias: False -> True"),  # before recipes had one
        ({"seed": 2}, "seed: 2 -> 1"),
    ],
    ids=["bias", "seed"],
)
def test_a_folder_with_the_result_of_other_settings_is_refused_by_name(tmp_path, changes, says):
    job = jobs_of([REAL], [1], tmp_path, {})[0]
    begin(job.out, 2, finished=job.settings.replace(**changes))
    message = f"{job.out} holds a finished run with other settings ({says}); move it away, or"
    with pytest.raises(UserError, match=re.escape(message)):
        is_finished(job)
    assert remaining([REAL], [1], tmp_path)[0].startswith(message)


def test_a_folder_of_a_study_is_known_by_whatever_path_its_other_run_is_named(tmp_path):
    settings = REAL.settings.replace(soft_target="frozen", soft_target_from="runs/elsewhere")
    begin(tmp_path / "run", 2, finished=settings)
    assert is_finished(Job(settings.replace(soft_target_from="/x/elsewhere"), tmp_path / "run"))
    with pytest.raises(UserError, match="soft_target_from: 'elsewhere' -> 'other'"):
        is_finished(Job(settings.replace(soft_target_from="/x/other"), tmp_path / "run"))


def test_a_folder_with_a_second_session_is_not_the_first(tmp_path):
    settings = REAL.settings.replace(init_from="elsewhere/first")
    begin(tmp_path / "run", 2, finished=settings)
    assert is_finished(Job(settings.replace(init_from="here/first"), tmp_path / "run"))
    with pytest.raises(UserError, match=r"other settings \(init_from: given before\)"):
        is_finished(Job(REAL.settings, tmp_path / "run"))


def test_a_finished_run_is_kept_once(tmp_path):
    jobs = jobs_of([REAL], [1], tmp_path / "runs", {})
    begin(jobs[0].out, 2, finished=jobs[0].settings.replace(device="cuda", threads=3))
    for _ in range(2):
        keep_finished(jobs, tmp_path / "results", "tiedlm reproduce table1")
    (folder,) = (tmp_path / "results").iterdir()
    assert folder.name.endswith("_ptb-small-real-seed1")
    assert json.loads((folder / "env.json").read_text())["command"] == "tiedlm reproduce table1"


def test_a_second_run_of_the_same_name_and_day_is_kept_beside_the_first(tmp_path):
    """Such as the same cell with another precision, in another folder."""
    results, name = tmp_path / "results", "ptb-small-real-seed1"
    for number in (1, 2, 3):
        jobs = jobs_of([REAL], [1], tmp_path / str(number), {})
        begin(jobs[0].out, 2, finished=jobs[0].settings)
        result = json.loads((jobs[0].out / "result.json").read_text())
        write_json(jobs[0].out / "result.json", {**result, "seconds": number})
        for _ in range(2):
            keep_finished(jobs, results, "tiedlm reproduce table1")
    found = [(run.folder.name[11:], run.metrics["seconds"]) for run in kept_runs(results)]
    assert found == [(name, 1), (f"{name}-2", 2), (f"{name}-3", 3)]


@pytest.mark.parametrize(("name", "of"), [("ptb-small-real", "-b0"), ("ptb-small-al", "")])
def test_a_run_from_before_the_setting_had_a_bias_only_if_it_was_not_tied(name, of):
    old = get_recipe(name).to_dict()
    del old["decoder_bias"]
    cell = choose(table1(), [name + of])[0]
    assert what_it_is(old) == what_it_is(cell.settings.to_dict())


def test_every_kept_run_is_found_in_the_cell_that_its_folder_names():
    results = Path(__file__).parents[3] / "results"
    cells = {
        cell.folder(seed, session): (cell, seed, session)
        for cell in (*table1(), *table2())
        for seed in range(1, 10)
        for session in range(1, cell.sessions + 1)
    }
    found, named = find_results(results), 0
    for folder in sorted(results.iterdir()):
        name = folder.name.partition("_")[2]
        if name in cells:
            cell, seed, session = cells[name]
            assert seed in [run.seed for run in runs_of(cell, found, session)], name
            named += 1
    assert named > 30
