"""How the gain of AL, RE and REAL depends on how much text there is.

Penn Treebank, small: 5%, 10%, 22.5%, 50% and all of the training text; of the shares below a half
three parts from different places, of a half both, each with the vocabulary of its own part (words
seen twice or more, so that every word can be learned; the validation and test words that are not
among them are ``<unk>``). The paper's schedule, with a patience of 5 epochs, since small parts
overfit early. Of the whole text the first sessions of Table 1 are taken from ``results/``, in pairs
of the same seed. ``python benchmarks/data_size.py --out runs/data-size`` trains what is missing
(stopped, it goes on; the smallest first), prints the table, draws ``docs/images/data_size.png`` and
writes to ``results/``.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from study import keep_table, study_parser, trained
from tiedlm.analysis.plots import plot_gains
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
    """Return the test perplexities of finished runs, and of Table 1's on the whole text."""
    kept = find_results(results)
    cells = {cell.name: cell for cell in table1()}
    whole = {
        (WHOLE, run.seed, model): run.metrics["test_ppl"]
        for model, suffix in MODELS.items()
        for run in runs_of(cells["ptb-small" + suffix], kept, session=1)
    }
    return {key: read_json(job.out / RESULT)["test_ppl"] for key, job in found.items()} | whole


def gains(ppl: dict[Key, float]) -> list[dict[str, Any]]:
    """Return by what share each model's perplexity is below VD-LSTM's: mean over parts, interval.

    Means are of log ratios.
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
    """Return the gains in Markdown, in per cent of the perplexity."""
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
    """Train, print, draw, write."""
    parser = study_parser(__doc__, seeds=None, precision=True, show=True)
    parser.add_argument("--fractions", type=float, nargs="+", default=list(FRACTIONS))
    options = parser.parse_args()
    found = jobs(options.out, options.precision)
    wanted = [job for key, job in found.items() if key[0] in options.fractions]
    found = trained("data-size", found, wanted, options)
    rows = gains(perplexities(found, options.results))
    plot_gains(rows, IMAGE)
    keep_table("data-size", [job.out for job in found.values()], options, table(rows))


if __name__ == "__main__":
    main()
