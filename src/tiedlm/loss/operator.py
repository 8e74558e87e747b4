"""The fused loss as one operator, which ``torch.compile`` puts into its graph as a whole.

Outside compiled graphs the node of ``autograd.py`` is used instead. It hands its gradients to
autograd without a copy, which an operator may not do.

Shape letters: N tokens, V vocabulary, D hidden width, E embedding width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tiedlm.arithmetic import without_autocast
from tiedlm.loss.arguments import check_range
from tiedlm.loss.problem import Losses, Problem, Wanted
from tiedlm.loss.stream import stream
from tiedlm.tracing import is_recording

# An operator takes tensors and numbers only: the fields of a Problem in order, then of a Wanted.
# Exported programs name it, so the schema cannot change.
_SCHEMA = (
    "(Tensor hidden, Tensor classifier, Tensor? bias, Tensor? embedding, Tensor targets, "
    "Tensor weight, float alpha, float temperature, ScalarType gemm_dtype, bool per_token, "
    "bool[] wanted) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
)


def operator_losses(problem: Problem, wanted: Wanted) -> Losses:
    """Return J_tot, J and J_aug, weighted: ``(N,)`` if per token, else the sums."""
    total, aug, *_ = _operator(*problem.tensors, *problem.options, list(wanted))
    return total, total.detach() - problem.alpha * aug, aug


def _run(*arguments: Any) -> tuple[Tensor, ...]:
    """Return J_tot and J_aug, weighted, and the four gradients of the sum of J_tot.

    A gradient that is not wanted is empty. With a loss for each token all four are empty.

    Raises:
        ValueError: for a target that is not the id of a word. It could not be checked earlier, when
            the graph was recorded.
    """
    *fields, wanted = arguments
    problem = Problem(*fields)
    if not is_recording(problem.targets_N):
        check_range(problem.targets_N, len(problem.classifier_VD))
    with without_autocast(problem.hidden_ND):
        streamed = stream(problem, Wanted() if problem.per_token else Wanted(*wanted))
    ce, aug = streamed.losses(problem)
    empty = problem.weight.new_empty
    gradients = (empty(0) if grad is None else grad for grad in streamed.gradients)
    return ce + problem.alpha * aug, aug.clone(), *gradients


_operator = torch.library.custom_op(
    "tiedlm::augmented_cross_entropy", _run, mutates_args=(), schema=_SCHEMA
)


@_operator.register_fake
def _(*arguments: Any) -> tuple[Tensor, ...]:
    """Return results of the right shapes, without values."""
    *fields, wanted = arguments
    problem = Problem(*fields)
    empty = problem.weight.new_empty
    if problem.per_token:
        shape = problem.targets_N.shape
        return empty(shape), empty(shape), *(empty(0) for _ in range(4))
    hidden, classifier, bias, soft = wanted
    tied = problem.embedding_VE is None
    is_wanted = (hidden, classifier or (tied and soft), bias, soft and not tied)
    gradients = (
        empty(like.shape if wants and like is not None else 0)
        for like, wants in zip(problem.tensors[:4], is_wanted, strict=True)
    )
    return empty(()), empty(()), *gradients


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *fields, wanted = inputs
    problem = Problem(*fields)
    ctx.options, ctx.per_token, ctx.wanted = problem.options, problem.per_token, wanted
    ctx.save_for_backward(*problem.tensors, *output[2:])
    ctx.mark_non_differentiable(output[1])


def _backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Any, ...]:
    """Scale the gradients computed in forward; compute them here if each token has its own loss."""
    *tensors, weight, grad_h, grad_W, grad_b, grad_L = ctx.saved_tensors
    if ctx.per_token:
        *options, _ = ctx.options
        *_, grad_h, grad_W, grad_b, grad_L = _operator(
            *tensors, weight * grad, *options, False, ctx.wanted
        )
    else:
        grad_h, grad_W, grad_b, grad_L = (g * grad for g in (grad_h, grad_W, grad_b, grad_L))
    typed = (
        None if like is None or g.numel() != like.numel() else g.to(like.dtype)
        for g, like in zip((grad_h, grad_W, grad_b, grad_L), tensors[:4], strict=True)
    )
    return *typed, *(None,) * 7


_operator.register_autograd(_backward, setup_context=_setup_context)
