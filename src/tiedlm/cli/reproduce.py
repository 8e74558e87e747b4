"""``tiedlm reproduce``: the paper's tables and figures beside ours."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from tiedlm.cli import leave
from tiedlm.cli.numbers import Whole
from tiedlm.errors import UserError


def reproduce(
    what: Literal["table1", "table2"],
    /,
    *,
    only: Annotated[list[str] | None, Parameter(negative="")] = None,
    seeds: Whole = 1,
    jobs: Whole | None = None,
    threads: Whole | None = None,
    device: str = "auto",
    precision: Literal["auto", "fp32", "bf16"] = "auto",
    budget: float | None = None,
    show: Annotated[bool, Parameter(negative="")] = False,
    out: Path = Path("runs/paper"),
    results: Path = Path("results"),
) -> None:
    """Run the paper's experiments and show them beside the paper's numbers.

    Stopped or killed, the same command goes on where each run was. Finished runs are kept in
    RESULTS, without weights or text.

    Parameters
    ----------
    what
        Which of the paper's tables and figures.
    only
        Cells to run, such as ptb-small-real; ptb-small* is all that begin so. May be repeated.
    seeds
        Train with seeds 1 to so many.
    jobs
        Runs at once; the default is one per CPU core, one on a GPU.
    threads
        CPU threads of each run; the default shares the cores among the runs.
    device
        auto, cpu, cuda or cuda:N.
    precision
        Arithmetic of the matrix products.
    budget
        Minutes after which every run is saved and stopped.
    show
        Train nothing: show the table as it stands.
    out
        Folder of the runs.
    results
        Folder where finished runs are kept.
    """
    from rich.console import Console

    from tiedlm.experiments import cells as paper_cells
    from tiedlm.experiments.reproduce import (
        find_results,
        line_of,
        print_lines,
        remaining,
        run_cells,
    )
    from tiedlm.progress import ProgressView
    from tiedlm.training.hardware import available_cores
    from tiedlm.training.loop import Diverged, Stopped

    for name, value in (("seeds", seeds), ("jobs", jobs), ("threads", threads)):
        if value is not None and value < 1:
            raise UserError(f"--{name}: expected at least 1, got {value}")
    if budget is not None and budget <= 0:
        raise UserError(f"--budget: expected minutes above 0, got {budget:g}")
    cells = paper_cells.choose(getattr(paper_cells, what)(), only or [])
    at_once = jobs or (1 if device.startswith("cuda") else available_cores())
    changes = {
        "device": device,
        "precision": precision,
        "threads": threads or max(1, available_cores() // at_once),
    }
    stopped: Stopped | None = None
    if not show:
        try:
            with ProgressView() as view:
                run_cells(
                    cells,
                    seeds,
                    out,
                    view,
                    at_once=at_once,
                    seconds=float("inf") if budget is None else 60 * budget,
                    results=results,
                    command="tiedlm " + " ".join(sys.argv[1:]),
                    changes=changes,
                )
        except Stopped as error:
            stopped = error
        except Diverged as diverged:
            leave(f"error: {diverged}", 1)
    found = find_results(results)
    console = Console()
    print_lines([line_of(cell, found) for cell in cells], console.print)
    for line in remaining(cells, seeds, out):
        console.print(line, highlight=False, soft_wrap=True, markup=False)
    if stopped is not None and budget is None:
        leave(str(stopped), 130)
