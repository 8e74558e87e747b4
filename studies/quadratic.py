"""How far is impl="quadratic" from the exact augmented loss on a trained model?

Reads the validation text of a run. The table has, for each temperature, J_aug and the errors of its
gradients relative to the exact ones: for the hidden states and for the classifier, with the soft
target detached.

    python -m studies.quadratic RUN [--tokens 2000] [--temperatures 1 2 5 10 20 50 100]
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from studies.harness import show_table, start, study_parser
from tiedlm import augmented_cross_entropy, load
from tiedlm.evaluation.perplexity import hidden_windows
from tiedlm.experiments.reproduce import markdown_table
from tiedlm.training.settings import Settings


def augmented(
    hidden: Tensor, weight: Tensor, embedding: Tensor, targets: Tensor, tau: float, impl: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Return J_aug and its gradients for hidden and weight."""
    hidden, weight = (x.detach().clone().requires_grad_() for x in (hidden, weight))
    options = {"embedding": embedding, "temperature": tau, "target_grad": False}
    with_aug = augmented_cross_entropy(hidden, weight, targets, alpha=1.0, impl=impl, **options)
    without = augmented_cross_entropy(hidden, weight, targets, alpha=0.0, **options)
    by_hidden, by_weight = torch.autograd.grad(with_aug.loss - without.loss, (hidden, weight))
    return with_aug.aug, by_hidden, by_weight


def main() -> None:
    """Measure the errors, print the table and write it."""
    parser = study_parser("quadratic", __doc__, out="folder for table.md")
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a finished run")
    parser.add_argument(
        "--tokens", type=int, default=2000, help="validation tokens to read (default: 2000)"
    )
    parser.add_argument("--temperatures", type=float, nargs="+", default=[1, 2, 5, 10, 20, 50, 100])
    args = parser.parse_args()

    model = load(args.run).double()
    settings = Settings.of_run(args.run)
    corpus = settings.load_corpus(progress=False)
    hidden, targets = (
        torch.cat(parts)
        for parts in zip(*hidden_windows(model, corpus.valid[: args.tokens + 1]), strict=True)
    )
    weight, embedding = model.decoder.weight.detach(), model.embedding.weight.detach()
    scores = hidden @ weight.t()
    print(
        f"{settings.recipe} on {settings.data}, trained at temperature "
        f"{settings.temperature:g}: standard deviation of the scores over the vocabulary "
        f"{scores.std(-1).mean():.2f}\n"
    )
    body = []
    for tau in args.temperatures:
        exact = augmented(hidden, weight, embedding, targets, tau, "fused")
        close = augmented(hidden, weight, embedding, targets, tau, "quadratic")
        errors = [
            ((c - e).norm() / e.norm()).item() for c, e in zip(close[1:], exact[1:], strict=True)
        ]
        ratio = f"{close[0] / exact[0]:.3f}"
        body.append((f"{tau:g}", f"{exact[0]:.3g}", ratio, *(f"{error:.3f}" for error in errors)))
    header = ("temperature", "J_aug", "quadratic / exact", "error of dh", "error of dW")
    show_table(markdown_table(header, body), args.out)


if __name__ == "__main__":
    start(main)
