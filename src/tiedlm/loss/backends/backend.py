"""The protocol of a backend: three steps between the matrix products, and their data.

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
    """Some tokens of a group, with tensors that the step :meth:`Backend.tokens` fills.

    Args:
        scores_CV: z; the step may overwrite it.
        targets_C: ids of the words to predict.
        weight_C: weights of the tokens.
        word_C: for each token the row of its word in the group.
        nll_C: receives J.
        lse_C: receives ``log mean exp(z / tau)``.
        dot_C: receives ``<y~, z / tau>``, unless the gradient through y~ is wanted.
        grad_CV: receives G. It may be ``scores_CV`` itself. None if G is not wanted.
        group: the group.
        start: index of the first token in the group.
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
    """The soft targets of a group's words.

    Args:
        vectors_UE: u, the word vectors.
        soft_UV: y~.
        lse_U: ``log mean exp(L^T u / tau)``.
        dot_U: ``<y~, L^T u / tau>``; None if the gradient through y~ is wanted.
        weight_U: summed weights of each word's tokens; None unless that gradient is wanted.
        residual_UV: r, once every token of the group is subtracted from it; None unless that
            gradient is wanted.
    """

    vectors_UE: Tensor
    soft_UV: Tensor
    lse_U: Tensor
    dot_U: Tensor | None = None
    weight_U: Tensor | None = None
    residual_UV: Tensor | None = None


class Backend(Protocol):
    """The work between the matrix products of one pass.

    Attributes:
        in_place: whether scores have the type of the products' operands, so that G and M overwrite
            them. Otherwise scores have the type of the losses.
        by_level: whether the tokens are ordered level by level (``grouping.py``). Otherwise they
            are ordered word by word.
    """

    in_place: bool
    by_level: bool

    def __init__(self, problem: Problem, grad_bias_V: Tensor | None) -> None:
        """Begin a pass.

        Args:
            problem: what is computed.
            grad_bias_V: the steps add the gradient of the bias to it, without the one-hot part;
                None if that gradient is not wanted.
        """

    @staticmethod
    def serves(problem: Problem) -> bool:
        """Tell whether the backend works on this machine, is switched on and suits a problem."""
        ...

    @property
    def chunk(self) -> int:
        """Wanted number of scores in a chunk. A chunk has at least ``LEAST_ROWS`` tokens."""
        ...

    def soft_targets(self, scores_UV: Tensor, soft: SoftTargets) -> None:
        """Fill y~, lse, and either dot or the residual, from the words' scores L^T u."""

    def tokens(self, chunk: Chunk, soft: SoftTargets | None) -> None:
        """Fill a chunk's losses, and G if it is wanted; subtract its tokens from the residual.

        Args:
            chunk: the tokens.
            soft: the soft targets of their words; None without the augmented loss.
        """

    def through_soft_targets(self, soft: SoftTargets, grad_UV: Tensor) -> Tensor:
        """Fill M, perhaps in place of the residual; return ``<y~, r>`` of each word."""
        ...

    @property
    def words(self) -> Callable[[Chunk, SoftTargets, Tensor], Tensor] | None:
        """A function that does the three steps for all tokens at once, or None.

        Its third argument is the words' scores. If the gradient through y~ is wanted, the scores
        become M, and ``<y~, r>`` is returned. If not, ``soft.dot_U`` is returned. The function need
        not fill y~ and r.
        """
        ...
