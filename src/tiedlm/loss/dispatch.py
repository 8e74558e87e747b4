"""Choose how a loss is computed: in plain autograd, fused, or by the quadratic approximation.

The backend for the pointwise work is chosen later, at the beginning of the pass over the tokens
(``backends/__init__.py``), because a compiled graph does not know it before it runs.
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
        RuntimeError: if ``impl`` is "fused" where a hand-written gradient cannot work.
    """
    if impl == "reference":
        return reference_losses(problem)
    if impl == "fused":
        return _fused_losses(problem)
    if impl == "quadratic":
        return quadratic_losses(problem, _automatic_losses(problem.with_alpha(0.0)))
    return _automatic_losses(problem)


def _automatic_losses(problem: Problem) -> Losses:
    """Return the fused losses; the reference losses where a hand-written gradient cannot work."""
    if is_transformed() or is_jit_tracing():
        return reference_losses(problem)
    return _fused_losses(problem)


def _fused_losses(problem: Problem) -> Losses:
    """Return the same losses as :func:`reference_losses`, faster and in less memory."""
    if is_transformed():
        raise RuntimeError(
            "augmented_cross_entropy: impl='fused' does not work inside torch.func transforms and "
            "forward-mode differentiation; use impl='auto' or impl='reference'"
        )
    wanted, scale = wanted_gradients(problem), None
    has_tokens = len(problem.targets_N) > 0
    if problem.gemm_dtype == torch.float16 and not problem.per_token and has_tokens:
        # In float16, h / N loses digits, and a sum over N tokens may overflow. So each token is
        # multiplied by about the square root of its weight, and the sum by the remaining factor.
        weight = problem.weight
        scale = weight.amax().clamp(min=torch.finfo(weight.dtype).tiny).sqrt()
        problem = problem.with_weight(weight / scale)
    is_graph = torch.compiler.is_compiling() or is_symbolic(problem.hidden_ND)
    losses = (operator_losses if is_graph else node_losses)(problem, wanted)
    if scale is None:
        return losses
    loss, ce, aug = losses
    return loss * scale, ce * scale, aug * scale
