"""The word classifier: a matrix of its own, or the embedding itself.

A tie is one ``nn.Parameter``: the embedding owns it, the decoder uses it, a file stores it once.

Shape letters: V vocabulary, E embedding width, H hidden width.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

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
        return nn.functional.linear(hidden, self.weight, self.bias)


class TiedDecoder(nn.Module):
    r"""The embedding used again as the classifier (RE): ``logits = L^T (P h)``.

    ``P`` is a learned projection from the hidden width to the embedding width; where the two are
    equal there is none, as in the paper.

    The parameter belongs to the embedding alone. This module asks the embedding for it at each
    use, so nothing that replaces the parameter (``.to("meta")``, sharding) can leave it with an
    old one, and a state dict holds it once. Who replaces the embedding itself calls
    :meth:`follow`, as :class:`tiedlm.LanguageModel` does by itself.

    Args:
        embedding: whose ``weight`` ``(V, E)`` is this decoder's ``weight``: the same object.
        d_hidden: width of what it reads.
        bias: the paper's RE has none.

    Source: PAPER section 1, "Reused embeddings": ``W = L^T``, ``b = 0``.
    """

    bias: nn.Parameter | None
    projection: nn.Linear | None

    def __init__(self, embedding: nn.Embedding, d_hidden: int, bias: bool = False) -> None:
        super().__init__()
        vocab_size, d_embed = embedding.weight.shape
        self.follow(embedding)
        self.bias = nn.Parameter(torch.zeros(vocab_size)) if bias else None
        needs_projection = d_hidden != d_embed
        self.projection = nn.Linear(d_hidden, d_embed, bias=False) if needs_projection else None

    def follow(self, embedding: nn.Embedding) -> None:
        """Use this embedding's ``weight`` from now on."""
        self._embedding = (embedding,)  # in a tuple: not a submodule, so not registered twice

    @property
    def weight(self) -> Tensor:
        """The embedding's own parameter."""
        return self._embedding[0].weight

    def project(self, hidden: Tensor) -> Tensor:
        """Return ``P h``, of the embedding's width."""
        if self.projection is None:
            return hidden
        projected: Tensor = self.projection(hidden)
        return projected

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the logits of ``hidden``."""
        return nn.functional.linear(self.project(hidden), self.weight, self.bias)


class TwoUses(torch.autograd.Function):
    """One weight for two uses, of which the first has a gradient of few rows.

    By itself autograd copies the second use's gradient to add those rows: one more matrix of the
    embedding's size in memory.
    """

    @staticmethod
    def forward(_ctx: Any, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weight for the first and for the second use."""
        return weight.view_as(weight), weight.view_as(weight)

    @staticmethod
    def backward(_ctx: Any, rows: Tensor, dense: Tensor) -> Tensor:
        """Add the rows to the gradient of the second use, which nobody else may hold."""
        return dense.add_(rows)


def is_tied(embedding: nn.Embedding, decoder: Decoder | TiedDecoder) -> bool:
    """Tell whether both use the same ``weight``: one object, not two equal ones."""
    return decoder.weight is embedding.weight


def count_parameters(parameters: Iterable[nn.Parameter]) -> int:
    """Count numbers, a shared parameter once."""
    return sum({id(p): p.numel() for p in parameters}.values())
