"""What a call of the augmented loss may be given: wrong arguments are named, before any work."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tiedlm.matmul import is_recording

_REDUCTIONS = ("mean", "sum", "none")
_IMPLEMENTATIONS = ("auto", "fused", "reference", "quadratic")


def check_arguments(
    hidden: Tensor,
    classifier: Tensor,
    targets: Tensor,
    bias: Tensor | None,
    embedding: Tensor,
    alpha: float,
    temperature: float,
    ignore_index: int,
    reduction: str,
    impl: str,
) -> None:
    """Check the arguments of :func:`tiedlm.losses.augmented_cross_entropy`.

    Raises:
        ValueError: naming the argument, what was given and what was expected.
    """
    for name, given in (
        ("hidden", hidden), ("classifier", classifier), ("targets", targets), ("bias", bias),
        ("embedding", embedding),
    ):  # fmt: skip
        if not (isinstance(given, Tensor) or (name == "bias" and given is None)):
            advice = f"; pass its .{name if name == 'bias' else 'weight'}" * hasattr(
                given, "weight"
            )
            raise ValueError(f"{name}: expected a tensor, got {type(given).__name__}{advice}")
    # Comparisons, which torch.compile can follow where the value is not fixed.
    if isinstance(alpha, Tensor) or not 0 <= alpha < math.inf:
        raise ValueError(f"alpha: expected a finite number of at least 0, got {alpha}")
    if isinstance(temperature, Tensor) or not 0 < temperature < math.inf:
        raise ValueError(f"temperature: expected a finite number above 0, got {temperature}")
    if reduction not in _REDUCTIONS:
        raise ValueError(f"reduction: expected one of {_REDUCTIONS}, got {reduction!r}")
    if impl not in _IMPLEMENTATIONS:
        raise ValueError(f"impl: expected one of {_IMPLEMENTATIONS}, got {impl!r}")
    _check_shapes(hidden, classifier, targets, bias, embedding)
    _check_types(hidden, classifier, targets, bias, embedding)
    if not is_recording(targets):
        check_range(targets, len(classifier), ignore_index)


def _check_shapes(
    hidden: Tensor, classifier: Tensor, targets: Tensor, bias: Tensor | None, embedding: Tensor
) -> None:
    if hidden.dim() == 0:
        raise ValueError("hidden: expected shape (..., D), got ()")
    if classifier.dim() != 2 or classifier.shape[1] != hidden.shape[-1] or not len(classifier):
        raise ValueError(
            f"classifier: expected shape (V, {hidden.shape[-1]}) for hidden of shape "
            f"{tuple(hidden.shape)}, got {tuple(classifier.shape)}"
        )
    if targets.shape != hidden.shape[:-1]:
        raise ValueError(
            f"targets: expected shape {tuple(hidden.shape[:-1])}, that of hidden without its last "
            f"dimension, got {tuple(targets.shape)}"
        )
    vocab_size = len(classifier)
    if bias is not None and bias.shape != (vocab_size,):
        raise ValueError(f"bias: expected shape ({vocab_size},), got {tuple(bias.shape)}")
    if embedding.dim() != 2 or len(embedding) != vocab_size:
        raise ValueError(
            f"embedding: expected shape ({vocab_size}, E), a row for each word of the classifier, "
            f"got {tuple(embedding.shape)}"
        )


def _check_types(
    hidden: Tensor, classifier: Tensor, targets: Tensor, bias: Tensor | None, embedding: Tensor
) -> None:
    if targets.dtype != torch.int64:
        raise ValueError(f"targets: expected dtype torch.int64, got {targets.dtype}")
    if not hidden.is_floating_point():
        raise ValueError(f"hidden: expected a floating dtype, got {hidden.dtype}")
    # Autocast hands over half-precision hidden states beside float32 weights.
    mixed = torch.is_autocast_enabled(hidden.device.type)
    for name, tensor in (
        ("classifier", classifier), ("bias", bias), ("embedding", embedding), ("targets", targets),
    ):  # fmt: skip
        if tensor is None:
            continue
        if tensor.device != hidden.device:
            raise ValueError(
                f"{name}: expected device {hidden.device}, that of hidden, got {tensor.device}"
            )
        of_hidden = tensor.dtype == hidden.dtype or (mixed and tensor.is_floating_point())
        if name != "targets" and not of_hidden:
            raise ValueError(
                f"{name}: expected dtype {hidden.dtype}, that of hidden, got {tensor.dtype}"
            )


def check_range(targets: Tensor, vocab_size: int, ignore_index: int | None = None) -> None:
    """Check that every target is a word or ``ignore_index``, if that is still among them.

    Raises:
        ValueError: with the first that is not.
    """
    if targets.numel() == 0:
        return
    low, high = (int(bound) for bound in targets.aminmax())
    if low >= 0 and high < vocab_size:
        return
    is_wrong = (targets < 0) | (targets >= vocab_size)
    if ignore_index is not None:
        is_wrong &= targets != ignore_index
    wrong = targets[is_wrong]
    if len(wrong):
        other = "ignore_index" if ignore_index is None else f"ignore_index {ignore_index}"
        raise ValueError(
            f"targets: expected ids in [0, {vocab_size}) or {other}, got {int(wrong[0])}"
        )
