"""How does the gain of AL, RE and REAL depend on the size of the text?

Trains the small models on 5%, 10%, 22.5% and 50% of Penn Treebank's training text, the smallest
first. A share below a half is read at three places, a half at two. Each part has a vocabulary of
its own, the words seen twice or more in it, so that every word can be learned. The other words of
the validation and test text are <unk>. The schedule is the paper's with a patience of 5 epochs,
since models of small parts overfit early. For the whole text the first sessions of Table 1 are read
from results/, in pairs of the same seed.

The same command resumes what was stopped. It prints the table of the finished runs, draws
docs/images/data_size.png and writes to results/. With --show it only prints the table.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from studies.gains_plot import plot_gains
from studies.harness import keep_table, start, trained, training_parser
from tiedlm.experiments.cells import table1
from tiedlm.experiments.comparison import mean_log_ratio
from tiedlm.experiments.parallel import Job
from tiedlm.experiments.recipes import get_recipe
from tiedlm.experiments.reproduce import find_results, markdown_table, runs_of
from tiedlm.files import read_json
from tiedlm.training.run_files import RESULT

FRACTIONS = (0.05, 0.1, 0.225, 0.5)
WHOLE = 1.0
PARTS = 3
MODELS = {"VD-LSTM": "", "AL": "-al", "RE": "-re", "REAL": "-real"}
PATIENCE = 5
IMAGE = Path(__file__).parents[1] / "docs" / "images" / "data_size.png"

Key = tuple[float, int, str]  # share of the text, part or seed, model


def jobs(out: Path, precision: str) -> dict[Key, Job]:
    """Return the runs by (fraction, part, model), the cheapest first."""
    found = {}
    for fraction in FRACTIONS:
        count = min(PARTS, math.floor(1 / fraction))
        for part, skip in enumerate(np.linspace(0, 1 - fraction, count)):
            for model, suffix in MODELS.items():
                settings = get_recipe("ptb-small" + suffix).replace(
                    fraction=fraction, skip=round(float(skip), 6), min_count=2, patience=PATIENCE,
                    precision=precision, threads=1,
                )  # fmt: skip
                name = f"{fraction:g}-part{part}{suffix}"
                found[fraction, part, model] = Job(settings, out / name)
    return found


def perplexities(found: dict[Key, Job], results: Path) -> dict[Key, float]:
    """Return the test perplexities of finished runs and of Table 1's runs on the whole text."""
    kept = find_results(results)
    cells = {cell.name: cell for cell in table1()}
    whole = {
        (WHOLE, run.seed, model): run.metrics["test_ppl"]
        for model, suffix in MODELS.items()
        for run in runs_of(cells["ptb-small" + suffix], kept, session=1)
    }
    return {key: read_json(job.out / RESULT)["test_ppl"] for key, job in found.items()} | whole


def gains(ppl: dict[Key, float]) -> list[dict[str, Any]]:
    """Return the share by which each model is below VD-LSTM: mean over parts, and interval.

    Ratios are averaged as logarithms.
    """
    rows = []
    for fraction in (*FRACTIONS, WHOLE):
        for model in MODELS:
            pairs = [
                (value, ppl[f, part, "VD-LSTM"])
                for (f, part, m), value in ppl.items()
                if (f, m) == (fraction, model) and (f, part, "VD-LSTM") in ppl
            ]
            if not pairs:
                continue
            mean, ends = mean_log_ratio(pairs)
            rows.append(
                {
                    "fraction": fraction,
                    "model": model,
                    "parts": len(pairs),
                    "test_ppl": sum(own for own, _ in pairs) / len(pairs),
                    "gain": -math.expm1(mean),
                    "interval95": None
                    if ends is None
                    else [-math.expm1(end) for end in ends[::-1]],
                }
            )
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Return the table of gains in Markdown, in per cent of the perplexity."""
    body = []
    for row in rows:
        text = f"{row['gain']:+.1%}"
        if row["interval95"] is not None:
            text += " ({:+.1%} to {:+.1%})".format(*row["interval95"])
        if row["model"] == "VD-LSTM":
            text = "-"
        share, mean = f"{row['fraction']:.1%}", f"{row['test_ppl']:.1f}"
        body.append((share, row["model"], str(row["parts"]), mean, text))
    header = ("text", "model", "parts or seeds", "test, mean", "below VD-LSTM, 95% interval")
    return markdown_table(header, body)


def main() -> None:
    """Train the missing runs and print the table. Without --show draw the plot and write both."""
    parser = training_parser("data_size", __doc__, seeds=None, precision=True, show=True)
    parser.add_argument(
        "--fractions", type=float, nargs="+", choices=FRACTIONS, default=list(FRACTIONS),
        metavar="SHARE",
        help=f"shares of the text to train on, of {', '.join(map(str, FRACTIONS))} (default: all)",
    )  # fmt: skip
    options = parser.parse_args()
    found = jobs(options.out, options.precision)
    wanted = [job for key, job in found.items() if key[0] in options.fractions]
    found = trained("data-size", found, wanted, options)
    rows = gains(perplexities(found, options.results))
    if not options.show:
        plot_gains(rows, IMAGE)
    keep_table("data-size", [job.out for job in found.values()], options, table(rows))


if __name__ == "__main__":
    start(main)
