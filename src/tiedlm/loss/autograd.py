"""The fused loss as one autograd node, whose forward pass computes the gradients, too.

Shape letters: N tokens, V vocabulary, D hidden width, E embedding width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tiedlm.arithmetic import without_autocast
from tiedlm.loss.problem import Losses, Problem, Wanted
from tiedlm.loss.stream import stream
from tiedlm.tracing import is_asynchronous, require_single_gradient


def node_losses(problem: Problem, wanted: Wanted) -> Losses:
    """Return J_tot, J and J_aug, weighted: ``(N,)`` if per token, else the sums."""
    with without_autocast(problem.hidden_ND):
        losses: Losses = _Fused.apply(  # type: ignore[no-untyped-call]
            problem.options, wanted, *problem.tensors
        )
    return losses


class _Fused(torch.autograd.Function):
    """The autograd node that returns J_tot, J and J_aug.

    If the losses are sums, forward already computes the gradients, because it has the scores, and
    backward only scales them. If each token has its own loss, the gradients of these losses arrive
    in backward, so backward takes a second pass over the tokens. A second backward through a
    retained graph also takes a pass, because the first one handed its gradients over to autograd.
    """

    @staticmethod
    def forward(ctx: Any, options: Any, wanted: Wanted, *tensors: Any) -> Losses:
        """Compute the losses.

        A problem is passed as its options and its tensors, because autograd looks for tensors among
        the arguments only. The ``Problem`` is built here, because a graph of ``torch.jit.trace``
        calls the node with other tensors.
        """
        problem = Problem(*tensors, *options)
        streamed = stream(problem, Wanted() if problem.per_token else wanted)
        ctx.save_for_backward(*tensors)
        ctx.options, ctx.wanted = options, wanted
        ctx.gradients = None if problem.per_token else streamed.gradients
        ce, aug = streamed.losses(problem)
        ctx.mark_non_differentiable(ce, aug)
        return ce + problem.alpha * aug, ce, aug

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _ce: Tensor, _aug: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of hidden states, classifier, bias and embedding."""
        require_single_gradient(
            grad, "augmented_cross_entropy: the fused loss", "use impl='reference'"
        )
        tensors = ctx.saved_tensors
        gradients, ctx.gradients = ctx.gradients, None
        if gradients is None:
            problem = Problem(*tensors, *ctx.options)
            gradients = stream(problem.with_weight(problem.weight * grad), ctx.wanted).gradients
        elif is_asynchronous(grad) or grad != 1:
            for g in gradients:
                if g is not None:
                    g.mul_(grad)
        typed = (
            None if g is None else g.to(tensor.dtype)
            for g, tensor in zip(gradients, tensors[:4], strict=True)
        )
        return None, None, *typed, None, None
