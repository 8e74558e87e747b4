"""What the studies share: train the runs, print the table, keep both in ``results/``."""

from __future__ import annotations

import argparse
import atexit
import math
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from tiedlm.errors import UserError
from tiedlm.experiments.cells import is_finished, which_run
from tiedlm.experiments.comparison import interval95
from tiedlm.experiments.parallel import Job, train_all
from tiedlm.experiments.results import keep, kept_runs, unpack
from tiedlm.files import read_json, write_json, write_text
from tiedlm.progress import ProgressView
from tiedlm.training.outcomes import OutOfTime, Stopped
from tiedlm.training.run_files import RESULT, WEIGHTS
from tiedlm.training.settings import Settings

Key = TypeVar("Key")

_MEASURED = "measured.json"  # of a study: what was measured of its models


def study_parser(
    doc: str | None, seeds: int | None, *, precision: bool = False, show: bool = False
) -> argparse.ArgumentParser:
    """Return a parser of the flags that every study has, and of ``--precision`` and ``--show``."""
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--out", type=Path, default=Path("runs/target-grad"))
    parser.add_argument("--results", type=Path, default=Path("results"))
    if seeds is not None:
        parser.add_argument("--seeds", type=int, default=seeds)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--budget", type=float, default=math.inf, metavar="MINUTES")
    if precision:
        parser.add_argument("--precision", default="auto", choices=["auto", "fp32", "bf16"])
    if show:
        parser.add_argument(
            "--show", action="store_true",
            help="train nothing; runs that are kept in --results count, wherever they were made",
        )  # fmt: skip
    return parser


def command() -> str:
    """Return the command that is running."""
    return "python " + " ".join(sys.argv)


def train(jobs: Sequence[Job], options: argparse.Namespace) -> bool:
    """Train what is missing as far as the time goes; tell whether all is finished.

    Raises:
        SystemExit: after SIGINT or SIGTERM, when every run has saved.
    """
    with ProgressView() as view:
        try:
            train_all(jobs, options.jobs, view, 60 * options.budget)
        except OutOfTime as error:
            view.line(str(error))
            return False
        except Stopped as error:
            raise SystemExit(str(error)) from None
    return True


def finished(found: dict[Key, Job]) -> dict[Key, Job]:
    """Return the jobs that have their result.

    Raises:
        SystemExit: if a folder holds the result of something else.
    """
    try:
        return {key: job for key, job in found.items() if is_finished(job)}
    except UserError as error:
        raise SystemExit(str(error)) from None


def with_kept(name: str, found: dict[Key, Job], results: Path) -> dict[Key, Job]:
    """Return the finished jobs, and those of the others that are kept in ``results/``.

    Of several like ones, the study's own is taken, then the newest. A kept one's folder is a
    temporary one, without weights: :func:`has_weights`.
    """
    here, kept = finished(found), {}
    for run in sorted(kept_runs(results), key=lambda run: run.folder.match(f"????-??-??_{name}")):
        settings = Settings.from_dict(run.config["settings"])
        if settings.init_from is None:
            kept[which_run(settings)] = run
    scratch = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, scratch)
    together = {}
    for key, job in found.items():
        run = kept.get(which_run(job.settings))
        if key in here:
            together[key] = job
        elif run is not None:
            folder = scratch / job.out.name
            unpack(run, folder)
            together[key] = Job(job.settings, folder)
    return together


def has_weights(job: Job) -> bool:
    """Tell whether a finished job's model can be measured."""
    return (job.out / WEIGHTS).is_file()


def kept_measurements(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Return what ``--show`` takes from the newest ``results/*_<name>/measured.json``, if any."""
    paths = sorted(options.results.glob(f"????-??-??_{name}/{_MEASURED}")) if options.show else []
    return dict(read_json(paths[-1])) if paths else {}


def paired(differences: list[float]) -> str:
    """Write the mean of differences paired by seed, with its 95% interval."""
    half = interval95(differences)
    mean = f"{sum(differences) / len(differences):+.2f}"
    return f"{mean} (1 seed)" if half is None else f"{mean} ± {half:.2f}"


def values_by_seed(
    found: Mapping[Any, Job], which: tuple[Any, ...], value: str
) -> dict[int, float]:
    """Return a value of the results of runs that are known by ``(*which, seed)``."""
    return {
        key[-1]: read_json(job.out / RESULT)[value]
        for key, job in found.items()
        if key[:-1] == which
    }


def differences(own: Mapping[int, float], base: Mapping[int, float]) -> list[float]:
    """Return by how much values are above others of the same seed."""
    return [own[seed] - base[seed] for seed in own if seed in base]


def trained(
    name: str, found: dict[Key, Job], wanted: Sequence[Job], options: argparse.Namespace
) -> dict[Key, Job]:
    """Train what is wanted and return the jobs that are finished; with ``--show`` see its help.

    Raises:
        SystemExit: if none is.
    """
    if options.show:
        found = with_kept(name, found, options.results)
    else:
        train(wanted, options)
        found = finished(found)
    if not found:
        raise SystemExit("no run of this study is finished")
    return found


def keep_table(
    name: str,
    runs: Sequence[Path],
    options: argparse.Namespace,
    text: str,
    measured: Mapping[str, Any] | None = None,
) -> None:
    """Print a table and keep it with its runs, and what was measured of their models if it was."""
    print(text)
    folder = keep(runs, name, options.results, command())
    write_text(folder / "table.md", text)
    if measured is not None:
        write_json(folder / _MEASURED, measured)
    print(folder)


def run_study(
    name: str, jobs: Sequence[Job], options: argparse.Namespace, table: Callable[[], str]
) -> None:
    """Train what is missing; when all is there print the table, and keep it."""
    if not train(jobs, options):
        return
    keep_table(name, [job.out for job in jobs], options, table())
