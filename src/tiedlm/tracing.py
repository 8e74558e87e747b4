"""Detect whether PyTorch runs a call, records it, transforms it, or only infers shapes.

The fast code of tiedlm reads values and addresses, works in place and defines its own gradient. In
``torch.func`` transforms, under tracing and on tensors without values some of this is impossible,
so the fast code asks here first.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import is_fake
from torch.autograd import forward_ad

_PLAIN = (Tensor, torch.nn.Parameter)


def is_transformed() -> bool:
    """Return whether a ``torch.func`` transform or forward-mode differentiation is active.

    Both can follow only PyTorch's own operations.
    """
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def is_jit_tracing() -> bool:
    """Return whether ``torch.jit.trace`` is recording operations."""
    return torch._C._get_tracing_state() is not None


def is_symbolic(tensor: Tensor) -> bool:
    """Return whether operations only infer shapes or build a graph.

    This is so for meta and fake tensors, and inside ``make_fx``.
    """
    if torch.compiler.is_dynamo_compiling():  # Dynamo cannot trace what follows
        return tensor.is_meta
    if tensor.is_meta or (type(tensor) not in _PLAIN and is_fake(tensor)):
        return True
    return torch._C._get_dispatch_mode(torch._C._TorchDispatchModeKey.PROXY) is not None


def needs_plain_operations(tensor: Tensor) -> bool:
    """Return whether code may use PyTorch's own operations only, and no hand-written gradient.

    This is so in ``torch.func`` transforms, in forward-mode differentiation, under
    ``torch.jit.trace``, and where operations only infer shapes or build a graph.
    """
    return is_transformed() or is_symbolic(tensor) or is_jit_tracing()


def is_sharded(tensor: Tensor) -> bool:
    """Return whether the tensor is a DTensor, of which this process may hold only a part."""
    return hasattr(tensor, "full_tensor")


def is_batched(tensor: Tensor) -> bool:
    """Return whether ``vmap`` or ``torch.autograd.grad(is_grads_batched=True)`` maps over it."""
    if torch._C._functorch.is_legacy_batchedtensor(tensor):
        return True
    while torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        if torch._C._functorch.is_batchedtensor(tensor):
            return True
        tensor = torch._C._functorch.get_unwrapped(tensor)
    return False


def require_single_gradient(grad: Tensor, what: str, remedy: str) -> None:
    """Refuse to differentiate a gradient that is written by hand, or to compute many at once.

    Args:
        grad: the gradient that ``backward`` was given.
        what: the function or module and its fast path, as the message begins.
        remedy: what the user can do instead.

    Raises:
        RuntimeError: under ``create_graph=True``, ``vmap`` or ``is_grads_batched=True``.
    """
    if torch.is_grad_enabled():
        raise RuntimeError(
            f"{what} has no second derivative; {remedy} where backward has create_graph=True"
        )
    if is_batched(grad):
        raise RuntimeError(
            f"{what} has no batch of gradients; {remedy} where they come from vmap or "
            "is_grads_batched=True"
        )


def is_asynchronous(tensor: Tensor) -> bool:
    """Return whether reading a value of the tensor makes the program wait for a GPU."""
    return tensor.is_cuda


def is_recording(tensor: Tensor) -> bool:
    """Return whether code must not read the values of tensors like this one.

    This is so while ``torch.compile``, ``torch.jit.trace`` or a CUDA graph records operations,
    under ``vmap``, and for tensors without values.
    """
    if torch.compiler.is_compiling() or is_jit_tracing():
        return True
    if is_batched(tensor) or is_symbolic(tensor):
        return True
    return tensor.is_cuda and torch.cuda.is_current_stream_capturing()
