"""The augmented loss as its equations say it, in plain autograd: what every other way must equal.

Shape letters: N tokens, V vocabulary, D hidden width, E embedding width. The equation numbers are
those of ``docs/loss.md``.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from tiedlm.matmul import gemm_dtype
from tiedlm.streaming import weighted


def reference_losses(
    hidden_ND: Tensor,
    classifier_VD: Tensor,
    targets_N: Tensor,
    weight: Tensor,
    bias_V: Tensor | None,
    embedding_VE: Tensor,
    alpha: float,
    temperature: float,
    target_grad: bool,
    per_token: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return J_tot, J and J_aug, weighted, of each token or summed: eqs. 1 to 6 in autograd."""
    dtype = gemm_dtype(hidden_ND)
    classifier_VD = classifier_VD.to(dtype)
    scores_NV = (hidden_ND.to(dtype) @ classifier_VD.t()).to(weight.dtype)
    logits_NV = scores_NV if bias_V is None else scores_NV + bias_V
    ce_N = weighted(functional.cross_entropy(logits_NV, targets_N, reduction="none"), weight)
    aug_N = torch.zeros_like(ce_N)
    if alpha != 0:
        embedding_VE = (embedding_VE if target_grad else embedding_VE.detach()).to(dtype)
        soft_scores_NV = (embedding_VE[targets_N] @ embedding_VE.t()).to(weight.dtype)
        log_soft_NV = torch.log_softmax(soft_scores_NV / temperature, dim=-1)
        log_prediction_NV = torch.log_softmax(scores_NV / temperature, dim=-1)
        kl_N = (log_soft_NV.exp() * (log_soft_NV - log_prediction_NV)).sum(dim=-1)
        aug_N = weighted(kl_N, weight)
    ce, aug = (ce_N, aug_N) if per_token else (ce_N.sum(), aug_N.sum())
    return ce + alpha * aug, ce.detach(), aug.detach()
