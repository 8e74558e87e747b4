"""The augmented loss as one autograd node, with its gradient made in forward.

Shape letters: N tokens, V vocabulary, D hidden width, E embedding width.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from tiedlm.fused_op import compiled_losses
from tiedlm.matmul import gemm_dtype, without_autocast
from tiedlm.reference import reference_losses
from tiedlm.streaming import Problem, Wanted, stream, weighted
from tiedlm.tracing import is_batched, is_jit_tracing, is_symbolic, is_transformed


class _Fused(torch.autograd.Function):
    """(loss, ce, aug): of each token, or summed.

    Sums: gradients are made in forward, where the scores are, and scaled in backward. Single
    tokens: each has a gradient of its own to come, so backward streams over the tokens again, as
    does a second backward through a retained graph.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: Tensor,
        classifier_VD: Tensor,
        bias_V: Tensor | None,
        embedding_VE: Tensor | None,
        targets_N: Tensor,
        weight: Tensor,
        alpha: float,
        temperature: float,
        dtype: torch.dtype,
        per_token: bool,
        wanted: Wanted,
    ) -> tuple[Tensor, Tensor, Tensor]:
        tensors = (hidden_ND, classifier_VD, bias_V, embedding_VE, targets_N, weight)
        problem = Problem(*tensors, alpha, temperature, dtype)
        streamed = stream(problem, Wanted() if per_token else wanted)
        ctx.save_for_backward(*tensors)
        ctx.options = (alpha, temperature, dtype)
        ctx.per_token, ctx.wanted = per_token, wanted
        ctx.grads = None if per_token else streamed[-4:]
        if per_token:
            assert streamed.kl_N is not None
            ce, aug = weighted(streamed.nll_N, weight), weighted(streamed.kl_N, weight)
        else:
            ce, aug = streamed.ce, streamed.aug
        ctx.mark_non_differentiable(ce, aug)
        return ce + alpha * aug, ce, aug

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _ce: Tensor, _aug: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "augmented_cross_entropy: the fused loss has no second derivative; "
                "use impl='reference' where backward has create_graph=True"
            )
        if is_batched(grad):
            raise RuntimeError(
                "augmented_cross_entropy: the fused loss has no batch of gradients; "
                "use impl='reference' where they come from vmap or is_grads_batched=True"
            )
        tensors = ctx.saved_tensors
        grads, ctx.grads = ctx.grads, None
        if grads is None:
            problem = Problem(*tensors, *ctx.options)
            grads = stream(replace(problem, weight=problem.weight * grad), ctx.wanted)[-4:]
        elif grad.is_cuda or grad != 1:
            for g in grads:
                if g is not None:
                    g.mul_(grad)
        typed = (
            None if g is None else g.to(tensor.dtype)
            for g, tensor in zip(grads, tensors[:4], strict=True)
        )
        return *typed, *(None,) * 7


def automatic_losses(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the fused losses, or the reference where PyTorch can only follow that one."""
    only_plain = is_transformed() or is_jit_tracing()
    return (reference_losses if only_plain else fused_losses)(*arguments)


def fused_losses(
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
    """Return what :func:`tiedlm.reference.reference_losses` returns, faster and in less memory.

    Raises:
        RuntimeError: inside a transform of ``torch.func`` or forward-mode differentiation.
    """
    if is_transformed():
        raise RuntimeError(
            "augmented_cross_entropy: impl='fused' does not work inside torch.func transforms and "
            "forward-mode differentiation; use impl='auto' or impl='reference'"
        )
    tied = embedding_VE is classifier_VD
    wanted = Wanted()
    if torch.is_grad_enabled():
        wanted = Wanted(
            hidden_ND.requires_grad,
            classifier_VD.requires_grad,
            bias_V is not None and bias_V.requires_grad,
            target_grad and alpha != 0 and embedding_VE.requires_grad,
        )
    dtype, scale = gemm_dtype(hidden_ND), None
    if dtype == torch.float16 and not per_token:
        # h / N loses its digits in float16, and a sum over N tokens may be too large for it: half
        # of the weight goes to the factor, half to the sum.
        scale = weight.amax().clamp(min=torch.finfo(weight.dtype).tiny).sqrt()
        weight = weight / scale
    problem = Problem(
        hidden_ND, classifier_VD, bias_V, None if tied else embedding_VE, targets_N, weight,
        alpha, temperature, dtype,
    )  # fmt: skip
    if torch.compiler.is_compiling() or is_symbolic(hidden_ND):
        losses = compiled_losses(problem, per_token, wanted)
    else:
        with without_autocast(hidden_ND):
            losses = _Fused.apply(  # type: ignore[no-untyped-call]
                *(getattr(problem, field.name) for field in fields(problem)), per_token, wanted
            )
    loss, ce, aug = losses if scale is None else (part * scale for part in losses)
    return loss, ce, aug
