"""The augmented loss: cross-entropy plus the divergence of the prediction from a soft target.

Shape letters: N tokens, V vocabulary, D hidden width, E embedding width.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from tiedlm.arithmetic import gemm_dtype
from tiedlm.loss.arguments import check_arguments
from tiedlm.loss.dispatch import Implementation, compute_losses
from tiedlm.loss.problem import Problem
from tiedlm.tracing import is_asynchronous, is_recording, is_sharded

Reduction = Literal["mean", "sum", "none"]


class LossOutput(NamedTuple):
    """The losses that :func:`augmented_cross_entropy` returns.

    With reduction "none" each loss has the shape of the targets. With ``alpha = 0`` the augmented
    loss is not computed, and ``aug`` is 0.

    Args:
        loss: ``ce + alpha * aug``.
        ce: the cross-entropy J, detached, for logging.
        aug: the augmented loss J_aug, detached, for logging.
    """

    loss: Tensor
    ce: Tensor
    aug: Tensor


def augmented_cross_entropy(
    hidden: Tensor,
    classifier: Tensor,
    targets: Tensor,
    bias: Tensor | None = None,
    embedding: Tensor | None = None,
    *,
    alpha: float = 13.0,
    temperature: float = 20.0,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    target_grad: bool = True,
    impl: Implementation = "auto",
) -> LossOutput:
    r"""Compute ``J_tot = J + alpha J_aug`` straight from hidden states, without keeping logits.

    .. math::
        J &= -\log y_{y^*}, & y &= \mathrm{softmax}(W h + b) \\
        J_{aug} &= \mathrm{KL}(\tilde y \,\|\, \hat y), & \hat y &= \mathrm{softmax}(W h / \tau),
        \quad \tilde y = \mathrm{softmax}(L^\top u / \tau), \quad u = L y^*

    Args:
        hidden: the network's output, h.
        classifier: the matrix W. If the weights are tied, pass the embedding itself.
        targets: ids of the words to predict.
        bias: b, in the cross-entropy only: the paper's eq. 3.1 has none in y^.
        embedding: the rows are word vectors (L transposed); default: ``classifier``.
        alpha: weight of the augmented loss; 0 is plain cross-entropy.
        temperature: tau.
        ignore_index: tokens with this target do not count.
        reduction: "mean" over the tokens that count, "sum", or "none".
        target_grad: whether the gradient flows through the soft target into ``embedding``.
        impl: "fused" streams over the tokens with a gradient written by hand, and is faster except
            for vocabularies of a few dozen words. "reference" computes the equations in plain
            autograd. "auto" is "fused"; it is "reference" inside ``torch.func`` transforms,
            forward-mode differentiation and ``torch.jit.trace``. "quadratic" is another loss: J_aug
            is replaced by its limit at high temperature (see :mod:`tiedlm.loss.quadratic`).

    Shape:
        hidden ``(..., D)``, classifier ``(V, D)``, targets ``(...)`` int64, bias ``(V,)``,
        embedding ``(V, E)``.

    Returns:
        ``LossOutput(loss, ce, aug)``, in float32, or float64 for inputs in float64. If no token
        counts, all are 0.

    Raises:
        ValueError: naming the argument, what was given and what was expected.
        RuntimeError: for a derivative that the fused implementation does not have.

    Source: Inan et al. (2017), eq. 3.1.
    """
    embedding = classifier if embedding is None else embedding
    check_arguments(
        hidden, classifier, targets, bias, embedding, alpha, temperature, ignore_index, reduction,
        impl,
    )  # fmt: skip
    hidden_ND, targets_N, weight = _counted(hidden, targets, ignore_index, reduction)
    problem = Problem(
        hidden_ND, classifier, bias, None if embedding is classifier else embedding, targets_N,
        weight, alpha, temperature, gemm_dtype(hidden_ND), reduction == "none", target_grad,
    )  # fmt: skip
    loss, ce, aug = compute_losses(problem, impl)
    if reduction == "none":
        shape = targets.shape
        return LossOutput(loss.view(shape), ce.view(shape), aug.view(shape))
    return LossOutput(loss, ce, aug)


def _counted(
    hidden: Tensor, targets: Tensor, ignore_index: int, reduction: Reduction
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the tokens flattened: hidden states ``(N, D)``, targets ``(N,)`` and weights.

    The weights are ``(N,)``, or one number for all tokens. Tokens with ``ignore_index`` are left
    out if possible. They must stay if each token gets its own loss, if the values cannot be read,
    or if reading them would wait for a GPU. Then their target becomes word 0 and their weight 0.
    """
    hidden_ND = hidden.reshape(-1, hidden.shape[-1])
    targets_N = targets.reshape(-1)
    counted_N = targets_N != ignore_index
    weight = counted_N.to(torch.promote_types(hidden.dtype, torch.float32))
    unread = is_recording(hidden) or is_recording(targets) or is_sharded(hidden)
    # In float16, with a weight for each token, the gradient through the soft target would lose
    # digits.
    unread = unread or (is_asynchronous(targets) and gemm_dtype(hidden) != torch.float16)
    if reduction == "none" or unread:
        targets_N = targets_N.masked_fill(~counted_N, 0)
        if unread or not counted_N.all():
            # NaN times a weight of 0 would be NaN.
            hidden_ND = hidden_ND.masked_fill(~counted_N[:, None], 0)
        if reduction == "mean":
            weight = weight / weight.sum().clamp(min=1)
        return hidden_ND, targets_N, weight
    if not counted_N.all():
        hidden_ND, targets_N = hidden_ND[counted_N], targets_N[counted_N]
    count = max(1, len(targets_N)) if reduction == "mean" else 1
    return hidden_ND, targets_N, weight.new_full((), 1 / count)


class AugmentedCrossEntropy(nn.Module):
    """:func:`augmented_cross_entropy` as a module that stores the options.

    See the function for arguments, results and errors.

    Example:
        >>> import torch
        >>> weight = torch.randn(50, 8, requires_grad=True)
        >>> criterion = AugmentedCrossEntropy(alpha=13.0)
        >>> out = criterion(torch.randn(2, 5, 8), weight, torch.randint(50, (2, 5)))
        >>> out.loss.backward()
    """

    def __init__(
        self,
        alpha: float = 13.0,
        temperature: float = 20.0,
        ignore_index: int = -100,
        reduction: Reduction = "mean",
        target_grad: bool = True,
        impl: Implementation = "auto",
    ) -> None:
        super().__init__()
        self.alpha = alpha
        self.temperature = temperature
        self.ignore_index = ignore_index
        self.reduction: Reduction = reduction
        self.target_grad = target_grad
        self.impl: Implementation = impl

    def forward(
        self,
        hidden: Tensor,
        classifier: Tensor,
        targets: Tensor,
        bias: Tensor | None = None,
        embedding: Tensor | None = None,
    ) -> LossOutput:
        """Return the loss of ``hidden`` against ``targets``."""
        return augmented_cross_entropy(
            hidden,
            classifier,
            targets,
            bias,
            embedding,
            alpha=self.alpha,
            temperature=self.temperature,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            target_grad=self.target_grad,
            impl=self.impl,
        )

    def extra_repr(self) -> str:
        """Show the options that differ between losses."""
        return (
            f"alpha={self.alpha}, temperature={self.temperature}, reduction={self.reduction!r}, "
            f"target_grad={self.target_grad}, impl={self.impl!r}"
        )
