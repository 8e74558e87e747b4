"""``tiedlm reproduce``: reproduce the paper's tables and figures."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

from cyclopts import Parameter

from tiedlm.cli import leave, leave_after, note, until_the_end
from tiedlm.cli.numbers import MaybeWhole
from tiedlm.errors import UserError
from tiedlm.experiments.paper import FIGURE1_RUNS

if TYPE_CHECKING:
    from tiedlm.experiments.reproduce import Found
    from tiedlm.experiments.supervisor import ChildDied
    from tiedlm.training.outcomes import Stopped
    from tiedlm.training.settings import Settings


def reproduce(
    what: Literal["table1", "table2", "table3", "figure1", "figure2", "predictions"],
    /,
    *,
    only: Annotated[list[str] | None, Parameter(negative="")] = None,
    seeds: MaybeWhole = None,
    first_seed: MaybeWhole = None,
    jobs: MaybeWhole = None,
    threads: MaybeWhole = None,
    device: str = "auto",
    precision: Literal["auto", "fp32", "bf16"] = "auto",
    budget: float | None = None,
    show: Annotated[bool, Parameter(negative="")] = False,
    out: Path = Path("runs/paper"),
    results: Path = Path("results"),
) -> None:
    """Run the paper's experiments and show them beside the paper's numbers.

    Parameters
    ----------
    what
        Table or figure of the paper.
    only
        Cell to run, such as ptb-small-real. ptb-small* means the paper's cells with this prefix.
        Cells that the paper does not have, such as ptb-small-real-b0, must be named in full. The
        flag may be repeated.
    seeds
        Number of seeds to train, counted from 1. figure1 trains 10 runs a point by default, the
        tables one. predictions compares the runs of this seed, 1 by default.
    first_seed
        First seed to train.
    jobs
        Number of runs to train at once; by default one per CPU core, or one on a GPU.
    threads
        CPU threads of each run; by default the runs share the cores. OMP_NUM_THREADS can lower it.
    device
        auto, cpu, cuda or cuda:N.
    precision
        Arithmetic of the matrix products.
    budget
        Minutes after which every run is saved and stopped.
    show
        Show the kept numbers. Train, draw and write nothing.
    out
        Folder for the runs.
    results
        Folder that keeps the results of finished runs.
    """
    last_seed = _check_options(what, only, seeds, first_seed, jobs, threads, budget)
    from tiedlm.cores import available_cores
    from tiedlm.files import check_utf8, readable
    from tiedlm.training.hardware import choose_device, default_arithmetic

    check_utf8(out, "config.json cannot hold such a name")
    until_the_end(default_arithmetic())
    on_gpu = not show and choose_device(device).type == "cuda"
    options = _Options(
        only=only or [],
        seeds=range(first_seed or 1, last_seed + 1),
        jobs=jobs or (1 if on_gpu else available_cores()),
        threads=threads,
        changes={"device": device, "precision": precision},
        seconds=float("inf") if budget is None else 60 * budget,
        show=show,
        out=out,
        results=results,
        command=readable("tiedlm " + " ".join(sys.argv[1:])),
    )
    if what in ("table1", "table2"):
        _table(what, options)
        return
    {
        "table3": _table3,
        "figure1": _figure1,
        "figure2": _figure2,
        "predictions": _predictions,
    }[what](options)


def _check_options(
    what: str,
    only: list[str] | None,
    seeds: int | None,
    first_seed: int | None,
    jobs: int | None,
    threads: int | None,
    budget: float | None,
) -> int:
    """Return the last seed; refuse options out of range or meant for another table."""
    whole = {"seeds": seeds, "first-seed": first_seed, "jobs": jobs, "threads": threads}
    for name, value in whole.items():
        if value is not None and value < 1:
            raise UserError(f"--{name}: expected at least 1, got {value}")
    if budget is not None and not budget > 0:
        raise UserError(f"--budget: expected minutes above 0, got {budget:g}")
    has_cells = what in ("table1", "table2")
    if only and not has_cells:
        raise UserError(f"--only names cells of table1 and table2; {what} has none")
    if not (has_cells or what == "figure1"):
        of_training = {**whole, "budget": budget}
        if what == "predictions":
            del of_training["seeds"]
        for name, given in of_training.items():
            if given is not None:
                raise UserError(f"--{name} needs table1, table2 or figure1; {what} trains nothing")
    last_seed = seeds or (FIGURE1_RUNS if what == "figure1" else 1)
    if first_seed is not None and first_seed > last_seed:
        raise UserError(f"--first-seed {first_seed} is above --seeds {last_seed}")
    return last_seed


@dataclass(frozen=True)
class _Options:
    """The options of one ``tiedlm reproduce``."""

    only: list[str]
    seeds: range
    jobs: int
    threads: int | None
    changes: dict[str, Any]
    seconds: float
    show: bool
    out: Path
    results: Path
    command: str

    def sharing(self, runs: int) -> tuple[int, dict[str, Any]]:
        """Return how many of some runs train at once, and the settings that all of them share.

        The number of threads depends on all runs that were asked for, also on finished ones, so
        that the same command resumes a run with the same threads.
        """
        from tiedlm.training.hardware import threads_of_each

        at_once = min(self.jobs, runs)
        return at_once, self.changes | {"threads": self.threads or threads_of_each(at_once)}


def _table(what: str, options: _Options) -> None:
    """Train the cells of a table that are missing, and print all of them."""
    from tiedlm.experiments import cells as paper_cells
    from tiedlm.experiments.reproduce import line_of, print_lines, remaining, run_cells
    from tiedlm.experiments.supervisor import ChildDied
    from tiedlm.progress import ProgressView, table_console
    from tiedlm.training.outcomes import Diverged, OutOfTime, Stopped

    cells = paper_cells.choose(getattr(paper_cells, what)(), options.only)
    stopped: Stopped | None = None
    if not options.show:
        at_once, changes = options.sharing(len(cells) * len(options.seeds))
        try:
            with ProgressView() as view:
                run_cells(
                    cells,
                    options.seeds,
                    options.out,
                    view,
                    at_once=at_once,
                    seconds=options.seconds,
                    results=options.results,
                    command=options.command,
                    changes=changes,
                )
        except Stopped as error:
            stopped = error
        except Diverged as diverged:
            leave(f"error: {diverged}", 1)
        except ChildDied as died:
            leave_after(died)
    found = _found(options)
    console = table_console()
    print_lines([line_of(cell, found) for cell in cells], console.print)
    for line in remaining(cells, options.seeds, options.out):
        console.print(line, highlight=False, soft_wrap=True)
    if stopped is not None and not isinstance(stopped, OutOfTime):
        leave(str(stopped), 130)


def _found(options: _Options) -> list[tuple[Settings, Found]]:
    """Return the kept results of table1 and table2; note a folder that does not exist."""
    from tiedlm.experiments.reproduce import find_results

    if not options.results.is_dir():
        note(f"{options.results} has no results; name their folder with --results")
    return find_results(options.results)


def _table3(options: _Options) -> None:
    from rich.table import Table

    from tiedlm.experiments.reproduce_figures import TABLE3_HEADER, table3_rows
    from tiedlm.progress import table_console

    table = Table(*TABLE3_HEADER)
    for row in table3_rows(_found(options)):
        table.add_row(*row)
    table_console().print(table)


def _figure1(options: _Options) -> None:
    """Train the missing runs, draw the figure, and keep any new runs."""
    from tiedlm.analysis.plots import plot_theory, require_matplotlib
    from tiedlm.experiments import figure1
    from tiedlm.experiments.supervisor import ChildDied
    from tiedlm.training.outcomes import Stopped

    folder = options.out / figure1.STUDY
    if options.show:
        runs = figure1.all_figure1(options.results, folder)
        if not runs:
            raise UserError(
                f"{folder} and {options.results} have no finished run; leave out --show to train"
            )
        print(figure1.describe(runs))
        return
    require_matplotlib()
    figure1.restore_figure1(options.results, folder)
    left = 0
    ended: Stopped | ChildDied | None = None
    try:
        left = _train_figure1(folder, options)
    except (Stopped, ChildDied) as error:
        ended = error
    runs = figure1.read_figure1(folder)
    are_new = figure1.are_new(options.results, folder)
    if ended is not None and not are_new:
        _leave_figure1(ended)
    if not runs:
        raise UserError(f"{folder} has no finished run yet; give the command more time")
    plot_theory(figure1.distances_by_point(runs), folder / "figure1.png")
    print(figure1.describe(runs))
    print(f"{folder / 'figure1.png'}" + (f"; {left} runs are left" if left else ""))
    if are_new:
        print(figure1.keep_figure1(runs, options.results, options.command))
    if ended is not None:
        _leave_figure1(ended)


def _leave_figure1(ended: Stopped | ChildDied) -> NoReturn:
    """Exit after the training was stopped or one of its processes died."""
    from tiedlm.experiments.supervisor import ChildDied

    if isinstance(ended, ChildDied):
        leave_after(ended)
    leave(str(ended), 130)


def _train_figure1(folder: Path, options: _Options) -> int:
    """Train the missing runs; return how many are left."""
    from tiedlm.experiments.figure1 import PANEL_A, PANEL_B, run_figure1
    from tiedlm.progress import ProgressView

    points = list(dict.fromkeys([*PANEL_A, *PANEL_B]))
    at_once, changes = options.sharing(len(points) * len(options.seeds))
    with ProgressView() as view:
        left = run_figure1(points, options.seeds, folder, view, at_once, options.seconds, changes)
    return len(left)


def _figure2(options: _Options) -> None:
    from tiedlm.experiments.reproduce import find_results
    from tiedlm.experiments.reproduce_figures import draw_figure2, figure2_curves

    found = find_results(options.results)
    if options.show:
        for (size, session), models in figure2_curves(found).items():
            best = (f"{name} {model['valid_ppl']:.1f}" for name, model in models.items())
            print(f"{size}, session {session}, best on validation: {', '.join(best)}")
        return
    for path in draw_figure2(found, options.out):
        print(path)


def _predictions(options: _Options) -> None:
    """Compare the pair of runs and keep the result; with --show print what is kept."""
    from tiedlm.experiments.results import keep_study, newest_study

    if options.show:
        found = newest_study("predictions", options.results)
        if found is None:
            raise UserError(
                f"{options.results} has no kept predictions; name its folder with --results, or "
                "leave out --show to compare the runs in --out"
            )
        _print_predictions(found)
        return
    from tiedlm.experiments.prediction_study import compare_predictions, phrases
    from tiedlm.experiments.reproduce_figures import find_pair
    from tiedlm.training.run import load
    from tiedlm.training.settings import Settings

    base_run, real_run = find_pair(options.out, options.seeds[-1])
    base, real = load(base_run), load(real_run)
    settings = Settings.of_run(base_run)
    corpus = settings.load_corpus()
    found = {
        "runs": [base_run.name, real_run.name],
        "phrases": phrases({"vd-lstm": base, "vd-lstm-real": real}),
        "bands": compare_predictions(base, real, corpus),
    }
    _print_predictions(found)
    config = {"predictions": found["runs"]}
    print(keep_study("predictions", found, config, options.results, options.command))


def _print_predictions(found: dict[str, Any]) -> None:
    """Print the phrases with their most probable next words, then a table for each band."""
    from rich.table import Table

    from tiedlm.progress import table_console

    console = table_console()
    for row in found["phrases"]:
        console.print(f"{row['context']} + {row['next']}", highlight=False, markup=False)
        for name, top in row["top"].items():
            words = ", ".join(f"{p['word']} {p['probability']:.3f}" for p in top)
            p_next = row["p_next"][name]
            line = f"  {name}: {words}  [{row['next']}: {p_next:.3f}]"
            console.print(line, highlight=False, markup=False)
    for band, values in found["bands"].items():
        table = Table(f"{band} ({values['tokens']:,} targets)", "VD-LSTM", "REAL", "difference 95%")
        for name, value in values.items():
            if name != "tokens":
                low, high = value["difference95"]
                table.add_row(
                    name, f"{value['base']:.4f}", f"{value['other']:.4f}", f"{low:+.4f} {high:+.4f}"
                )
        console.print(table)
