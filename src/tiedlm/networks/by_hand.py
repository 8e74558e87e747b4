"""The protocol of networks that dynamic evaluation can train fast, without autograd.

Dynamic evaluation updates all weights after every few words. The gradient of a weight is then
``left.T @ right``, where both factors have only as many rows as there are words. Writing it out as
a whole matrix would take most of the time. So the network hands the two factors to a
:class:`Learner`, which updates the weight from them directly.

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


# Takes the gradient of the outputs and a learner. Updates every parameter of the network through
# the learner, and returns the gradient of the inputs.
Backward: TypeAlias = Callable[[Tensor, Learner], Tensor]


@runtime_checkable
class LearnsByHand(Protocol):
    """A network that can learn from a segment of words without autograd."""

    def read_to_learn(self, x_TE: Tensor, state: Any) -> tuple[Tensor, Any, Backward]:
        """Read words of one stream without dropout; return ``(hidden_TH, state, backward)``.

        No gradient flows into the earlier state. Call ``backward`` once at most.
        """
        ...
