"""Read a few words of one stream and learn from them at once, with the gradient by hand.

Dynamic evaluation takes a step after every few words. Most of its time would go into the gradients
of the weights, if they were made as matrices: each is ``left.T @ right`` with as many rows as there
are words. So a network hands over the two factors, and the learner updates the weight with them.

Shape letters: T words, E input width, H hidden width, P rows and K columns of a weight.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias, runtime_checkable

from torch import Tensor


class Learner(Protocol):
    """Updates parameters with their gradients."""

    def through(self, weight_PK: Tensor, left_TP: Tensor, right_TK: Tensor) -> Tensor:
        """Return ``left @ weight``; then update the weight with the gradient ``left.T @ right``."""
        ...

    def low_rank(self, weight_PK: Tensor, left_TP: Tensor, right_TK: Tensor) -> None:
        """Update a weight with the gradient ``left.T @ right``."""
        ...

    def dense(self, parameter: Tensor, grad: Tensor) -> None:
        """Update a parameter with its gradient."""
        ...


# Takes the gradient of the outputs and a learner, which updates every parameter of the network;
# returns the gradient of the inputs.
Backward: TypeAlias = Callable[[Tensor, Learner], Tensor]


@runtime_checkable
class LearnsByHand(Protocol):
    """A network that needs no autograd to learn from a segment."""

    def read_to_learn(self, x_TE: Tensor, state: Any) -> tuple[Tensor, Any, Backward]:
        """Read words of one stream without dropout; return ``(hidden_TH, state, backward)``.

        No gradient flows into the state before. ``backward`` is called once.
        """
        ...
