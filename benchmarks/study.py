"""What the studies share: train the runs, print the table, keep both in ``results/``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tiedlm.experiments.comparison import interval95
from tiedlm.experiments.parallel import Job, train_all
from tiedlm.experiments.results import keep
from tiedlm.files import write_text
from tiedlm.progress import ProgressView


def study_parser(doc: str | None, seeds: int) -> argparse.ArgumentParser:
    """Return a parser of the flags that every study has."""
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--out", type=Path, default=Path("runs/target-grad"))
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--seeds", type=int, default=seeds)
    parser.add_argument("--jobs", type=int, default=2)
    return parser


def paired(differences: list[float]) -> str:
    """Write the mean of differences paired by seed, with its 95% interval."""
    half = interval95(differences)
    mean = f"{sum(differences) / len(differences):+.2f}"
    return f"{mean} (1 seed)" if half is None else f"{mean} ± {half:.2f}"


def run_study(
    name: str, jobs: Sequence[Job], options: argparse.Namespace, table: Callable[[], str]
) -> None:
    """Train what is missing, print the table of the finished runs, and keep it."""
    with ProgressView() as view:
        train_all(jobs, options.jobs, view)
    text = table()
    print(text)
    command = "python " + " ".join(sys.argv)
    folder = keep([job.out for job in jobs], name, options.results, command)
    write_text(folder / "table.md", text)
    print(folder)
