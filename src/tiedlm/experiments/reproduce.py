"""Train the missing runs of the paper's tables, keep their results, and compare with the paper."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiedlm.errors import UserError
from tiedlm.experiments.cells import Cell, is_finished, jobs_of, what_it_is
from tiedlm.experiments.comparison import seed_mean
from tiedlm.experiments.parallel import Job, train_all
from tiedlm.experiments.results import keep, kept_runs
from tiedlm.files import read_json
from tiedlm.progress import ProgressView, short_duration
from tiedlm.training.run_files import RESULT, read_metrics
from tiedlm.training.settings import Settings


@dataclass(frozen=True)
class Found:
    """A kept run of a cell.

    Args:
        seed: seed of the run.
        session: 1, or 2 for a run that began from the best weights of the first.
        precision: precision of the matrix products, ``fp32`` or ``bf16``.
        metrics: contents of ``metrics.json``: the result and the curve.
    """

    seed: int
    session: int
    precision: str
    metrics: dict[str, Any]


def run_cells(
    cells: Sequence[Cell],
    seeds: Sequence[int],
    out: Path,
    view: ProgressView,
    *,
    at_once: int,
    seconds: float,
    results: Path,
    command: str,
    changes: dict[str, Any],
) -> None:
    """Train the missing runs of some cells, and keep every finished run.

    Args:
        cells: the cells of a table to train.
        seeds: the seeds of each cell.
        out: the folder that holds the run folders.
        view: shows the progress.
        at_once: number of runs trained in parallel.
        seconds: time limit, after which every run saves and stops.
        results: the folder ``results``, where finished runs are kept.
        command: the command that was given, kept with the results.
        changes: device, precision and threads.

    Raises:
        Stopped: after a signal or at the time limit; the same command resumes.
        Diverged: if a run diverged.
    """
    jobs = jobs_of(list(cells), seeds, out, changes)
    missing = [job for job in jobs if not is_finished(job)]
    view.line(
        f"{len(jobs)} runs, {len(jobs) - len(missing)} finished, {at_once} at once; "
        "stopped, the same command continues"
    )
    try:
        train_all(missing, at_once, view, seconds)
    finally:
        keep_finished(jobs, results, command)


def keep_finished(jobs: Iterable[Job], results: Path, command: str) -> None:
    """Write ``results/<date>_<run>/`` for each finished run that has not been kept yet.

    A second run of the same name and day, such as one with another precision, gets a number.
    """
    for job in jobs:
        if not is_finished(job):
            continue
        seconds, name = read_json(job.out / RESULT)["seconds"], job.out.name
        kept = [
            path
            for pattern in (name, f"{name}-[0-9]*")
            for path in results.glob(f"????-??-??_{pattern}/metrics.json")
        ]
        if all(read_json(path)["seconds"] != seconds for path in kept):
            today = [path for path in kept if path.match(f"{datetime.date.today()}_*/*")]
            keep([job.out], f"{name}-{len(today) + 1}" if today else name, results, command)


def remaining(cells: Sequence[Cell], seeds: Sequence[int], out: Path) -> list[str]:
    """Describe the progress of the runs in ``out``, and estimate the cost of those not begun."""
    by_folder = {
        cell.folder(seed, session): cell for cell in cells for seed in seeds for session in (1, 2)
    }
    lines, hours, count = [], 0.0, 0
    for job in jobs_of(list(cells), seeds, out, {}):
        try:
            if is_finished(job):
                continue
        except UserError as error:
            lines.append(str(error))
            continue
        metrics = read_metrics(job.out)
        if not metrics:
            hours, count = hours + by_folder[job.out.name].hours(), count + 1
            continue
        best = min(line["valid_ppl"] for line in metrics)
        lines.append(
            f"{job.out.name}: epoch {len(metrics)} of {job.settings.epochs}, best validation "
            f"{best:.2f}, {_left(job, metrics)} left at this rate"
        )
    if count:
        lines.append(f"not begun in {out}: {count} runs, about {_hours(hours)} on two CPU cores")
    return lines


def _left(job: Job, metrics: list[dict[str, Any]]) -> str:
    mean = sum(line["seconds"] for line in metrics) / len(metrics)
    return short_duration(mean * (job.settings.epochs - len(metrics)))


def find_results(results: Path) -> list[tuple[Settings, Found]]:
    """Read all kept runs, including the runs of studies, each with the settings of its cell."""
    found = []
    for run in kept_runs(results):
        settings = run.config["settings"]
        session = 1 if settings.get("init_from") is None else 2
        precision = "bf16" if settings.get("precision") == "bf16" else "fp32"
        one = Found(settings["seed"], session, precision, run.metrics)
        found.append((what_it_is(settings), one))
    return found


def runs_of(cell: Cell, found: Sequence[tuple[Settings, Found]], session: int) -> list[Found]:
    """Return the newest kept run of each seed for one session of a cell."""
    wanted = what_it_is(cell.settings.to_dict())
    by_seed = {
        run.seed: run for settings, run in found if settings == wanted and run.session == session
    }
    return [by_seed[seed] for seed in sorted(by_seed)]


@dataclass(frozen=True)
class Line:
    """A line of a table: the paper's numbers, ours, and the difference.

    Args:
        name: name of the cell.
        paper: the paper's "validation / test".
        sessions: our "validation / test" for each session, or a note that it was not run.
        difference: "validation / test" of ours minus the paper's, for the last session run.
        seeds: the seeds averaged over, and the precision if it is not float32.
    """

    name: str
    paper: str
    sessions: tuple[str, str]
    difference: str
    seeds: str


def line_of(cell: Cell, found: Sequence[tuple[Settings, Found]]) -> Line:
    """Compare a cell of the paper with its kept runs."""
    sessions = [runs_of(cell, found, session) for session in (1, 2)]
    best = sessions[1] or sessions[0]
    paper = _pair(cell.paper.valid, cell.paper.test)
    difference = "-"
    if best:
        ours = [_mean(best, key) for key in ("valid_ppl", "test_ppl")]
        theirs = (cell.paper.valid, cell.paper.test)
        difference = " / ".join(
            "-" if b is None else f"{a - b:+.1f}" for a, b in zip(ours, theirs, strict=True)
        )
    precisions = {run.precision for run in best} - {"fp32"}
    return Line(
        name=cell.name,
        paper=paper if cell.paper.confirmed else f"~{paper}",
        sessions=(
            _session(sessions[0], cell),
            _session(sessions[1], cell) if cell.sessions > 1 else "-",
        ),
        difference=difference,
        seeds=", ".join([*(str(run.seed) for run in best), *sorted(precisions)]) or "-",
    )


def _hours(hours: float) -> str:
    return f"{hours:.0f} h" if hours >= 10 else f"{hours:.1f} h"


def _pair(valid: float | None, test: float | None) -> str:
    return " / ".join("-" if value is None else f"{value:.1f}" for value in (valid, test))


def _mean(runs: list[Found], key: str) -> float:
    return seed_mean([run.metrics[key] for run in runs]).mean


def _session(runs: list[Found], cell: Cell) -> str:
    if not runs:
        return f"not run, {_hours(cell.hours())}"
    return _pair(_mean(runs, "valid_ppl"), _mean(runs, "test_ppl")) + (
        " (1 seed)" if len(runs) == 1 else f" ({len(runs)} seeds)"
    )


HEADER = ("cell", "paper", "first session", "second session", "difference", "seeds")


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format rows as a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def markdown(lines: Sequence[Line]) -> str:
    """Format lines as a Markdown table."""
    return markdown_table(HEADER, [_cells(line) for line in lines])


def _cells(line: Line) -> tuple[str, ...]:
    return (line.name, line.paper, *line.sessions, line.difference, line.seeds)


def print_lines(lines: Sequence[Line], write: Callable[[Any], None]) -> None:
    """Write lines as a terminal table."""
    from rich.table import Table

    table = Table(*HEADER)
    for column in table.columns:
        column.overflow = "fold"  # wrap long cells instead of cutting them
    for column in table.columns[:2]:
        column.no_wrap = True
    for line in lines:
        table.add_row(*_cells(line))
    write(table)
