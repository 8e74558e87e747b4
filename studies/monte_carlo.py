"""How much does Monte-Carlo dropout lower the test perplexity of finished runs?

With --keep, they become the rows of Table 3 marked MC.

    python -m studies.monte_carlo RUN [RUN ...] [--samples 20] [--keep]
"""

from __future__ import annotations

from studies.harness import command, measuring_parser, show_table, start
from tiedlm import load
from tiedlm.arithmetic import arithmetic
from tiedlm.evaluation.monte_carlo import monte_carlo_evaluate
from tiedlm.experiments.reproduce import markdown_table
from tiedlm.experiments.results import keep_study
from tiedlm.files import read_json
from tiedlm.training.run_files import RESULT
from tiedlm.training.settings import Settings


def main() -> None:
    """Evaluate the runs, print their perplexities and, with --keep, keep them."""
    parser = measuring_parser("monte_carlo", __doc__)
    parser.add_argument(
        "--samples", type=int, default=20, help="sets of dropout masks to average (default: 20)"
    )
    options = parser.parse_args()
    metrics = []
    for run in options.runs:
        settings = Settings.of_run(run)
        corpus = settings.load_corpus(progress=False)
        with arithmetic(kernels=True):
            found = monte_carlo_evaluate(
                load(run), corpus.test, options.samples, window=settings.bptt
            )
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
        print(metrics[-1], flush=True)
    body = [
        (row["run"], str(row["samples"]), f"{row['test_ppl']:.2f}", f"{row['plain_test_ppl']:.2f}")
        for row in metrics
    ]
    show_table(markdown_table(("run", "samples", "test, MC", "test"), body), options.out)
    if options.keep:
        print(keep_study("monte-carlo", metrics, {"split": "test"}, options.results, command()))


if __name__ == "__main__":
    start(main)
