r"""The augmented loss: cross-entropy plus a divergence to what the word vectors themselves predict.

Shape letters: N tokens, V vocabulary, D hidden width, E embedding width. The equation numbers are
those of ``docs/loss.md``.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from tiedlm.fused import fused_losses

Reduction = Literal["mean", "sum", "none"]
Implementation = Literal["reference", "fused", "auto"]


class LossOutput(NamedTuple):
    """What :func:`augmented_cross_entropy` returns; ``ce`` and ``aug`` are detached, for logging.

    ``loss`` is ``ce + alpha * aug``. With reduction "none" each has the shape of the targets. With
    ``alpha = 0`` the augmented loss is not computed and ``aug`` is 0.
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
        classifier: W. Where the weights are tied, pass the embedding itself.
        targets: ids of the words to predict.
        bias: b, in the cross-entropy only: the paper's eq. 3.1 has none in y^.
        embedding: the rows are word vectors (L transposed); default: ``classifier``.
        alpha: weight of the augmented loss; 0 is plain cross-entropy.
        temperature: tau, at least a little above 0.
        ignore_index: tokens with this target count nowhere.
        reduction: "mean" over the tokens that count, "sum", or "none".
        target_grad: whether the gradient flows through the soft target into ``embedding``.
        impl: "fused" streams over the tokens with a gradient written by hand; "reference" is the
            equations in plain autograd; "auto" takes the faster.

    Shape:
        hidden ``(..., D)``, classifier ``(V, D)``, targets ``(...)`` int64, bias ``(V,)``,
        embedding ``(V, E)``.

    Returns:
        ``LossOutput(loss, ce, aug)``, in float32 or better.

    Raises:
        ValueError: naming the argument, what was given and what was expected.

    Source: PAPER section 1, "Augmented loss".
    """
    embedding = classifier if embedding is None else embedding
    targets_N = targets.reshape(-1)
    hidden_ND = hidden.reshape(-1, hidden.shape[-1])
    dtype = torch.promote_types(hidden.dtype, torch.float32)
    counted_N = targets_N != ignore_index
    weight = counted_N.to(dtype)
    if reduction == "none":
        targets_N = targets_N.where(counted_N, 0)
    else:
        if not counted_N.all():
            hidden_ND, targets_N = hidden_ND[counted_N], targets_N[counted_N]
        weight = weight.new_ones(())
        if reduction == "mean":
            weight = weight / max(1, len(targets_N))
    compute = reference_losses if impl == "reference" else fused_losses
    losses = compute(
        hidden_ND, classifier, targets_N, weight, bias, embedding, alpha, temperature,
        target_grad, reduction == "none",
    )  # fmt: skip
    if reduction == "none":
        losses = tuple(loss.view_as(targets) for loss in losses)
    return LossOutput(*losses)


def reference_losses(
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
    """Return J_tot, J and J_aug, weighted: per token or summed."""
    scores_NV = hidden_ND @ classifier_VD.t()
    logits_NV = scores_NV if bias_V is None else scores_NV + bias_V
    ce_N = functional.cross_entropy(logits_NV, targets_N, reduction="none") * weight
    if alpha == 0:
        ce = ce_N if per_token else ce_N.sum()
        return ce, ce.detach(), torch.zeros_like(ce)
    soft_scores_NV = embedding_VE[targets_N] @ embedding_VE.t()
    log_soft_target_NV = torch.log_softmax(soft_scores_NV / temperature, dim=-1)
    if not target_grad:
        log_soft_target_NV = log_soft_target_NV.detach()
    log_prediction_NV = torch.log_softmax(scores_NV / temperature, dim=-1)
    terms_NV = log_soft_target_NV.exp() * (log_soft_target_NV - log_prediction_NV)
    aug_N = terms_NV.sum(dim=-1) * weight
    ce, aug = (ce_N, aug_N) if per_token else (ce_N.sum(), aug_N.sum())
    return ce + alpha * aug, ce.detach(), aug.detach()


class AugmentedCrossEntropy(nn.Module):
    """:func:`augmented_cross_entropy` with its options kept.

    Args, Returns and Raises are those of the function.

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
