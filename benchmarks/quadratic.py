"""How far `impl="quadratic"` is from the exact augmented loss, on a trained model.

Reads the validation text of a run's corpus, and for each temperature compares J_aug and its
gradients for the hidden states and for the classifier (the soft target detached), relative to the
exact ones.

    python benchmarks/quadratic.py RUN [--tokens 2000] [--temperatures 1 2 5 10 20 50 100]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

from tiedlm import augmented_cross_entropy, load
from tiedlm.evaluation.perplexity import hidden_windows
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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--tokens", type=int, default=2000)
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
        f"{scores.std(-1).mean():.2f}\n\n"
        "| temperature | J_aug | quadratic / exact | error of dh | error of dW |\n"
        "|---|---|---|---|---|"
    )
    for tau in args.temperatures:
        exact = augmented(hidden, weight, embedding, targets, tau, "fused")
        close = augmented(hidden, weight, embedding, targets, tau, "quadratic")
        errors = [
            ((c - e).norm() / e.norm()).item() for c, e in zip(close[1:], exact[1:], strict=True)
        ]
        print(
            f"| {tau:g} | {exact[0]:.3g} | {close[0] / exact[0]:.3f} | {errors[0]:.3f} "
            f"| {errors[1]:.3f} |"
        )


if __name__ == "__main__":
    main()
