"""The word classifier, with its own weight matrix or the embedding's.

A tie is one ``nn.Parameter``: the embedding owns it, the decoder uses it, and a file stores it
once.

Shape letters: V vocabulary, E embedding width, H hidden width.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn


class Decoder(nn.Module):
    r"""A classifier with its own weights: ``logits = W h + b``.

    Args:
        vocab_size: V.
        d_hidden: width of its input.
        bias: whether to add ``b``.

    Shape:
        hidden ``(..., d_hidden)``; logits ``(..., V)``; ``weight`` is W, ``(V, d_hidden)``.

    Source: Inan et al. (2017).
    """

    bias: nn.Parameter | None

    def __init__(self, vocab_size: int, d_hidden: int, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(vocab_size, d_hidden))
        self.bias = nn.Parameter(torch.zeros(vocab_size)) if bias else None

    def project(self, hidden: Tensor) -> Tensor:
        """Return the vectors to multiply by ``weight``: here ``hidden`` unchanged."""
        return hidden

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the logits of ``hidden``."""
        return nn.functional.linear(hidden, self.weight, self.bias)


class TiedDecoder(nn.Module):
    r"""A classifier that reuses the embedding (RE): ``logits = L^T (P h)``.

    ``P`` is a learned projection from the hidden width to the embedding width. If the two are
    equal there is no projection, as in the paper.

    Only the embedding owns the parameter, so a state dict holds it once. This module looks the
    parameter up at each use, so the tie survives whatever replaces the parameter, such as
    ``.to("meta")`` or sharding. Code that replaces the embedding itself must call :meth:`follow`,
    as :class:`tiedlm.LanguageModel` does.

    Args:
        embedding: the embedding that shares its ``weight`` ``(V, E)``.
        d_hidden: width of its input.
        bias: whether to add a bias; the paper's RE has none.

    Source: Inan et al. (2017), reused embeddings: ``W = L^T``, ``b = 0``.
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
        """Return ``P h``, which has the embedding's width."""
        if self.projection is None:
            return hidden
        projected: Tensor = self.projection(hidden)
        return projected

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the logits of ``hidden``."""
        return nn.functional.linear(self.project(hidden), self.weight, self.bias)


class TwoUses(torch.autograd.Function):
    """Share one weight between two uses, and add their gradients without copying a whole matrix.

    The gradient of the first use, reading words, has few rows. They are added in place to the
    gradient of the second use, the classifier. Autograd alone would copy that gradient first, which
    is a matrix of the embedding's size.
    """

    @staticmethod
    def forward(_ctx: Any, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weight twice, for the first and the second use."""
        return weight.view_as(weight), weight.view_as(weight)

    @staticmethod
    def backward(_ctx: Any, rows: Tensor, dense: Tensor) -> Tensor:
        """Add the rows to the second use's gradient in place; nothing else may hold it."""
        return dense.add_(rows)


def is_tied(embedding: nn.Embedding, decoder: Decoder | TiedDecoder) -> bool:
    """Return whether both use the same ``weight`` object; equal copies do not count."""
    return decoder.weight is embedding.weight


def count_parameters(parameters: Iterable[nn.Parameter]) -> int:
    """Count the numbers in all parameters, each shared parameter once."""
    return sum({id(p): p.numel() for p in parameters}.values())
