"""Detach, select, split and join the state that a network carries from window to window.

A state is a NamedTuple of tensors whose axis 1 is the stream. The functions here rely on nothing
else, so they work for every network. A checkpoint stores the tensors by their field names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar, cast

import torch
from torch import Tensor

from tiedlm.errors import UserError

State: TypeAlias = tuple[Tensor, ...]  # a NamedTuple; axis 1 of each tensor is the stream
S = TypeVar("S", bound=State)


def _like(state: S, tensors: Iterable[Tensor]) -> S:
    """Return a state of the same kind with other tensors.

    Raises:
        UserError: if the state is no NamedTuple, as a network of one's own may return.
    """
    if not hasattr(state, "_fields"):
        raise UserError(
            f"state: expected a NamedTuple of tensors, got a {type(state).__name__}; "
            "initial_state and forward_time_major of a network return one"
        )
    return cast(S, cast(Any, type(state))(*tensors))


def map_state(function: Callable[[Tensor], Tensor], state: S) -> S:
    """Apply a function to each tensor of a state."""
    return _like(state, map(function, state))


def check_shapes(state: State, shapes: Iterable[tuple[int, ...]]) -> None:
    """Check the shapes of a state's tensors.

    Raises:
        ValueError: naming the tensor, its shape and the expected one.
    """
    for (name, part), expected in zip(named(state).items(), shapes, strict=True):
        if tuple(part.shape) != expected:
            raise ValueError(f"state.{name}: expected {expected}, got {tuple(part.shape)}")


def detach(state: S) -> S:
    """Return the state cut off from the graph: no gradient flows into the last window."""
    return map_state(Tensor.detach, state)


def select(state: S, streams: Tensor) -> S:
    """Return the state of some streams.

    Args:
        state: of any number of streams.
        streams: ``(N,)`` int64 indices of the streams, on any device; an index may be repeated.
    """
    return map_state(lambda part: part.index_select(1, streams.to(part.device)), state)


def split(state: S, parts: int) -> list[S]:
    """Cut a state into equal parts along the streams; a state without tensors has equal parts."""
    if not state:
        return [state] * parts
    chunks = zip(*(tensor.chunk(parts, 1) for tensor in state), strict=True)
    return [_like(state, tensors) for tensors in chunks]


def join(states: Sequence[S]) -> S:
    """Put the streams of several states one after another."""
    return _like(states[0], (torch.cat(parts, 1) for parts in zip(*states, strict=True)))


def named(state: State) -> dict[str, Tensor]:
    """Return the tensors of a state by their field names."""
    fields: tuple[str, ...] = cast(Any, state)._fields
    return dict(zip(fields, state, strict=True))


def from_named(like: S, tensors: Mapping[str, Tensor]) -> S:
    """Make a state of the tensors that :func:`named` returned.

    Args:
        like: a state of the same network.
        tensors: field name -> tensor.

    Raises:
        ValueError: if the names are not the fields of such a state.
    """
    fields = list(named(like))
    if sorted(fields) != sorted(tensors):
        raise ValueError(
            f"state: expected the tensors {', '.join(fields)}, got {', '.join(tensors) or 'none'}"
        )
    return _like(like, (tensors[field] for field in fields))
