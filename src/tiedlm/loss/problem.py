"""The data of one call of the loss: its inputs, which gradients are wanted, and its results.

Shape letters: N tokens, V vocabulary, D hidden width, E embedding width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

Losses = tuple[Tensor, Tensor, Tensor]  # J_tot, J and J_aug, weighted; J and J_aug are detached


@dataclass(frozen=True)
class Problem:
    """The inputs of one call, checked and flattened; every target is a word.

    The fields are in the order of the operator's arguments (``operator.py``).

    Args:
        hidden_ND: h, the hidden states.
        classifier_VD: W.
        bias_V: b, or None.
        embedding_VE: L transposed, or None where it is the classifier itself (RE).
        targets_N: ids of the words to predict.
        weight: of each token, ``(N,)``, or one for all tokens, ``()``. Its type, float32 or
            float64, is the type of everything except the operands of matrix products.
        alpha: weight of the augmented loss.
        temperature: tau.
        gemm_dtype: type of the operands of matrix products.
        per_token: return the losses of each token instead of their sums.
        target_grad: let the gradient flow through the soft target.
    """

    hidden_ND: Tensor
    classifier_VD: Tensor
    bias_V: Tensor | None
    embedding_VE: Tensor | None
    targets_N: Tensor
    weight: Tensor
    alpha: float
    temperature: float
    gemm_dtype: torch.dtype
    per_token: bool = False
    target_grad: bool = True

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None, Tensor, Tensor]:
        """The fields that are tensors, in order."""
        return (
            self.hidden_ND, self.classifier_VD, self.bias_V, self.embedding_VE, self.targets_N,
            self.weight,
        )  # fmt: skip

    @property
    def options(self) -> tuple[float, float, torch.dtype, bool]:
        """The other fields, in order, except ``target_grad``, which :class:`Wanted` has."""
        return self.alpha, self.temperature, self.gemm_dtype, self.per_token

    @property
    def vectors_VE(self) -> Tensor:
        """L transposed, also where it is the classifier itself."""
        return self.classifier_VD if self.embedding_VE is None else self.embedding_VE

    def with_alpha(self, alpha: float) -> Problem:
        """Return the problem with another weight of the augmented loss."""
        # The call is written out here and below, because torch.compile does not follow
        # dataclasses.replace everywhere.
        return Problem(*self.tensors, alpha, *self.options[1:], self.target_grad)

    def with_weight(self, weight: Tensor) -> Problem:
        """Return the problem with other weights of the tokens."""
        return Problem(*self.tensors[:5], weight, *self.options, self.target_grad)


class Wanted(NamedTuple):
    """Which gradients to compute; ``soft`` is the one through the soft target."""

    hidden: bool = False
    classifier: bool = False
    bias: bool = False
    soft: bool = False


def wanted_gradients(problem: Problem) -> Wanted:
    """Return which gradients autograd will ask for: none where it records nothing."""
    if not torch.is_grad_enabled():
        return Wanted()
    bias_V = problem.bias_V
    return Wanted(
        problem.hidden_ND.requires_grad,
        problem.classifier_VD.requires_grad,
        bias_V is not None and bias_V.requires_grad,
        problem.target_grad and problem.alpha != 0 and problem.vectors_VE.requires_grad,
    )


class Streamed(NamedTuple):
    """The results of one pass over the tokens.

    The gradients are of the weighted sum of J_tot. A gradient that is not wanted is None.

    Args:
        nll_N: J of each token, without its weight.
        kl_N: J_aug of each token, without its weight. None if the gradient through the soft target
            is wanted, because J_aug is then summed by word.
        ce: weighted sum of J.
        aug: weighted sum of J_aug.
        grad_hidden_ND: with respect to the hidden states.
        grad_classifier_VD: with respect to W; with tied weights through both of its uses.
        grad_bias_V: with respect to b.
        grad_embedding_VE: with respect to L transposed; None with tied weights.
    """

    nll_N: Tensor
    kl_N: Tensor | None
    ce: Tensor
    aug: Tensor
    grad_hidden_ND: Tensor | None
    grad_classifier_VD: Tensor | None
    grad_bias_V: Tensor | None
    grad_embedding_VE: Tensor | None

    @property
    def gradients(self) -> tuple[Tensor | None, ...]:
        """The gradients, in the order of the problem's tensors."""
        return self[-4:]

    def losses(self, problem: Problem) -> tuple[Tensor, Tensor]:
        """Return J and J_aug, weighted: ``(N,)`` if per token, else the sums."""
        if not problem.per_token:
            return self.ce, self.aug
        assert self.kl_N is not None
        return weighted(self.nll_N, problem.weight), weighted(self.kl_N, problem.weight)


def weighted(values_N: Tensor, weight: Tensor) -> Tensor:
    """Return the values times their weights: 0 where the weight is 0, even for NaN."""
    return (values_N * weight).masked_fill(weight == 0, 0)
