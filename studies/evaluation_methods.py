"""How much do temperature, cache, dynamic evaluation and mixtures gain on finished runs?

Each run is evaluated plainly, with a fitted temperature, with a cache, with dynamic evaluation, and
with dynamic evaluation and a cache together. Several runs are also mixed. The gain of a run is
measured against plain evaluation of the same run. The gain of a mixture is measured against the run
with the best validation perplexity. The last column but one compares each run with the first run,
under the same method.

With --tune all settings are fitted on validation first, as `tiedlm evaluate --tune` does, and kept
in the run folders. Without it they are those that were fitted before, or the published ones. Test
text is never used to fit anything.

Losses are kept in --out, and an evaluation that is stopped goes on: the same command resumes.

    python -m studies.evaluation_methods RUN [RUN ...] --tune [--budget 120] [--keep]
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from studies.harness import command, measuring_parser, show_table, start
from tiedlm import load
from tiedlm.arithmetic import arithmetic
from tiedlm.cli import leave
from tiedlm.cli.methods import check_same_words
from tiedlm.errors import UserError
from tiedlm.evaluation import fit_weights, mixture_losses
from tiedlm.evaluation.unfinished import Interrupted, text_digest
from tiedlm.experiments.reproduce import markdown_table
from tiedlm.experiments.results import keep_study
from tiedlm.files import read_json, write_json, write_text
from tiedlm.progress import token_progress
from tiedlm.training.evaluated import Evaluated
from tiedlm.training.hardware import fast_arithmetic
from tiedlm.training.method_request import Request, Resolved
from tiedlm.training.method_settings import find_settings, fit_settings
from tiedlm.training.settings import Settings
from tiedlm.training.signals import stop_signals

NAME = "evaluation-methods"
METHODS = {
    "plain": Request(),
    "temperature": Request(temperature="fit"),
    "cache": Request(cache={}),
    "dynamic": Request(dynamic={"rule": "rms"}),
    "dynamic, cache": Request(dynamic={"rule": "rms"}, cache={}),
}
MIXED = ("plain", "dynamic, cache")  # the methods of the runs in a mixture
PARTS = ("valid", "test")

Row = dict[str, Any]


class Text:
    """The losses of a text under one run with its methods, kept in a file.

    Args:
        run: the run.
        method: a key of ``METHODS``.
        resolved: the settings of the method.
        part: "valid" or "test".
        folder: where losses are kept.
    """

    def __init__(
        self, run: Evaluated, method: str, resolved: Resolved, part: str, folder: Path
    ) -> None:
        self.run, self.method, self.part = run, method, part
        self.methods, self.ids = resolved.methods, getattr(run.corpus, part)
        key = [run.digest, text_digest(self.ids), dataclasses.asdict(self.methods)]
        name = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:24]
        self.path = folder / f"{name}.json"

    def measure(self) -> tuple[npt.NDArray[np.floating], float]:
        """Return the loss of each word but the first, and the seconds that they took.

        Raises:
            Interrupted: if the evaluation was asked to stop; it is saved.
        """
        found = read_json(self.path) if self.path.is_file() else {"losses": None, "seconds": 0.0}
        if found["losses"] is None:
            title = f"{self.run.folder.name}, {self.method}, {self.part}"
            begin = time.perf_counter()
            try:
                losses = self.run.losses(self.ids, METHODS[self.method], self.methods, title)
                found["losses"] = [round(float(one), 6) for one in losses]
            finally:
                found["seconds"] += time.perf_counter() - begin
                write_json(self.path, found)
        return np.array(found["losses"]), found["seconds"]


def settings_of(run: Evaluated, method: str, tune: bool) -> Resolved:
    """Return the settings of a method for a run; fit them first if that is wanted."""
    request = METHODS[method]
    find = fit_settings if tune and method != "plain" else find_settings
    return find(run, request)


def measure(runs: Sequence[Evaluated], tune: bool, folder: Path) -> list[Row]:
    """Return a row for each run and method, and for each mixture of all runs."""
    rows: list[Row] = []
    losses: dict[tuple[str, str], list[npt.NDArray[np.floating]]] = {}
    for run in runs:
        for method in METHODS:
            resolved = settings_of(run, method, tune)
            row: Row = {"runs": [run.folder.name], "method": method, "sources": resolved.sources}
            row["settings"] = dataclasses.asdict(resolved.methods)
            for part in PARTS:
                found, seconds = Text(run, method, resolved, part, folder).measure()
                losses.setdefault((method, part), []).append(found)
                row |= _numbers(part, found, seconds)
            rows.append(row)
    for method in MIXED if len(runs) > 1 else ():
        weights = fit_weights(np.stack(losses[method, "valid"])).round(4)
        weights /= weights.sum()
        row = {"runs": [run.folder.name for run in runs], "method": method}
        row["weights"] = weights.tolist()
        for part in PARTS:
            seconds = sum(one[f"{part}_seconds"] for one in rows if one["method"] == method)
            row |= _numbers(part, mixture_losses(np.stack(losses[method, part]), weights), seconds)
        rows.append(row)
    return rows


def _numbers(part: str, losses: npt.NDArray[np.floating], seconds: float) -> Row:
    return {
        f"{part}_ppl": math.exp(losses.mean()),
        f"{part}_words": len(losses),
        f"{part}_seconds": round(seconds, 2),
    }


def table(rows: Sequence[Row]) -> str:
    """Return perplexities, gains, differences from the first run, and times."""
    single = [row for row in rows if len(row["runs"]) == 1]
    plain = [row for row in single if row["method"] == "plain"]
    best = min(plain, key=lambda row: float(row["valid_ppl"]))
    first = {row["method"]: row for row in single if row["runs"] == single[0]["runs"]}
    body = []
    for row in rows:
        is_mixture = len(row["runs"]) > 1
        base = best if is_mixture else next(one for one in plain if one["runs"] == row["runs"])
        name = f"mixture of {len(row['runs'])}" if is_mixture else row["runs"][0]
        against = first[row["method"]]
        body.append(
            (
                name, row["method"], *(f"{row[f'{part}_ppl']:.2f}" for part in PARTS),
                *(_difference(row, base, part) for part in PARTS),
                "-" if is_mixture else _difference(row, against, "test"),
                f"{row['test_seconds'] / row['test_words'] * 1e6:,.0f}",
            )
        )  # fmt: skip
    header = (
        "run", "method", "validation", "test", "gain, validation", "gain, test",
        "test, against the first run", "µs a word",
    )  # fmt: skip
    return markdown_table(header, body)


def _difference(row: Mapping[str, Any], base: Mapping[str, Any], part: str) -> str:
    if row is base:
        return "-"
    return f"{row[f'{part}_ppl'] - base[f'{part}_ppl']:+.2f}"


@contextmanager
def opened(folders: Sequence[Path], end: float) -> Iterator[list[Evaluated]]:
    """Yield the runs. They stop at an end of the monotonic clock, in seconds, or at a signal.

    Raises:
        UserError: if two runs have other words or other texts.
    """
    with ExitStack() as bars, stop_signals() as stop:

        def progress(title: str, total: int) -> Callable[[int], None]:
            bars.close()
            return bars.enter_context(token_progress(title, total))

        runs = []
        for folder in folders:
            settings = Settings.of_run(folder)
            runs.append(
                Evaluated(
                    folder,
                    load(folder),
                    lambda settings=settings: settings.load_corpus(progress=False),  # type: ignore[misc]
                    progress=progress,
                    stop=lambda: stop() or time.monotonic() > end,
                    note=print,
                )
            )
            check_texts(runs[0], runs[-1])
        yield runs


def check_texts(first: Evaluated, other: Evaluated) -> None:
    """Refuse runs that cannot be compared and mixed.

    Raises:
        UserError: if they have other words or other texts.
    """
    ours, theirs = first.corpus, other.corpus
    check_same_words(first.folder, ours.vocabulary, other.folder, theirs.vocabulary)
    for part in PARTS:
        if not np.array_equal(getattr(ours, part), getattr(theirs, part)):
            raise UserError(f"{other.folder} has another {part} text than {first.folder}")


def arguments() -> argparse.Namespace:
    """Return the flags."""
    parser = measuring_parser("evaluation_methods", __doc__)
    parser.add_argument("--tune", action="store_true", help="fit all settings on validation first")
    parser.add_argument(
        "--budget", type=float, default=math.inf, metavar="MINUTES",
        help="stop after this many minutes with everything saved",
    )  # fmt: skip
    return parser.parse_args()


def main() -> None:
    """Evaluate the runs, print the table and, with --keep, keep it."""
    options = arguments()
    end = time.monotonic() + 60 * options.budget
    with opened(options.runs, end) as runs, fast_arithmetic(), arithmetic(kernels=True):
        try:
            rows = measure(runs, options.tune, options.out / "losses")
        except (Interrupted, KeyboardInterrupt):
            status = 0 if time.monotonic() > end else 130
            leave("stopped; the same command continues from there", status)
    text = table(rows)
    show_table(text, options.out)
    if options.keep:
        folder = keep_study(NAME, rows, {"tune": options.tune}, options.results, command())
        write_text(folder / "table.md", text)
        print(folder)


if __name__ == "__main__":
    start(main)
