"""Train the runs of Figure 1 in parallel, with one result file per run."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tiedlm.experiments.results import keep_study
from tiedlm.experiments.supervisor import Channel, Work, supervise
from tiedlm.experiments.theory import Point, TheoryRun, train_theory_run
from tiedlm.files import read_json, write_json
from tiedlm.progress import ProgressView, short_duration
from tiedlm.training.outcomes import OutOfTime, Stopped

STUDY = "figure1"  # name of the study in results/
# The settings that differ from run to run.
OF_A_RUN = ("alpha", "ce_weight", "temperature", "skip", "seed")
PANEL_A = tuple((beta, 10.0) for beta in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0))
PANEL_B = tuple((1.0, temperature) for temperature in (1.0, 2.0, 5.0, 10.0, 20.0, 50.0))


def run_figure1(
    points: Sequence[Point],
    seeds: Sequence[int],
    out: Path,
    view: ProgressView,
    at_once: int,
    seconds: float,
    changes: Mapping[str, Any],
) -> list[TheoryRun]:
    """Train the missing runs, seed by seed over all points, and write each result to its own file.

    Args:
        points: (beta, temperature) pairs.
        seeds: the seeds of each point.
        out: the folder of the result files.
        view: shows the progress.
        at_once: number of processes.
        seconds: time limit. Unfinished runs are lost at the limit, which costs minutes of work.
        changes: changes to the settings, such as threads and precision.

    Returns:
        The runs left to do.

    Raises:
        Stopped: after SIGINT or SIGTERM.
        UserError: if a run raised it.
        ChildDied: if a process was killed or failed in another way.
    """
    wanted = [TheoryRun(point, seed, changes=changes) for seed in seeds for point in points]
    missing = [run for run in wanted if not (out / run.name()).is_file()]
    view.line(f"{len(wanted)} runs, {len(wanted) - len(missing)} finished, {at_once} at once")
    left, started = list(missing), time.monotonic()

    def keep(number: int, result: dict[str, Any]) -> None:
        run = missing[number]
        write_json(out / run.name(), result)
        left.remove(run)
        each = (time.monotonic() - started) / (len(missing) - len(left))
        view.line(
            f"beta {run.point[0]:g}, temperature {run.point[1]:g}, seed {run.seed}: "
            f"distance {result['distance']:.3f}; {len(left)} runs left, "
            f"ETA {short_duration(each * len(left))}"
        )

    try:
        supervise(missing, Work(_train, keep, name=TheoryRun.name), at_once, seconds)
    except OutOfTime:
        pass
    except Stopped as stopped:
        raise Stopped(
            f"stopped with {len(left)} runs left; the same command continues"
        ) from stopped
    return left


def _train(run: TheoryRun, channel: Channel) -> dict[str, Any]:
    """Train a run in a child process."""
    return train_theory_run(run, channel.should_stop)


def _in_folder(folder: Path) -> dict[str, dict[str, Any]]:
    return {path.name: read_json(path) for path in sorted(folder.glob("beta*.json"))}


def read_figure1(folder: Path) -> list[dict[str, Any]]:
    """Return the results of the finished runs."""
    return list(_in_folder(folder).values())


def kept_figure1(results: Path) -> dict[str, dict[str, Any]]:
    """Return the results that are kept in ``results/``, by the name of their result file."""
    kept: dict[str, dict[str, Any]] = {}
    for path in sorted(results.glob(f"*_{STUDY}/metrics.json")):
        shared = read_json(path.with_name("config.json"))[STUDY]
        kept_in = read_json(path.with_name("env.json"))
        for run in read_json(path)[STUDY]:
            one = TheoryRun((run["beta"], run["temperature"]), run["seed"])
            own = one.settings().to_dict()
            settings = shared | {name: own[name] for name in OF_A_RUN} | run.get("settings", {})
            kept.setdefault(one.name(), {"environment": kept_in, **run, "settings": settings})
    return kept


def restore_figure1(results: Path, folder: Path) -> None:
    """Restore the result files that are kept in ``results/`` but missing from the folder."""
    for name, run in kept_figure1(results).items():
        if not (folder / name).is_file():
            write_json(folder / name, run)


def are_new(results: Path, folder: Path) -> bool:
    """Return whether the folder has results that are not kept in ``results/``."""
    return not _in_folder(folder).keys() <= kept_figure1(results).keys()


def all_figure1(results: Path, folder: Path) -> list[dict[str, Any]]:
    """Return the results of the finished runs, in the folder or else in ``results/``."""
    return list((kept_figure1(results) | _in_folder(folder)).values())


def keep_figure1(runs: Sequence[Mapping[str, Any]], results: Path, command: str) -> Path:
    """Keep runs in ``results/``, and return the folder.

    The settings of the first run are kept once, and of each other run those that differ.
    """
    shared = runs[0]["settings"]
    config = {STUDY: shared}
    ran_in = next((run["environment"] for run in reversed(runs) if "environment" in run), None)
    own = []
    for run in runs:
        differs = {
            name: value
            for name, value in run["settings"].items()
            if name not in OF_A_RUN and value != shared.get(name)
        }
        own.append({key: value for key, value in run.items() if key != "settings"})
        if differs:
            own[-1]["settings"] = differs
    return keep_study(STUDY, {STUDY: own}, config, results, command, ran_in=ran_in)


def by_point(runs: Sequence[dict[str, Any]]) -> dict[Point, list[dict[str, Any]]]:
    """Group results by point."""
    found: dict[Point, list[dict[str, Any]]] = {}
    for run in runs:
        found.setdefault((run["beta"], run["temperature"]), []).append(run)
    return found


def distances_by_point(runs: Sequence[dict[str, Any]]) -> dict[Point, list[float]]:
    """Group the distances of results by point."""
    return {point: [run["distance"] for run in own] for point, own in by_point(runs).items()}


def describe(runs: Sequence[dict[str, Any]]) -> str:
    """Return a line for each point: the mean distance, and the range over its runs."""
    lines = []
    for (beta, temperature), distances in sorted(distances_by_point(runs).items()):
        mean = sum(distances) / len(distances)
        lines.append(
            f"beta {beta:g}, temperature {temperature:g}: distance {mean:.3f} (from "
            f"{min(distances):.3f} to {max(distances):.3f}, {len(distances)} runs)"
        )
    return "\n".join(lines)
