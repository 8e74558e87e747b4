"""Share the work of the studies: their flags, training missing runs, keeping tables in results/."""

from __future__ import annotations

import argparse
import atexit
import math
import shlex
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from tiedlm.cli import fail, leave, leave_after
from tiedlm.errors import UserError
from tiedlm.experiments.cells import is_finished, which_run
from tiedlm.experiments.comparison import interval95
from tiedlm.experiments.parallel import Job, train_all
from tiedlm.experiments.results import keep, kept_runs, unpack
from tiedlm.experiments.supervisor import ChildDied
from tiedlm.files import read_json, write_json, write_text
from tiedlm.progress import ProgressView
from tiedlm.training.outcomes import Diverged, OutOfTime, Stopped
from tiedlm.training.run_files import RESULT, WEIGHTS
from tiedlm.training.settings import Settings

Key = TypeVar("Key")

_MEASURED = "measured.json"  # a study's measurements of its models


def study_parser(
    name: str, doc: str | None, *, out: str, default: Path | None = None
) -> argparse.ArgumentParser:
    """Return a parser with --out, the flag that every study has.

    Args:
        name: the study's module.
        doc: its docstring, shown by --help.
        out: the meaning of --out, shown by --help.
        default: the default of --out; None is runs/<name>.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m studies.{name}",
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    folder = default or Path("runs", name.replace("_", "-"))
    parser.add_argument("--out", type=Path, default=folder, help=f"{out} (default: {folder})")
    return parser


def add_results(parser: argparse.ArgumentParser) -> None:
    """Add --results, the folder of kept results."""
    parser.add_argument(
        "--results", type=Path, default=Path("results"),
        help="folder of kept results (default: results)",
    )  # fmt: skip


def training_parser(
    name: str,
    doc: str | None,
    *,
    seeds: int | None,
    precision: bool = False,
    show: bool = False,
) -> argparse.ArgumentParser:
    """Return the parser of a study that trains.

    Args:
        name: the study's module.
        doc: its docstring, shown by --help.
        seeds: the default of --seeds; None leaves the flag out.
        precision: add --precision.
        show: add --show.
    """
    parser = study_parser(name, doc, out="folder of run folders")
    add_results(parser)
    if seeds is not None:
        parser.add_argument(
            "--seeds", type=int, default=seeds, help=f"train seeds 1 to N (default: {seeds})"
        )
    parser.add_argument(
        "--jobs", type=int, default=2, help="models to train side by side (default: 2)"
    )
    parser.add_argument(
        "--budget", type=float, default=math.inf, metavar="MINUTES",
        help="stop after this many minutes with everything saved",
    )  # fmt: skip
    if precision:
        parser.add_argument(
            "--precision", default="auto", choices=["auto", "fp32", "bf16"],
            help="arithmetic of the matrix products (default: auto)",
        )  # fmt: skip
    if show:
        parser.add_argument(
            "--show", action="store_true",
            help="train and write nothing; print the tables of the runs in --out and --results",
        )  # fmt: skip
    return parser


def add_parts(parser: argparse.ArgumentParser, **parts: Iterable[str]) -> None:
    """Add a flag for each name, which chooses some of its values; all by default."""
    for name, known in parts.items():
        values = list(known)
        parser.add_argument(
            f"--{name}", nargs="+", choices=values, default=values, metavar="NAME",
            help=f"the {name} to train, of {', '.join(values)} (default: all)",
        )  # fmt: skip


class _OwnNames(argparse.Action):
    """Keep run folders whose names differ, because the tables call a run by its folder's name."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Refuse two folders of the same name."""
        names = [run.name for run in values]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            parser.error(f"two run folders are called {twice!r}; rename one of them")
        setattr(namespace, self.dest, values)


def measuring_parser(name: str, doc: str | None) -> argparse.ArgumentParser:
    """Return the parser of a study that measures finished runs, with --keep."""
    parser = study_parser(name, doc, out="folder for table.md")
    add_results(parser)
    parser.add_argument(
        "runs", nargs="+", type=Path, action=_OwnNames, metavar="RUN", help="finished run folder"
    )
    parser.add_argument(
        "--keep", action="store_true",
        help="write to --results too, replacing the last numbers of this study",
    )  # fmt: skip
    return parser


def start(main: Callable[[], None]) -> None:
    """Run a study. Report a user's mistake, and whatever else stops it, in one line, and exit."""
    try:
        main()
    except UserError as error:
        fail(str(error))
    except Diverged as error:
        fail(str(error), 1)
    except ChildDied as error:
        leave_after(error)
    except KeyboardInterrupt:
        fail("interrupted", 130)


def command() -> str:
    """Return the running command, quoted for a shell."""
    return shlex.join(["python", "-m", f"studies.{Path(sys.argv[0]).stem}", *sys.argv[1:]])


def show_table(text: str, out: Path) -> None:
    """Print a table and write it to ``out/table.md``."""
    print(text)
    write_text(out / "table.md", text)


def train(jobs: Sequence[Job], options: argparse.Namespace) -> bool:
    """Train the missing runs within the budget and return whether all are finished.

    Raises:
        SystemExit: with status 130, after SIGINT or SIGTERM; every run is saved.
    """
    with ProgressView() as view:
        try:
            train_all(jobs, options.jobs, view, 60 * options.budget)
        except OutOfTime as error:
            view.line(str(error))
            return False
        except Stopped as error:
            leave(str(error), 130)
    return True


def finished(found: dict[Key, Job]) -> dict[Key, Job]:
    """Return the jobs that have a result.

    Raises:
        UserError: if a folder holds the result of another run.
    """
    return {key: job for key, job in found.items() if is_finished(job)}


def with_kept(name: str, found: dict[Key, Job], results: Path) -> dict[Key, Job]:
    """Return the finished jobs and, for the rest, the runs that are kept in ``results/``.

    If several kept runs fit, the runs of this study come first, then the newest. A kept run is
    unpacked into a temporary folder. It has no weights, so ask :func:`has_weights` first.
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
    """Return whether a finished job still has its model's weights."""
    return (job.out / WEIGHTS).is_file()


def kept_measurements(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Return this study's newest measurements in ``results/`` if --show is given, else nothing."""
    paths = sorted(options.results.glob(f"????-??-??_{name}/{_MEASURED}")) if options.show else []
    return dict(read_json(paths[-1])) if paths else {}


def paired(differences: list[float]) -> str:
    """Format the mean of differences paired by seed, with its 95% interval."""
    half = interval95(differences)
    mean = f"{sum(differences) / len(differences):+.2f}"
    return f"{mean} (1 seed)" if half is None else f"{mean} ± {half:.2f}"


def with_interval(values: list[float]) -> str:
    """Format a mean with its 95% interval."""
    half = interval95(values)
    return f"{statistics.fmean(values):.2f} " + ("(1 seed)" if half is None else f"± {half:.2f}")


def values_by_seed(
    found: Mapping[Any, Job], which: tuple[Any, ...], value: str
) -> dict[int, float]:
    """Return one value of each result by seed, from the runs with key ``(*which, seed)``."""
    return {
        key[-1]: read_json(job.out / RESULT)[value]
        for key, job in found.items()
        if key[:-1] == which
    }


def differences(own: Mapping[int, float], base: Mapping[int, float]) -> list[float]:
    """Return the differences ``own - base``, paired by seed."""
    return [own[seed] - base[seed] for seed in own if seed in base]


def trained(
    name: str, found: dict[Key, Job], wanted: Sequence[Job], options: argparse.Namespace
) -> dict[Key, Job]:
    """Train the missing runs, or load kept ones with --show. Return the finished jobs.

    Raises:
        UserError: if no job is finished.
    """
    if options.show:
        found = with_kept(name, found, options.results)
    else:
        train(wanted, options)
        found = finished(found)
    if not found:
        raise UserError(f"no run of this study is finished in {options.out}")
    return found


def trained_or_kept(
    name: str, found: dict[Key, Job], wanted: Iterable[Key], options: argparse.Namespace
) -> dict[Key, Job]:
    """Train those wanted that are neither finished nor kept, none with --show.

    Returns:
        the jobs that are finished or kept.

    Raises:
        UserError: if there is none.
    """
    if not options.show:
        known = with_kept(name, found, options.results)
        train([found[key] for key in wanted if key not in known], options)
    found = with_kept(name, found, options.results)
    if not found:
        raise UserError(f"no run of this study is finished in {options.out}")
    return found


def keep_table(
    name: str,
    runs: Sequence[Path],
    options: argparse.Namespace,
    text: str,
    measured: Mapping[str, Any] | None = None,
) -> None:
    """Print a table. Without --show keep it in ``results/`` with its runs and measurements."""
    print(text)
    if getattr(options, "show", False):
        return
    folder = keep(runs, name, options.results, command())
    write_text(folder / "table.md", text)
    if measured is not None:
        write_json(folder / _MEASURED, measured)
    print(folder)


def run_study(
    name: str, jobs: Sequence[Job], options: argparse.Namespace, table: Callable[[], str]
) -> None:
    """Train the missing runs. Once all are finished, print the table and keep it."""
    if not train(jobs, options):
        return
    keep_table(name, [job.out for job in jobs], options, table())
