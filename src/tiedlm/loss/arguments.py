"""Check the arguments of the augmented loss, and name the wrong one in the error."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tiedlm.arithmetic import is_autocast
from tiedlm.tracing import is_asynchronous, is_recording, is_sharded

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
    """Check the arguments of :func:`tiedlm.augmented_cross_entropy`.

    Raises:
        ValueError: naming the argument, what was given and what was expected.
    """
    _check_are_tensors(hidden, classifier, targets, bias, embedding, impl)
    _check_number("alpha", alpha, "a finite number of at least 0", zero=True)
    _check_number("temperature", temperature, "a finite number above 0", zero=False)
    if not hasattr(ignore_index, "__index__"):
        raise _wrong_number("ignore_index", "an integer", ignore_index)
    if reduction not in _REDUCTIONS:
        raise ValueError(f"reduction: expected one of {_REDUCTIONS}, got {reduction!r}")
    if impl not in _IMPLEMENTATIONS:
        raise ValueError(f"impl: expected one of {_IMPLEMENTATIONS}, got {impl!r}")
    _check_shapes(hidden, classifier, targets, bias, embedding)
    _check_types(hidden, classifier, targets, bias, embedding)
    if not is_recording(targets):
        check_range(targets, len(classifier), ignore_index)


def _check_are_tensors(
    hidden: Tensor,
    classifier: Tensor,
    targets: Tensor,
    bias: Tensor | None,
    embedding: Tensor,
    impl: str,
) -> None:
    """Refuse arguments that are not tensors, and nested, sparse and sharded tensors.

    With ``impl="reference"`` sharded tensors are allowed, if all tensors are sharded.
    """
    tensors = {
        "hidden": hidden, "classifier": classifier, "targets": targets, "embedding": embedding,
    }  # fmt: skip
    if bias is not None:
        tensors["bias"] = bias
    for name, given in tensors.items():
        if not isinstance(given, Tensor):
            advice = f"; pass its .{name if name == 'bias' else 'weight'}" * hasattr(
                given, "weight"
            )
            raise ValueError(f"{name}: expected a tensor, got {type(given).__name__}{advice}")
        if given.is_nested or given.layout != torch.strided:
            kind = "nested" if given.is_nested else str(given.layout)
            advice = "; pass the tokens of all sequences as one tensor" * given.is_nested
            raise ValueError(f"{name}: expected a dense tensor, got a {kind} one{advice}")
    sharded = [name for name, given in tensors.items() if is_sharded(given)]
    if sharded and not (impl == "reference" and len(sharded) == len(tensors)):
        name = sharded[0]
        raise ValueError(
            f"{name}: expected a whole tensor, got a sharded one (DTensor); pass "
            f"{name}.full_tensor(), or call the loss while FSDP has the module unsharded "
            "(module.unshard())"
        )


def _check_number(name: str, value: float, expected: str, *, zero: bool) -> None:
    """Refuse a value that is not finite and above 0; ``zero`` allows 0."""
    # Not math.isfinite: torch.compile can follow comparisons of a value that varies.
    try:
        if not isinstance(value, Tensor) and (0 < value < math.inf or (zero and value == 0)):
            return
    except TypeError:  # not a number
        pass
    raise _wrong_number(name, expected, value)


def _wrong_number(name: str, expected: str, given: object) -> ValueError:
    if isinstance(given, Tensor):
        return ValueError(f"{name}: expected {expected}, got a tensor; pass {name}.item()")
    shown = given if isinstance(given, int | float) else repr(given)
    return ValueError(f"{name}: expected {expected}, got {shown}")


def _check_shapes(
    hidden: Tensor, classifier: Tensor, targets: Tensor, bias: Tensor | None, embedding: Tensor
) -> None:
    """Refuse tensors whose shapes do not fit together."""
    if hidden.dim() == 0:
        raise ValueError("hidden: expected shape (..., D), got ()")
    if classifier.dim() != 2 or classifier.shape[1] != hidden.shape[-1] or not len(classifier):
        # Between two uses of a weight, FSDP1 and DeepSpeed's ZeRO-3 keep only a flat shard of it.
        hint = "; gather a weight that FSDP or ZeRO has sharded"
        raise ValueError(
            f"classifier: expected shape (V, {hidden.shape[-1]}) for hidden of shape "
            f"{tuple(hidden.shape)}, got {tuple(classifier.shape)}{hint * (classifier.dim() == 1)}"
        )
    if targets.shape != hidden.shape[:-1]:
        raise ValueError(
            f"targets: expected shape {tuple(hidden.shape[:-1])}, like hidden without its last "
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
    """Refuse tensors whose types or devices do not fit together."""
    if targets.dtype != torch.int64:
        is_integer = not (targets.is_floating_point() or targets.is_complex())
        hint = "; pass targets.long()" if is_integer else ""
        raise ValueError(f"targets: expected dtype torch.int64, got {targets.dtype}{hint}")
    if not hidden.is_floating_point():
        raise ValueError(f"hidden: expected a floating dtype, got {hidden.dtype}")
    # Autocast hands over half-precision hidden states beside float32 weights.
    mixed = is_autocast(hidden)
    for name, tensor in (
        ("classifier", classifier), ("bias", bias), ("embedding", embedding), ("targets", targets),
    ):  # fmt: skip
        if tensor is None:
            continue
        if tensor.device != hidden.device:
            raise ValueError(
                f"{name}: expected device {hidden.device}, like hidden, got {tensor.device}"
            )
        fits = tensor.dtype == hidden.dtype or (mixed and tensor.is_floating_point())
        if name != "targets" and not fits:
            raise ValueError(
                f"{name}: expected dtype {hidden.dtype}, like hidden, got {tensor.dtype}"
                + _mixed_advice(name, hidden, tensor)
            )


def _mixed_advice(name: str, hidden: Tensor, tensor: Tensor) -> str:
    """Return the remedy, as the end of a message, for two different floating types."""
    if not tensor.is_floating_point():
        return ""
    cast = f"; cast one of them, as with {name}.to(hidden.dtype)"
    half = [x.dtype for x in (hidden, tensor) if x.dtype in (torch.float16, torch.bfloat16)]
    if len(half) != 1:
        return cast
    return f"{cast}, or call the loss under torch.autocast('{hidden.device.type}', {half[0]})"


def check_range(targets: Tensor, vocab_size: int, ignore_index: int | None = None) -> None:
    """Check that every target is the id of a word, or ``ignore_index``.

    On a GPU the check does not make the program wait, as in PyTorch's own losses. So a wrong target
    is reported as a CUDA error by a later call.

    Args:
        targets: int64 ids of any shape, whose values can be read.
        vocab_size: number of words.
        ignore_index: an allowed target that is no word; None allows none.

    Raises:
        ValueError: naming the first wrong target.
    """
    if targets.numel() == 0:
        return
    waits = not is_asynchronous(targets)
    if waits:
        low, high = (int(bound) for bound in targets.aminmax())
        if low >= 0 and high < vocab_size:
            return
    is_wrong = (targets < 0) | (targets >= vocab_size)
    if ignore_index is not None:
        is_wrong = is_wrong & (targets != ignore_index)
    other = "ignore_index" if ignore_index is None else f"ignore_index {ignore_index}"
    expected = f"targets: expected ids in [0, {vocab_size}) or {other}"
    if not waits:
        torch._assert_async(~is_wrong.any(), expected)
    elif is_wrong.any():
        raise ValueError(f"{expected}, got {int(targets[is_wrong][0])}")
