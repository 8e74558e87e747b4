"""Compute surprisal, entropy and rank from next-word distributions.

Shape letters: N tokens, V vocabulary, H hidden width.
"""

from __future__ import annotations

import ctypes
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tiedlm.arithmetic import kernels_for
from tiedlm.model import LanguageModel
from tiedlm.native import declare, pointer

CELLS = 1 << 22  # logits held at a time
_ARGUMENTS = [ctypes.c_int64, ctypes.c_int64, ctypes.c_int, *[ctypes.c_void_p] * 7]


class Distributions(NamedTuple):
    """Measures of N distributions: each ``(N,)``, in nats; ``boundary`` only on request."""

    surprisal: Tensor
    entropy: Tensor
    rank: Tensor
    boundary: Tensor | None


class Shared:
    """One distribution that precedes many words; it is computed only once.

    Args:
        model: the model whose decoder reads ``hidden_H``.
        hidden_H: a hidden state; NaN means that there is no distribution.
        starts_V: as in :func:`describe`.
    """

    @torch.no_grad()
    def __init__(self, model: LanguageModel, hidden_H: Tensor, starts_V: Tensor | None) -> None:
        first = torch.zeros(1, dtype=torch.int64, device=hidden_H.device)
        self.of_one = describe(model, hidden_H[None], first, starts_V)
        self.z_V = model.decode(hidden_H)
        self.log_sum = self.z_V.logsumexp(0)
        self.ascending_V = self.z_V.sort().values

    def describe(self, targets_N: Tensor) -> Distributions:
        """Return the measures of this distribution for each of N next words."""
        z_N = self.z_V[targets_N]
        not_above_N = torch.searchsorted(self.ascending_V, z_N, right=True)
        rank_N = (1 + len(self.z_V) - not_above_N).masked_fill_(z_N.isnan(), 0)
        boundary = self.of_one.boundary
        return Distributions(
            self.log_sum - z_N,
            self.of_one.entropy.expand(len(targets_N)),
            rank_N,
            None if boundary is None else boundary.expand(len(targets_N)),
        )


@torch.no_grad()
def describe(
    model: LanguageModel,
    hidden_NH: Tensor,
    targets_N: Tensor,
    starts_V: Tensor | None = None,
) -> Distributions:
    r"""Return surprisal, entropy and rank under the next-word distributions of ``hidden_NH``.

    .. math::
        s = -\log p(w), \qquad H = -\sum_v p(v) \log p(v), \qquad
        r = 1 + |\{v : p(v) > p(w)\}|

    The largest logit is subtracted from :math:`z` so that nothing overflows. Then
    :math:`H = \log \sum_v e^{z_v} - \sum_v p(v) z_v`, with one exponential for both sums.

    Args:
        model: the model whose decoder reads ``hidden_NH``.
        hidden_NH: hidden states; a row of NaN means that there is no distribution.
        targets_N: the words w.
        starts_V: 1 for pieces that begin a word, 0 for the others. If given, ``boundary`` is the
            surprisal of the event that such a piece comes next.

    Returns:
        The measures. Without a distribution, surprisal and entropy are NaN and the rank is 0.
    """
    V = model.config.vocab_size
    rows = max(1, CELLS // V)
    # All matrices have the same size, so that freed memory can be reused.
    buffer_RV, other_RV = hidden_NH.new_empty(2, rows, V).unbind(0)
    parts = []
    for first in range(0, len(hidden_NH), rows):
        targets_R = targets_N[first : first + rows]
        z_RV = _scores(model, hidden_NH[first : first + rows], buffer_RV)
        other_NV = other_RV[: len(z_RV)]
        parts.append(_describe(z_RV, targets_R, starts_V, other_NV, work=len(hidden_NH) * V))
    boundaries = [part.boundary for part in parts if part.boundary is not None]
    return Distributions(
        torch.cat([part.surprisal for part in parts]),
        torch.cat([part.entropy for part in parts]),
        torch.cat([part.rank for part in parts]),
        torch.cat(boundaries) if boundaries else None,
    )


@torch.no_grad()
def describe_logits(z_NV: Tensor, targets_N: Tensor, starts_V: Tensor | None) -> Distributions:
    """Return the same measures as :func:`describe` for given logits, which are overwritten."""
    return _describe(
        z_NV.contiguous(), targets_N, starts_V, torch.empty_like(z_NV), work=z_NV.numel()
    )


def _scores(model: LanguageModel, hidden_NH: Tensor, buffer_RV: Tensor) -> Tensor:
    """Return the logits, as a view of the buffer."""
    weight_VE, bias_V = model.decoder.weight, model.decoder.bias
    count = min(padded(len(hidden_NH)), len(buffer_RV))
    hidden_MH = nn.functional.pad(hidden_NH, (0, 0, 0, count - len(hidden_NH)))
    torch.mm(model.decoder.project(hidden_MH), weight_VE.t(), out=buffer_RV[:count])
    z_NV = buffer_RV[: len(hidden_NH)]
    return z_NV if bias_V is None else z_NV.add_(bias_V)


def padded(count: int, multiple: int = 8) -> int:
    """Round a count up to a multiple.

    oneDNN keeps about 1 MB of compiled code for every shape that it meets. Rounding reduces the
    number of shapes.
    """
    return -(-count // multiple) * multiple


def _describe(
    z_NV: Tensor, targets_N: Tensor, starts_V: Tensor | None, e_NV: Tensor, *, work: int
) -> Distributions:
    """Return the measures of the distributions; both matrices are overwritten."""
    kernels = kernels_for(z_NV, starts_V, products=z_NV.dtype, work=work)
    if kernels is not None:
        return _describe_compiled(kernels, z_NV, targets_N, starts_V)
    z_NV -= z_NV.max(dim=-1, keepdim=True).values
    target_z_N = z_NV.gather(1, targets_N[:, None])[:, 0]
    rank_N = 1 + (z_NV > target_z_N[:, None]).sum(dim=-1)
    rank_N.masked_fill_(target_z_N.isnan(), 0)
    torch.exp(z_NV, out=e_NV)
    sum_N = e_NV.sum(dim=-1)
    log_sum_N = sum_N.log()
    boundary_N = None if starts_V is None else log_sum_N - (e_NV @ starts_V).log()
    entropy_N = log_sum_N - e_NV.mul_(z_NV).sum(dim=-1) / sum_N
    return Distributions(log_sum_N - target_z_N, entropy_N, rank_N, boundary_N)


def _describe_compiled(
    kernels: ctypes.CDLL, z_NV: Tensor, targets_N: Tensor, starts_V: Tensor | None
) -> Distributions:
    targets_N = targets_N.long().contiguous()
    if len(targets_N) and not 0 <= int(targets_N.min()) <= int(targets_N.max()) < z_NV.shape[1]:
        raise IndexError(f"targets: expected ids from 0 to {z_NV.shape[1] - 1}")
    surprisal_N, entropy_N = z_NV.new_empty(2, len(z_NV)).unbind(0)
    rank_N = torch.empty_like(targets_N)
    boundary_N = None if starts_V is None else torch.empty_like(entropy_N)
    declare(kernels, {"distributions": _ARGUMENTS})
    kernels.distributions(
        *z_NV.shape, torch.get_num_threads(), pointer(z_NV), pointer(targets_N),
        pointer(starts_V), pointer(surprisal_N), pointer(entropy_N), pointer(rank_N),
        pointer(boundary_N),
    )  # fmt: skip
    return Distributions(surprisal_N, entropy_N, rank_N, boundary_N)
