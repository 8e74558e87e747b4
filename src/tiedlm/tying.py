"""The word classifier: a matrix of its own, or the embedding itself.

A tie is one shared ``nn.Parameter``: registered in two modules, stored once, counted once.

Shape letters: V vocabulary, E embedding width, H hidden width.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class Decoder(nn.Module):
    r"""A classifier of its own: ``logits = W h + b``.

    Args:
        vocab_size: V.
        d_hidden: width of what it reads.
        bias: whether there is a ``b``.

    Shape:
        hidden ``(..., d_hidden)``; logits ``(..., V)``; ``weight`` is W, ``(V, d_hidden)``.

    Source: PAPER section 1.
    """

    bias: nn.Parameter | None

    def __init__(self, vocab_size: int, d_hidden: int, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(vocab_size, d_hidden))
        self.bias = nn.Parameter(torch.zeros(vocab_size)) if bias else None

    def project(self, hidden: Tensor) -> Tensor:
        """Return what is multiplied by ``weight``: here the hidden state itself."""
        return hidden

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the logits of ``hidden``."""
        return nn.functional.linear(self.project(hidden), self.weight, self.bias)


class TiedDecoder(Decoder):
    r"""The embedding used again as the classifier (RE): ``logits = L^T (P h)``.

    ``P`` is a learned projection from the hidden width to the embedding width; where the two are
    equal there is none, as in the paper.

    Args:
        embedding: whose ``weight`` ``(V, E)`` becomes this decoder's ``weight``: the same object.
        d_hidden: width of what it reads.
        bias: the paper's RE has none.

    Source: PAPER section 1, "Reused embeddings": ``W = L^T``, ``b = 0``.
    """

    projection: nn.Linear | None

    def __init__(self, embedding: nn.Embedding, d_hidden: int, bias: bool = False) -> None:
        nn.Module.__init__(self)
        vocab_size, d_embed = embedding.weight.shape
        self.weight = embedding.weight
        self.bias = nn.Parameter(torch.zeros(vocab_size)) if bias else None
        needs_projection = d_hidden != d_embed
        self.projection = nn.Linear(d_hidden, d_embed, bias=False) if needs_projection else None

    def project(self, hidden: Tensor) -> Tensor:
        """Return ``P h``, of the embedding's width."""
        if self.projection is None:
            return hidden
        projected: Tensor = self.projection(hidden)
        return projected


def is_tied(first: nn.Module, second: nn.Module) -> bool:
    """Tell whether two modules own the same ``weight``: one object, not two equal ones."""
    return first.weight is second.weight


def count_parameters(parameters: Iterable[nn.Parameter]) -> int:
    """Count numbers, a shared parameter once."""
    return sum({id(p): p.numel() for p in parameters}.values())
