"""Choose the implementation of the loss that serves a problem.

Which backend does the pointwise work is chosen later, where the pass over the tokens begins
(``backends/__init__.py``): an operator in a compiled graph only knows it when the graph runs.
"""

from __future__ import annotations

from typing import Literal

import torch

from tiedlm.loss.autograd import node_losses
from tiedlm.loss.operator import operator_losses
from tiedlm.loss.problem import Losses, Problem, wanted_gradients
from tiedlm.loss.quadratic import quadratic_losses
from tiedlm.loss.reference import reference_losses
from tiedlm.tracing import is_jit_tracing, is_symbolic, is_transformed

Implementation = Literal["auto", "fused", "reference", "quadratic"]


def compute_losses(problem: Problem, impl: Implementation) -> Losses:
    """Return J_tot, J and J_aug, weighted: ``(N,)`` if per token, else the sums.

    Raises:
        RuntimeError: if ``impl`` is "fused" where PyTorch can only follow its own operations.
    """
    if impl == "reference":
        return reference_losses(problem)
    if impl == "fused":
        return _fused_losses(problem)
    if impl == "quadratic":
        return quadratic_losses(problem, _automatic_losses(problem.with_alpha(0.0)))
    return _automatic_losses(problem)


def _automatic_losses(problem: Problem) -> Losses:
    """Return the reference losses where PyTorch only follows its own operations, else the fused."""
    if is_transformed() or is_jit_tracing():
        return reference_losses(problem)
    return _fused_losses(problem)


def _fused_losses(problem: Problem) -> Losses:
    """Return what :func:`reference_losses` returns, faster and in less memory."""
    if is_transformed():
        raise RuntimeError(
            "augmented_cross_entropy: impl='fused' does not work inside torch.func transforms and "
            "forward-mode differentiation; use impl='auto' or impl='reference'"
        )
    wanted, scale = wanted_gradients(problem), None
    if problem.gemm_dtype == torch.float16 and not problem.per_token:
        # In float16 h / N loses its digits, and a sum over N tokens may overflow. So each token is
        # multiplied by about the square root of its weight, and the sum by the rest.
        weight = problem.weight
        scale = weight.amax().clamp(min=torch.finfo(weight.dtype).tiny).sqrt()
        problem = problem.with_weight(weight / scale)
    is_graph = torch.compiler.is_compiling() or is_symbolic(problem.hidden_ND)
    losses = (operator_losses if is_graph else node_losses)(problem, wanted)
    if scale is None:
        return losses
    loss, ce, aug = losses
    return loss * scale, ce * scale, aug * scale
