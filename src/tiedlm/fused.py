"""The augmented loss with its gradient written by hand: made in forward, in the logits' place.

Shape letters: N tokens, V vocabulary, D hidden width, E embedding width, U distinct targets.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def _losses_and_gradients(
    hidden_ND: Tensor,
    classifier_VD: Tensor,
    targets_N: Tensor,
    weight_N: Tensor,
    bias_V: Tensor | None,
    embedding_VE: Tensor,
    alpha: float,
    temperature: float,
    target_grad: bool,
    wanted: tuple[bool, bool, bool, bool],
) -> tuple[Tensor, Tensor, tuple[Tensor | None, ...]]:
    want_hidden, want_classifier, want_bias, want_embedding = wanted
    gamma = alpha / temperature
    weight_N1 = weight_N.unsqueeze(1)
    index_N1 = targets_N.unsqueeze(1)
    scores_NV = hidden_ND @ classifier_VD.t()
    logits_NV = scores_NV if bias_V is None else scores_NV + bias_V
    log_p_NV = torch.log_softmax(logits_NV, dim=-1)
    nll_N = -log_p_NV.gather(1, index_N1).squeeze(1)
    grads: list[Tensor | None] = [None] * 4
    if alpha:
        words_U, word_of_N = torch.unique(targets_N, return_inverse=True)
        vectors_UE = embedding_VE[words_U]
        log_soft_UV = torch.log_softmax((vectors_UE @ embedding_VE.t()).div_(temperature), dim=-1)
        soft_UV = log_soft_UV.exp()
        entropy_U = (soft_UV * log_soft_UV).sum(-1)
        log_q_NV = torch.log_softmax(scores_NV.div_(temperature), dim=-1)
        soft_NV = soft_UV[word_of_N]
        cross_N = (soft_NV * log_q_NV).sum(-1)
        kl_N = entropy_U[word_of_N] - cross_N
        if want_embedding:
            # (log y~ - log y^ - KL) y~, summed over the tokens of a word
            total_UV = torch.zeros_like(soft_UV).index_add_(0, word_of_N, log_q_NV * weight_N1)
            weight_U = weight_N.new_zeros(len(words_U)).index_add_(0, word_of_N, weight_N)
            kl_U = weight_N.new_zeros(len(words_U)).index_add_(0, word_of_N, weight_N * kl_N)
            grad_UV = log_soft_UV.mul_(weight_U.unsqueeze(1)).sub_(total_UV)
            grad_UV.sub_(kl_U.unsqueeze(1)).mul_(soft_UV).mul_(gamma)
            grad_embedding_VE = grad_UV.t() @ vectors_UE
            grads[3] = grad_embedding_VE.index_add_(0, words_U, grad_UV @ embedding_VE)
    else:
        kl_N = torch.zeros_like(nll_N)
    if any(wanted[:3]):
        grad_NV = log_p_NV.exp_()
        grad_NV.scatter_add_(1, index_N1, grad_NV.new_full(index_N1.shape, -1.0))
        if want_bias:
            grads[2] = weight_N @ grad_NV
        if alpha:
            grad_NV.add_(log_q_NV.exp_().sub_(soft_NV), alpha=gamma)
        if want_hidden:
            grads[0] = (grad_NV @ classifier_VD).mul_(weight_N1)
        if want_classifier:
            grads[1] = grad_NV.t() @ (hidden_ND * weight_N1)
    return nll_N, kl_N, tuple(grads)


class _Fused(torch.autograd.Function):
    """Summed over the tokens; gradients are made in forward, scaled in backward."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: Tensor,
        classifier_VD: Tensor,
        bias_V: Tensor | None,
        embedding_VE: Tensor,
        targets_N: Tensor,
        weight_N: Tensor,
        alpha: float,
        temperature: float,
        target_grad: bool,
        per_token: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        needs = tuple(ctx.needs_input_grad[:4])
        wanted = (*needs[:3], needs[3] and target_grad and alpha != 0)
        arguments = (
            hidden_ND, classifier_VD, targets_N, weight_N, bias_V, embedding_VE, alpha,
            temperature, target_grad,
        )  # fmt: skip
        nll_N, kl_N, ctx.grads = _losses_and_gradients(
            *arguments, (False,) * 4 if per_token else wanted
        )
        ctx.wanted, ctx.options, ctx.per_token = wanted, arguments[6:], per_token
        ctx.save_for_backward(*arguments[:6])
        ce, aug = nll_N * weight_N, kl_N * weight_N
        if not per_token:
            ce, aug = ce.sum(), aug.sum()
        ctx.mark_non_differentiable(ce, aug)
        return ce + alpha * aug, ce, aug

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(
        ctx: Any, grad_loss: Tensor, _ce: Tensor, _aug: Tensor
    ) -> tuple[Tensor | None, ...]:
        grads, ctx.grads = ctx.grads, None
        if ctx.per_token or grads is None:
            hidden_ND, classifier_VD, targets_N, weight_N, bias_V, embedding_VE = ctx.saved_tensors
            _, _, grads = _losses_and_gradients(
                hidden_ND,
                classifier_VD,
                targets_N,
                weight_N * grad_loss,
                bias_V,
                embedding_VE,
                *ctx.options,
                ctx.wanted,
            )
        else:
            grads = tuple(None if grad is None else grad.mul_(grad_loss) for grad in grads)
        return *grads, None, None, None, None, None, None


def fused_losses(
    hidden_ND: Tensor,
    classifier_VD: Tensor,
    targets_N: Tensor,
    weight_N: Tensor,
    bias_V: Tensor | None,
    embedding_VE: Tensor,
    alpha: float,
    temperature: float,
    target_grad: bool,
    per_token: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return what :func:`tiedlm.losses.reference_losses` returns, faster."""
    loss, ce, aug = _Fused.apply(
        hidden_ND, classifier_VD, bias_V, embedding_VE, targets_N, weight_N, alpha, temperature,
        target_grad, per_token,
    )  # fmt: skip
    return loss, ce, aug
