"""Make PyTorch's optimizers without importing its compiler."""

from __future__ import annotations

import sys

import torch

_MARKED = ("add_param_group", "load_state_dict", "state_dict", "zero_grad")
_MARK = "__dynamo_disable"  # of a function: what is called in its place


def leave_compiler_out() -> None:
    """Keep PyTorch's optimizers from importing ``torch._dynamo``, which takes 2 s and 100 MB.

    Some methods of an optimizer are marked as not for the compiler. The first call of one imports
    the compiler to mark it, although nothing is compiled here. This marks them with themselves. It
    does nothing if the compiler is there already, or where PyTorch marks methods in another way.
    """
    if "torch._dynamo" in sys.modules:
        return
    for name in _MARKED:
        method = getattr(getattr(torch.optim.Optimizer, name), "__wrapped__", None)
        if method is not None and getattr(method, _MARK, None) is None:
            setattr(method, _MARK, method)
