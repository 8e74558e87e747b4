"""The gradients of a pass over the tokens: sums of matrix products, added up chunk by chunk.

Shape letters: N tokens, C tokens of a chunk, V vocabulary, D hidden width, E embedding width,
U distinct targets.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tiedlm.loss.backends.backend import Chunk, SoftTargets
from tiedlm.loss.grouping import add_rows
from tiedlm.loss.problem import Problem, Wanted
from tiedlm.matmul import matmul


class _Sum:
    """A sum of products in one matrix. The first product is written, the others are added."""

    def __init__(self, rows: int, columns: int, like: Tensor) -> None:
        self.columns = columns
        self._value = like.new_empty(rows, columns)
        self._started = False

    def add(self, a: Tensor, b: Tensor) -> None:
        matmul(a, b, self._value, accumulate=self._started)
        self._started = True

    def add_rows(self, index: Tensor, rows: Tensor) -> None:
        add_rows(self._value, index, rows)

    def value(self) -> Tensor:
        return self._value if self._started else self._value.zero_()


class Gradients:
    """The gradients of one pass: a sum for each gradient that is wanted, None for the others.

    Args:
        problem: what is computed.
        wanted: which gradients to compute.
        classifier_VD: W as an operand of products, perhaps padded with zero columns.
        embedding_VE: L transposed as an operand of products; W itself if the weights are tied.
    """

    def __init__(
        self, problem: Problem, wanted: Wanted, classifier_VD: Tensor, embedding_VE: Tensor
    ) -> None:
        (N, D), V, like = problem.hidden_ND.shape, len(classifier_VD), problem.weight
        self._classifier_VD, self._embedding_VE = classifier_VD, embedding_VE
        self._wants_classifier = wanted.classifier
        self._tied = problem.embedding_VE is None
        self.hidden_ND = like.new_empty(N, D) if wanted.hidden else None
        self.bias_V = like.new_zeros(V) if wanted.bias else None
        self.classifier: _Sum | None = None
        self.embedding: _Sum | None = None
        if wanted.classifier or (wanted.soft and self._tied):
            self.classifier = _Sum(V, D, like)
        if wanted.soft:
            self.embedding = self.classifier
            if problem.embedding_VE is not None:
                self.embedding = _Sum(V, problem.embedding_VE.shape[1], like)

    def add_tokens(self, chunk: Chunk, tokens_C: Tensor, hidden_CD: Tensor) -> None:
        """Add the products of a chunk of tokens, ``G W`` and ``G^T h``, as far as they are wanted.

        Args:
            chunk: has G.
            tokens_C: positions of its tokens in the text.
            hidden_CD: their hidden states, as an operand of products.
        """
        if chunk.grad_CV is None:
            return
        weight_C1 = chunk.weight_C.unsqueeze(1)
        if self.hidden_ND is not None:
            grad_CD = torch.empty_like(self.hidden_ND[: len(tokens_C)])
            matmul(chunk.grad_CV, self._classifier_VD, grad_CD)
            self.hidden_ND[tokens_C] = grad_CD.mul_(weight_C1)
        if self._wants_classifier and self.classifier is not None:
            self.classifier.add(chunk.grad_CV.t(), (hidden_CD * weight_C1).to(hidden_CD.dtype))

    def add_words(
        self, words_U: Tensor, soft: SoftTargets, factor: float | Tensor, grad_UV: Tensor
    ) -> None:
        """Add the gradient through a group's soft targets: ``M^T u`` and ``M L^T``.

        Args:
            words_U: ids of the words.
            soft: has their vectors.
            factor: the factor of the gradient through y~: gamma, times the weight that all tokens
                share if there is one.
            grad_UV: M.
        """
        assert self.embedding is not None
        vectors_UE = (soft.vectors_UE * factor).to(soft.vectors_UE.dtype)
        self.embedding.add(grad_UV.t(), vectors_UE)
        grad_UE = soft.lse_U.new_empty(len(vectors_UE), self.embedding.columns)
        matmul(grad_UV, self._embedding_VE, grad_UE).mul_(factor)
        self.embedding.add_rows(words_U, grad_UE)

    def add_all(
        self,
        chunk: Chunk,
        hidden_ND: Tensor,
        soft: SoftTargets,
        factor: float | Tensor,
        held: Tensor,
    ) -> None:
        """Do the work of both methods in two products instead of four: all tokens, tied weights.

        Args:
            chunk: has all tokens.
            hidden_ND: their hidden states, as an operand of products.
            soft: has the vectors of their words.
            factor: as in :meth:`add_words`.
            held: G above M, ``(N + U, V)``.
        """
        assert self.classifier is not None
        assert self.hidden_ND is not None
        tokens_N, words_U = chunk.group.tokens_N, chunk.group.words_U
        weight_N1 = chunk.weight_C.unsqueeze(1)
        vectors = torch.cat((hidden_ND * weight_N1, soft.vectors_UE * factor))
        self.classifier.add(held.t(), vectors.to(held.dtype))
        grad = soft.lse_U.new_empty(len(held), self.classifier.columns)
        matmul(held, self._classifier_VD, grad)
        self.hidden_ND[tokens_N] = grad[: len(tokens_N)].mul_(weight_N1)
        self.classifier.add_rows(words_U, grad[len(tokens_N) :].mul_(factor))

    def values(self) -> tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]:
        """Return the gradients in the order of a problem's tensors."""
        return (
            self.hidden_ND,
            self.classifier.value() if self.classifier else None,
            self.bias_V,
            self.embedding.value() if self.embedding and not self._tied else None,
        )
