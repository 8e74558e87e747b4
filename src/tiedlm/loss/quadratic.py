r"""The quadratic loss: the limit of the augmented loss at high temperature.

It is an approximation, used only with ``impl="quadratic"``. Its augmented term needs no second pass
over tokens x vocabulary.

To second order in 1 / tau the divergence between two softmaxes is half the variance, over the
vocabulary, of the difference of their arguments (eq. 14 of ``docs/loss.md``):

.. math::
    J_{aug} \approx \tfrac{1}{2 \tau^2} \mathrm{Var}_v[(W h)_v - (L^\top u)_v]
            = \tfrac{1}{2 \tau^2 V} \| W_c h - L_c^\top u \|^2

with W_c, L_c centred over the vocabulary. The norm needs only the (D, D), (D, E) and (E, E)
products of the centred matrices, which do not grow with the number of tokens. With tied weights it
is one Mahalanobis distance, which pulls h to the embedding of its target.

Shape letters: N tokens, V vocabulary, D hidden width, E embedding width, K = D with tied weights,
else D + E.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tiedlm.arithmetic import without_autocast
from tiedlm.loss.problem import Losses, Problem
from tiedlm.tracing import is_transformed


def quadratic_losses(problem: Problem, plain: Losses) -> Losses:
    """Return J_tot, J and the approximate J_aug, weighted: ``(N,)`` if per token, else the sums.

    Args:
        problem: what to compute.
        plain: the losses of the same problem with alpha = 0.

    Source: Inan et al. (2017), eq. 4.3; the Mahalanobis form is ours.
    """
    loss, ce, aug = plain
    if problem.alpha == 0:
        return loss, ce, aug
    hidden_ND, classifier_VD, vectors_VE = (
        problem.hidden_ND, problem.classifier_VD, problem.vectors_VE,
    )  # fmt: skip
    target_grad, dtype, weight = problem.target_grad, problem.gemm_dtype, problem.weight
    transformed = is_transformed()
    tied = problem.embedding_VE is None and (target_grad or not transformed)
    if not target_grad:
        vectors_VE = vectors_VE.detach()
    vectors_NE = vectors_VE[problem.targets_N]
    if tied:  # W h - L^T u = W (h - u)
        matrix_VK, point_NK = classifier_VD, hidden_ND - vectors_NE
        through_NK = point_NK if target_grad else hidden_ND
    else:  # W h - L^T u = [W, L^T] [h, -u]
        matrix_VK = torch.cat([classifier_VD, vectors_VE], dim=1)
        point_NK = through_NK = torch.cat([hidden_ND, -vectors_NE], dim=1)
    with without_autocast(hidden_ND):
        if transformed:  # eq. 14 literally: only the first gradient of the cheap form is right
            differences_NV = point_NK.to(dtype) @ matrix_VK.to(dtype).t()
            half_N = differences_NV.to(weight.dtype).var(-1, correction=0) / 2
        else:
            half_N = _half_variance(matrix_VK, point_NK, through_NK.detach(), dtype)
        aug_N = half_N.to(weight.dtype) * (weight / problem.temperature**2)
    aug = aug_N if problem.per_token else aug_N.sum()
    return loss + problem.alpha * aug, ce, aug.detach()


def _half_variance(
    matrix_VK: Tensor, point_NK: Tensor, through_NK: Tensor, dtype: torch.dtype
) -> Tensor:
    """Return half the variance over the vocabulary of ``matrix @ point``, for each token.

    The covariance is computed as ``X^T X_c``, where the centred factor ``X_c`` is detached. So its
    gradient costs one product only, and is half the true gradient of the variance. That is the
    gradient of half the variance, which is wanted here. The value is halved to match.

    Args:
        matrix_VK: X.
        point_NK: the vectors to multiply by X.
        through_NK: the part of ``point`` through which the gradient reaches X: all of it, or h.
        dtype: type of the operands of matrix products.
    """
    V = len(matrix_VK)
    scale = 2.0 ** -round(math.log2(V) / 2)  # exact; a sum over V may be too large for float16
    centred_VK = (matrix_VK.detach() - matrix_VK.detach().mean(0)) * scale
    covariance_KK = (matrix_VK * scale).to(dtype).t() @ centred_VK.to(dtype)
    covariance_KK = covariance_KK.to(torch.promote_types(dtype, torch.float32)) / (V * scale**2)
    point_NK, through_NK = point_NK.to(covariance_KK.dtype), through_NK.to(covariance_KK.dtype)
    half_N = ((point_NK @ covariance_KK.detach()) * point_NK).sum(-1) / 2
    by_matrix_N = ((through_NK @ covariance_KK) * point_NK.detach()).sum(-1)
    return half_N + (by_matrix_N - by_matrix_N.detach())
