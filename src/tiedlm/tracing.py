"""Ask what PyTorch does with a call: run it, record it, transform it, or only infer shapes.

Hand-written code reads values and addresses, works in place and brings its own gradient. None of
that is possible in every case, so it asks here first.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import is_fake
from torch.autograd import forward_ad

_PLAIN = (Tensor, torch.nn.Parameter)


def is_transformed() -> bool:
    """Tell whether a ``torch.func`` transform or forward-mode differentiation is active.

    Both can only follow PyTorch's own operations.
    """
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def is_jit_tracing() -> bool:
    """Tell whether ``torch.jit.trace`` records operations."""
    return torch._C._get_tracing_state() is not None


def is_symbolic(tensor: Tensor) -> bool:
    """Tell whether operations only infer shapes or build a graph.

    That holds for meta and fake tensors, and inside ``make_fx``.
    """
    if torch.compiler.is_dynamo_compiling():  # Dynamo cannot trace what follows
        return tensor.is_meta
    if tensor.is_meta or (type(tensor) not in _PLAIN and is_fake(tensor)):
        return True
    return torch._C._get_dispatch_mode(torch._C._TorchDispatchModeKey.PROXY) is not None


def is_sharded(tensor: Tensor) -> bool:
    """Tell whether the tensor is a DTensor, of which this process may hold only a part."""
    return hasattr(tensor, "full_tensor")


def is_batched(tensor: Tensor) -> bool:
    """Tell whether ``vmap``, or ``torch.autograd.grad(is_grads_batched=True)``, maps over it."""
    if torch._C._functorch.is_legacy_batchedtensor(tensor):
        return True
    while torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        if torch._C._functorch.is_batchedtensor(tensor):
            return True
        tensor = torch._C._functorch.get_unwrapped(tensor)
    return False


def is_recording(tensor: Tensor) -> bool:
    """Tell whether the code may not read the values of tensors like this one.

    That holds where ``torch.compile``, ``torch.jit.trace`` or a CUDA graph records operations,
    under ``vmap``, and where there are no values.
    """
    if torch.compiler.is_compiling() or is_jit_tracing():
        return True
    if is_batched(tensor) or is_symbolic(tensor):
        return True
    return tensor.is_cuda and torch.cuda.is_current_stream_capturing()
