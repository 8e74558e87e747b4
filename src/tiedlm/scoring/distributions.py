"""What a next-word distribution says of a word: surprisal, entropy, rank.

Shape letters: N tokens, V vocabulary, H hidden width.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from tiedlm.model import LanguageModel

CELLS = 1 << 22  # logits held at a time


class Distributions(NamedTuple):
    """Of N distributions: each ``(N,)`` and in nats; ``boundary`` only where it was asked for."""

    surprisal: Tensor
    entropy: Tensor
    rank: Tensor
    boundary: Tensor | None


@torch.no_grad()
def describe(
    model: LanguageModel,
    hidden_NH: Tensor,
    targets_N: Tensor,
    starts_V: Tensor | None = None,
) -> Distributions:
    r"""Describe the next-word distributions after ``hidden_NH``.

    .. math::
        s = -\log p(w), \qquad H = -\sum_v p(v) \log p(v), \qquad
        r = 1 + |\{v : p(v) > p(w)\}|

    With :math:`z` less its largest value, :math:`H = \log \sum_v e^{z_v} - \sum_v p(v) z_v`: one
    exponential for all of it, and nothing overflows.

    Args:
        model: whose decoder reads ``hidden_NH``.
        hidden_NH: hidden states; a row of NaN stands for no distribution.
        targets_N: the words w.
        starts_V: 1 for the pieces that begin a word, 0 for the others; asks for ``boundary``, the
            surprisal of the event that such a piece comes next.

    Returns:
        Surprisal and entropy, NaN where there is no distribution; the rank, there 0.
    """
    rows = max(1, CELLS // model.config.vocab_size)
    parts = [
        _describe(model, hidden_NH[i : i + rows], targets_N[i : i + rows], starts_V)
        for i in range(0, len(hidden_NH), rows)
    ]
    boundaries = [part.boundary for part in parts if part.boundary is not None]
    return Distributions(
        torch.cat([part.surprisal for part in parts]),
        torch.cat([part.entropy for part in parts]),
        torch.cat([part.rank for part in parts]),
        torch.cat(boundaries) if boundaries else None,
    )


def _describe(
    model: LanguageModel, hidden_NH: Tensor, targets_N: Tensor, starts_V: Tensor | None
) -> Distributions:
    z_NV = model.decode(hidden_NH)
    z_NV -= z_NV.max(dim=-1, keepdim=True).values
    target_z_N = z_NV.gather(1, targets_N[:, None])[:, 0]
    rank_N = 1 + (z_NV > target_z_N[:, None]).sum(dim=-1)
    rank_N.masked_fill_(target_z_N.isnan(), 0)
    e_NV = z_NV.exp()
    sum_N = e_NV.sum(dim=-1)
    log_sum_N = sum_N.log()
    boundary_N = None if starts_V is None else log_sum_N - (e_NV @ starts_V).log()
    entropy_N = log_sum_N - e_NV.mul_(z_NV).sum(dim=-1) / sum_N
    return Distributions(log_sum_N - target_z_N, entropy_N, rank_N, boundary_N)
