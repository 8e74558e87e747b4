"""The fused loss as one operator that ``torch.compile`` puts into its graph without looking inside.

Eager code goes through :mod:`tiedlm.fused`, which hands its gradients over without copying them; an
operator may not. Shape letters: N tokens, V vocabulary, D hidden width, E embedding width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tiedlm.loss_arguments import check_range
from tiedlm.matmul import without_autocast
from tiedlm.streaming import Problem, Wanted, stream, weighted
from tiedlm.tracing import is_recording

_SCHEMA = (
    "(Tensor hidden, Tensor classifier, Tensor? bias, Tensor? embedding, Tensor targets, "
    "Tensor weight, float alpha, float temperature, ScalarType gemm_dtype, bool per_token, "
    "bool[] wanted) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
)


def _run(
    hidden_ND: Tensor,
    classifier_VD: Tensor,
    bias_V: Tensor | None,
    embedding_VE: Tensor | None,
    targets_N: Tensor,
    weight: Tensor,
    alpha: float,
    temperature: float,
    gemm_dtype: torch.dtype,
    per_token: bool,
    wanted: list[bool],
) -> tuple[Tensor, ...]:
    """Return J_tot and J_aug, weighted, and the gradients of the sum of J_tot, empty if unwanted.

    Where the losses are returned of each token, no gradient is made.

    Raises:
        ValueError: for a target that is no word: while a graph is made none can be looked at.
    """
    if not is_recording(targets_N):
        check_range(targets_N, len(classifier_VD))
    problem = Problem(
        hidden_ND, classifier_VD, bias_V, embedding_VE, targets_N, weight, alpha, temperature,
        gemm_dtype,
    )  # fmt: skip
    with without_autocast(hidden_ND):
        streamed = stream(problem, Wanted() if per_token else Wanted(*wanted))
    ce, aug = streamed.ce, streamed.aug
    if per_token:
        assert streamed.kl_N is not None
        ce, aug = weighted(streamed.nll_N, weight), weighted(streamed.kl_N, weight)
    grads = (weight.new_empty(0) if grad is None else grad for grad in streamed[-4:])
    return ce + alpha * aug, aug.clone(), *grads


_operator = torch.library.custom_op(
    "tiedlm::augmented_cross_entropy", _run, mutates_args=(), schema=_SCHEMA
)


@_operator.register_fake
def _(
    hidden_ND: Tensor,
    classifier_VD: Tensor,
    bias_V: Tensor | None,
    embedding_VE: Tensor | None,
    targets_N: Tensor,
    weight: Tensor,
    alpha: float,
    temperature: float,
    gemm_dtype: torch.dtype,
    per_token: bool,
    wanted: list[bool],
) -> tuple[Tensor, ...]:
    """Say which shapes come out, for the compiler."""
    if per_token:
        losses = (weight.new_empty(targets_N.shape), weight.new_empty(targets_N.shape))
        return *losses, *(weight.new_empty(0) for _ in range(4))
    want_hidden, want_classifier, want_bias, want_soft = wanted
    tied = embedding_VE is None
    grads = (
        (hidden_ND, want_hidden),
        (classifier_VD, want_classifier or (tied and want_soft)),
        (bias_V, want_bias),
        (embedding_VE, want_soft and not tied),
    )
    losses = (weight.new_empty(()), weight.new_empty(()))
    return *losses, *(
        weight.new_empty(0 if like is None or not is_wanted else like.shape)
        for like, is_wanted in grads
    )


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *arguments, per_token, wanted = inputs
    ctx.options, ctx.per_token, ctx.wanted = arguments[6:], per_token, wanted
    ctx.save_for_backward(*arguments[:6], *output[2:])
    ctx.mark_non_differentiable(output[1])


def _backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Any, ...]:
    """Scale the gradients that forward made, or make them if each token has a gradient."""
    *tensors, weight, grad_h, grad_W, grad_b, grad_L = ctx.saved_tensors
    if ctx.per_token:
        *_, grad_h, grad_W, grad_b, grad_L = _operator(
            *tensors, weight * grad, *ctx.options, False, ctx.wanted
        )
    else:
        grad_h, grad_W, grad_b, grad_L = (g * grad for g in (grad_h, grad_W, grad_b, grad_L))
    typed = (
        None if like is None or g.numel() != like.numel() else g.to(like.dtype)
        for g, like in zip((grad_h, grad_W, grad_b, grad_L), tensors[:4], strict=True)
    )
    return *typed, *(None,) * 7


_operator.register_autograd(_backward, setup_context=_setup_context)


def compiled_losses(
    problem: Problem, per_token: bool, wanted: Wanted
) -> tuple[Tensor, Tensor, Tensor]:
    """Return J_tot, J and J_aug, weighted, of each token or summed."""
    total, aug, *_ = _operator(
        problem.hidden_ND, problem.classifier_VD, problem.bias_V, problem.embedding_VE,
        problem.targets_N, problem.weight, problem.alpha, problem.temperature, problem.gemm_dtype,
        per_token, list(wanted),
    )  # fmt: skip
    return total, total.detach() - problem.alpha * aug, aug
