"""What a backend does, and what it is given: the three steps between the matrix products.

Shape letters: C tokens of a chunk, U distinct targets of a group, V vocabulary, E embedding width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from torch import Tensor

from tiedlm.loss.grouping import Group
from tiedlm.loss.problem import Problem


class Chunk(NamedTuple):
    """Some tokens of a group: their scores, what is known of them, and their losses to be filled.

    Shape:
        scores_CV z; targets_C ids; weight_C; word_C the row of the group's words; nll_C J; lse_C
        log mean exp(z / tau); dot_C <y~, z / tau>, unless the gradient through y~ is wanted;
        grad_CV where G goes, perhaps the scores themselves, or None where G is not wanted. The
        tokens are the group's from ``start`` on.
    """

    scores_CV: Tensor
    targets_C: Tensor
    weight_C: Tensor
    word_C: Tensor
    nll_C: Tensor
    lse_C: Tensor
    dot_C: Tensor
    grad_CV: Tensor | None
    group: Group
    start: int


@dataclass
class SoftTargets:
    """y~ of a group's words, and what J_aug and the gradient through y~ need.

    Shape:
        vectors_UE u; soft_UV y~; lse_U log mean exp(L^T u / tau). Only where the gradient through
        y~ is wanted: weight_U, the summed weights of each word's tokens, and residual_UV, which is
        r once every token of the group is taken off it. Only where not: dot_U, <y~, L^T u / tau>.
    """

    vectors_UE: Tensor
    soft_UV: Tensor
    lse_U: Tensor
    dot_U: Tensor | None = None
    weight_U: Tensor | None = None
    residual_UV: Tensor | None = None


class Backend(Protocol):
    """The work between the products, for one pass.

    ``in_place`` says that scores have the type of the products' operands and become G and M where
    they are, else they have the type of the losses. ``by_level`` is the order of the tokens: level
    by level (``grouping.py``), else word by word.
    """

    in_place: bool
    by_level: bool

    def __init__(self, problem: Problem, grad_bias_V: Tensor | None) -> None:
        """Begin a pass; the steps add to ``grad_bias_V`` all but the one-hot part."""

    @staticmethod
    def serves(problem: Problem) -> bool:
        """Tell whether the backend is there, is switched on and can do a problem's work."""
        ...

    @property
    def chunk(self) -> int:
        """How many numbers a chunk has, if it then has ``LEAST_ROWS`` tokens or more."""
        ...

    def soft_targets(self, scores_UV: Tensor, soft: SoftTargets) -> None:
        """Fill y~, lse, and either dot or the residual, from the words' scores."""

    def tokens(self, chunk: Chunk, soft: SoftTargets | None) -> None:
        """Fill a chunk's losses, take its tokens off the residual, fill G if it is wanted."""

    def through_soft_targets(self, soft: SoftTargets, grad_UV: Tensor) -> Tensor:
        """Fill M, perhaps in place of the residual; return ``<y~, r>`` of each word."""
        ...

    @property
    def words(self) -> Callable[[Chunk, SoftTargets, Tensor], Tensor] | None:
        """The three steps for all tokens at once, word by word; None leaves them to the three.

        It is given the words' scores too. Where the gradient through y~ is wanted, these become M,
        and ``<y~, r>`` is returned; where not, ``soft.dot_U``. Neither y~ nor r need be in memory.
        """
        ...
