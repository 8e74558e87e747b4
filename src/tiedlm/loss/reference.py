"""The augmented loss in plain autograd, equation by equation: the place to read what it computes.

The fused implementations are tested against this file. ``docs/loss.md`` numbers the equations.

Shape letters: N tokens, V vocabulary, D hidden width, E embedding width.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from tiedlm.loss.problem import Losses, Problem, weighted


def reference_losses(problem: Problem) -> Losses:
    """Return J_tot, J and J_aug (eqs. 1 to 6), weighted: ``(N,)`` if per token, else the sums."""
    hidden_ND, targets_N, weight = problem.hidden_ND, problem.targets_N, problem.weight
    dtype, temperature = problem.gemm_dtype, problem.temperature
    classifier_VD = problem.classifier_VD.to(dtype)
    scores_NV = (hidden_ND.to(dtype) @ classifier_VD.t()).to(weight.dtype)
    logits_NV = scores_NV if problem.bias_V is None else scores_NV + problem.bias_V
    ce_N = weighted(functional.cross_entropy(logits_NV, targets_N, reduction="none"), weight)
    aug_N = torch.zeros_like(ce_N)
    if problem.alpha != 0:
        vectors_VE = problem.vectors_VE if problem.target_grad else problem.vectors_VE.detach()
        vectors_VE = vectors_VE.to(dtype)
        soft_scores_NV = (vectors_VE[targets_N] @ vectors_VE.t()).to(weight.dtype)
        log_soft_NV = log_softened(soft_scores_NV, temperature)
        kl_N = divergence(log_soft_NV, log_softened(scores_NV, temperature))
        aug_N = weighted(kl_N, weight)
    ce, aug = (ce_N, aug_N) if problem.per_token else (ce_N.sum(), aug_N.sum())
    return ce + problem.alpha * aug, ce.detach(), aug.detach()


def log_softened(scores_NV: Tensor, temperature: float) -> Tensor:
    """Return ``log softmax(scores / tau)``: eq. 3 for the scores W h, eq. 4 for L^T u."""
    return torch.log_softmax(scores_NV / temperature, dim=-1)


def divergence(log_soft_NV: Tensor, log_prediction_NV: Tensor) -> Tensor:
    """Return ``KL(y~ || y^)`` of each token, in nats (eq. 5), from the logarithms of both."""
    return (log_soft_NV.exp() * (log_soft_NV - log_prediction_NV)).sum(dim=-1)
