"""Test perplexity by Monte-Carlo dropout, of finished runs: the rows of Table 3 that say MC.

    python benchmarks/monte_carlo.py RUN [RUN ...] [--samples 20] [--keep]

With ``--keep`` it takes the place of the study in ``results/``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from study import command
from tiedlm import load, native
from tiedlm.evaluation.monte_carlo import monte_carlo_evaluate
from tiedlm.experiments.results import keep_study
from tiedlm.files import read_json
from tiedlm.training.run_files import RESULT
from tiedlm.training.settings import Settings


def main() -> None:
    """Evaluate, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--keep", action="store_true", help="in the place of the one kept")
    options = parser.parse_args()
    native.enable()
    metrics = []
    for run in options.runs:
        settings = Settings.of_run(run)
        corpus = settings.load_corpus(progress=False)
        found = monte_carlo_evaluate(load(run), corpus.test, options.samples, window=settings.bptt)
        plain = read_json(run / RESULT)
        metrics.append(
            {
                "run": run.name,
                "samples": options.samples,
                "test_ppl": found.perplexity,
                "plain_test_ppl": plain["test_ppl"],
                "parameters": plain["parameters"],
            }
        )
        print(metrics[-1])
    if options.keep:
        print(keep_study("monte-carlo", metrics, {"split": "test"}, options.results, command()))


if __name__ == "__main__":
    main()
