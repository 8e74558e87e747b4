"""The paper's eq. 4.3 on trained models: what J_aug's gradient becomes at high temperature.

The claim: ``tau^2 V dJ_aug/dz`` goes to ``z - L^T u``, here less its mean over the vocabulary,
since J_aug does not see a constant; z is ``W h``, without the bias, as in J_aug. For each
temperature: the distance between the two, relative to the second, and the cosine, averaged over
tokens of the validation text.

    python benchmarks/high_temperature.py RUN [RUN ...] [--tokens 2000] [--keep]

With ``--keep`` it takes the place of the study in ``results/``.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

from study import command
from tiedlm import load
from tiedlm.evaluation.perplexity import hidden_windows
from tiedlm.experiments.reproduce import markdown_table
from tiedlm.experiments.results import keep_study
from tiedlm.experiments.theory import high_temperature_gap
from tiedlm.files import write_text
from tiedlm.model import LanguageModel
from tiedlm.training.settings import Settings

TEMPERATURES = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 1000.0)


def measure(model: LanguageModel, text: Any) -> list[dict[str, float]]:
    """Return the comparison at each temperature, over a text."""
    model = model.double()
    embedding = model.embedding.weight.detach()
    found: list[list[dict[str, float]]] = []
    sizes = []
    with torch.no_grad():
        for hidden_TH, targets_T in hidden_windows(model, text):
            scores_TV = hidden_TH @ model.decoder.weight.t()  # J_aug knows no bias
            soft_TV = embedding[targets_T] @ embedding.t()
            found.append([high_temperature_gap(scores_TV, soft_TV, tau) for tau in TEMPERATURES])
            sizes.append(len(targets_T))
    return [
        {
            key: sum(part[i][key] * n for part, n in zip(found, sizes, strict=True)) / sum(sizes)
            for key in found[0][i]
        }
        for i in range(len(TEMPERATURES))
    ]


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--tokens", type=int, default=2000)
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--keep", action="store_true", help="in the place of the one kept")
    options = parser.parse_args()
    metrics = {}
    for run in options.runs:
        settings = Settings.of_run(run)
        corpus = settings.load_corpus(progress=False)
        metrics[run.name] = measure(load(run), corpus.valid[: options.tokens + 1])
    body = [
        (
            f"{tau:g}",
            *(f"{m[i]['relative_error']:.3f} ({m[i]['cosine']:.3f})" for m in metrics.values()),
        )
        for i, tau in enumerate(TEMPERATURES)
    ]
    text = markdown_table(("temperature", *(f"{n}: error (cosine)" for n in metrics)), body)
    print(text)
    if options.keep:
        tokens = {"tokens": options.tokens}
        folder = keep_study("high-temperature", metrics, tokens, options.results, command())
        write_text(folder / "table.md", text)


if __name__ == "__main__":
    main()
