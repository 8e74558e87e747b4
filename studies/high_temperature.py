"""Does the gradient of J_aug reach the limit of the paper's eq. 4.3 on trained models?

The equation says that tau^2 V dJ_aug/dz goes to z - L^T u at high temperature. Here the limit is
centred over the vocabulary, since J_aug does not see a constant. z is W h without the bias, as in
J_aug. The table has, for each temperature, the distance of the two relative to the limit, and their
cosine. Both are means over tokens of the validation text.

    python -m studies.high_temperature RUN [RUN ...] [--tokens 2000] [--keep]

Shape letters: N and T tokens, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from studies.harness import command, measuring_parser, show_table, start
from tiedlm import load
from tiedlm.evaluation.perplexity import hidden_windows
from tiedlm.experiments.reproduce import markdown_table
from tiedlm.experiments.results import keep_study
from tiedlm.files import write_text
from tiedlm.model import LanguageModel
from tiedlm.training.settings import Settings

TEMPERATURES = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 1000.0)


def high_temperature_gap(
    scores_NV: Tensor, soft_NV: Tensor, temperature: float
) -> dict[str, float]:
    """Compare ``tau^2 V dJ_aug/dz = tau V (y^ - y~)`` with its limit ``z - L^T u``.

    Args:
        scores_NV: z, in float64.
        soft_NV: L^T u, the soft target's scores.
        temperature: tau.

    Returns:
        Means over tokens: the distance of the two relative to the limit, and their cosine.

    Source: Inan et al. (2017), eq. 4.3; the limit is centred, since J_aug sees no constant.
    """
    V = scores_NV.shape[1]
    prediction_NV, target_NV = (torch.softmax(x / temperature, 1) for x in (scores_NV, soft_NV))
    gradient_NV = temperature * V * (prediction_NV - target_NV)
    limit_NV = scores_NV - soft_NV
    limit_NV = limit_NV - limit_NV.mean(1, keepdim=True)
    error_N = (gradient_NV - limit_NV).norm(dim=1) / limit_NV.norm(dim=1)
    cosine_N = torch.nn.functional.cosine_similarity(gradient_NV, limit_NV, dim=1)
    return {
        "temperature": temperature,
        "relative_error": float(error_N.mean()),
        "cosine": float(cosine_N.mean()),
    }


def measure(model: LanguageModel, text: Any) -> list[dict[str, float]]:
    """Return the comparison at each temperature, averaged over a text."""
    model = model.double()
    embedding = model.embedding.weight.detach()
    found: list[list[dict[str, float]]] = []
    sizes = []
    with torch.no_grad():
        for hidden_TH, targets_T in hidden_windows(model, text):
            scores_TV = hidden_TH @ model.decoder.weight.t()  # J_aug leaves the bias out
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
    """Measure the gaps, print the table and, with --keep, keep it."""
    parser = measuring_parser("high_temperature", __doc__)
    parser.add_argument(
        "--tokens", type=int, default=2000, help="validation tokens to read (default: 2000)"
    )
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
    show_table(text, options.out)
    if options.keep:
        tokens = {"tokens": options.tokens}
        folder = keep_study("high-temperature", metrics, tokens, options.results, command())
        write_text(folder / "table.md", text)


if __name__ == "__main__":
    start(main)
