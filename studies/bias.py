"""Should the tied classifier have a bias?

The paper writes b = 0 for the tied classifier, and gives the untied one a bias. This study trains
the four models with a bias and without, on the text and schedule of studies.semantic --long. It
prints the tables of the finished runs and writes them to results/. The same command resumes what
was stopped. RE and REAL with a bias are also runs of studies.semantic: with its --out they are
shared.

    python -m studies.bias --out runs/semantic-long

The second table says what carries the words' frequencies. The mean score of a word over the text is
W mean(h) + b. The table has the correlation of each part with the logarithm of the word's count in
training, and the slope.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch

from studies.harness import (
    differences,
    has_weights,
    keep_table,
    kept_measurements,
    paired,
    start,
    trained,
    training_parser,
    values_by_seed,
)
from studies.semantic import BASE, REAL, jobs
from tiedlm import load
from tiedlm.arithmetic import arithmetic
from tiedlm.evaluation.perplexity import hidden_windows
from tiedlm.experiments.comparison import seed_mean
from tiedlm.experiments.parallel import Job
from tiedlm.experiments.reproduce import markdown_table

# Changes to REAL, the only recipe with both AL and RE.
MODELS = {
    "VD-LSTM": {"tied": False, "alpha": 0.0},
    "AL": {"tied": False},
    "RE": {"alpha": 0.0},
    "REAL": {},
}
SHARED = {("RE", True): BASE, ("REAL", True): REAL}

TOKENS = 20_000  # of validation, for the mean hidden state

Key = tuple[str, bool, int]  # model, with a bias, seed


def study_jobs(options: argparse.Namespace) -> dict[Key, Job]:
    """Return the runs by (model, with a bias, seed)."""
    shared = jobs(options.out, options.seeds, options.precision, long=True)[1]
    found = {}
    for seed in range(1, options.seeds + 1):
        for model, changes in MODELS.items():
            for bias in (False, True):
                if (model, bias) in SHARED:
                    found[model, bias, seed] = shared[SHARED[model, bias], seed]
                    continue
                settings = shared[REAL, seed].settings.replace(**changes, decoder_bias=bias)
                name = f"{model}-{'with' if bias else 'without'}-bias-seed{seed}"
                found[model, bias, seed] = Job(settings, options.out / name)
    return found


def table(found: dict[Key, Job]) -> str:
    """Return the table in Markdown: means over seeds and differences paired by seed."""
    body = []
    for model in MODELS:
        without, with_one = (
            values_by_seed(found, (model, bias), "test_ppl") for bias in (False, True)
        )
        pairs = differences(with_one, without)
        cells = []
        for bias in (False, True):
            both = (
                list(values_by_seed(found, (model, bias), value).values())
                for value in ("valid_ppl", "test_ppl")
            )
            cells.append(" / ".join(str(seed_mean(own)) for own in both if own) or "not run")
        body.append((model, *cells, paired(pairs) if pairs else "-"))
    return markdown_table(
        ("model", "without a bias", "with one", "with - without, test, paired"), body
    )


def of_frequency(scores_V: torch.Tensor, log_counts_V: torch.Tensor) -> str:
    """Return the correlation of scores with log counts and the slope of their regression."""
    x_V, y_V = (part_V - part_V.mean() for part_V in (log_counts_V, scores_V.double()))
    product = float(x_V @ y_V)
    return f"{product / float(x_V.norm() * y_V.norm()):.2f}, {product / float(x_V @ x_V):.2f}"


@arithmetic(kernels=True)
def carriers(found: dict[Key, Job], known: dict[str, list[str]]) -> dict[str, list[str]]:
    """Return the second table's numbers by model and bias, of the first seed.

    A model without weights keeps the numbers that were measured before.
    """
    numbers = dict(known)
    for (name, bias, seed), job in found.items():
        if seed != 1 or not has_weights(job):
            continue
        model, corpus = load(job.out), job.settings.load_corpus(progress=False)
        counts_V = np.bincount(corpus.train, minlength=len(corpus.vocabulary))
        log_counts_V = torch.from_numpy(np.log(np.maximum(counts_V, 1)))
        windows = hidden_windows(model, corpus.valid[:TOKENS])
        mean_H = torch.cat([hidden_TH for hidden_TH, _ in windows]).mean(0)
        with torch.no_grad():
            by_state = of_frequency(model.decoder.weight @ mean_H, log_counts_V)
            by_bias = "-"
            if model.decoder.bias is not None:
                by_bias = of_frequency(model.decoder.bias, log_counts_V)
        numbers[_row(name, bias)] = [by_state, by_bias]
    return numbers


def _row(model: str, bias: bool) -> str:
    return f"{model}, {'with' if bias else 'without'}"


def carriers_table(numbers: dict[str, list[str]]) -> str:
    """Return the second table in Markdown."""
    rows = [_row(model, bias) for model in MODELS for bias in (False, True)]
    body = [(*row.split(", "), *numbers[row]) for row in rows if row in numbers]
    return markdown_table(("model", "bias", "W mean(h): correlation, slope", "b"), body)


def main() -> None:
    """Train the missing runs, print the tables and write them."""
    options = training_parser("bias", __doc__, seeds=1, precision=True, show=True).parse_args()
    found = study_jobs(options)
    found = trained("bias", found, list(found.values()), options)
    measured = carriers(found, kept_measurements("bias", options))
    text = table(found) + "\n" + carriers_table(measured)
    keep_table("bias", [job.out for job in found.values()], options, text, measured)


if __name__ == "__main__":
    start(main)
