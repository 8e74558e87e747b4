r"""Losses and gradients of the augmented loss in one pass over the tokens, in little memory.

For each chunk of tokens the scores ``z = W h`` are made once and turned, in place, into the
gradient with respect to the scores (eq. 9 of ``docs/loss.md``; ``gamma = alpha / tau``)

    ``G = p - onehot + gamma (y^ - y~)``,

so that the two GEMMs of plain cross-entropy, ``G W`` and ``G^T h``, serve both losses. Where the
gradient flows through the soft target, its part (eqs. 10-12) needs the distinct target words only:

    ``M_u = y~_u (r_u - <y~_u, r_u>)``,  ``r_u = sum_n w_n (L^T u - z_n) / tau``.

At any time there are at most one chunk (C, V), one smaller piece (R, V) and two matrices (U, V) of
as many distinct words as fit the same budget; with GEMMs in bfloat16, also a copy of the chunk.
Compiled (:mod:`tiedlm.native.streaming`) there is no piece and no copy; where all tokens are one
chunk, the distinct words' scores, which become M, lie below it instead of the two matrices.

Shape letters: N tokens, C tokens of a chunk, R of a piece, V vocabulary, D hidden width,
E embedding width, U distinct targets.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from tiedlm.grouping import Group, group_by_word, in_order, single_tokens
from tiedlm.matmul import matmul, operand
from tiedlm.native import kernels_for
from tiedlm.tracing import is_recording
from tiedlm.workspace import take

# A chunk is what a GEMM sees: so many numbers, but not so few tokens that adding its product to the
# classifier's gradient costs more than the product. A piece is what pointwise work sees: small
# enough for a cache, and few enough that starting threads for each step does not show.
CHUNK = 2**24
LEAST_ROWS = 256
PIECE = 2**21
NARROW = 16


class Wanted(NamedTuple):
    """Which gradients are asked for; ``soft`` is the path through the soft target."""

    hidden: bool = False
    classifier: bool = False
    bias: bool = False
    soft: bool = False


@dataclass(frozen=True)
class Problem:
    """What is to be computed.

    Args:
        embedding_VE: L transposed; None is the classifier itself (RE).
        weight: of each token, ``(N,)``, or one for all, ``()``; of type float32 or float64, which
            is the type of everything but the GEMMs' operands.
        gemm_dtype: type of the GEMMs' operands.
    """

    hidden_ND: Tensor
    classifier_VD: Tensor
    bias_V: Tensor | None
    embedding_VE: Tensor | None
    targets_N: Tensor
    weight: Tensor
    alpha: float
    temperature: float
    gemm_dtype: torch.dtype


class Streamed(NamedTuple):
    """J of each token, J_aug of each or None, their weighted sums, gradients of J_tot's sum.

    J_aug of each token is None where ``wanted.soft``: there it is summed by word. A gradient that
    was not asked for is None. Where the embedding is tied, the classifier's has every path in it.
    """

    nll_N: Tensor
    kl_N: Tensor | None
    ce: Tensor
    aug: Tensor
    grad_hidden_ND: Tensor | None
    grad_classifier_VD: Tensor | None
    grad_bias_V: Tensor | None
    grad_embedding_VE: Tensor | None


def weighted(values_N: Tensor, weight: Tensor) -> Tensor:
    """Return the values times their weights: 0 where that is 0, whatever the value."""
    return (values_N * weight).masked_fill(weight == 0, 0)


@dataclass
class SoftTargets:
    """y~ of a group's words, and what J_aug and the gradient through y~ need.

    Shape:
        vectors_UE u; soft_UV y~; lse_U log mean exp(L^T u / tau). Only where the gradient through
        y~ is wanted: weight_U, the summed weights of each word's tokens, and residual_UV, which is
        r once every token of the group was taken off it. Only where not: dot_U, <y~, L^T u / tau>.
    """

    vectors_UE: Tensor
    soft_UV: Tensor
    lse_U: Tensor
    dot_U: Tensor | None = None
    weight_U: Tensor | None = None
    residual_UV: Tensor | None = None

    def release(self) -> None:
        """Give back the two matrices, when the gradient through y~ is made of them."""
        self.soft_UV = self.lse_U.new_empty(0, 0)
        self.residual_UV = None


class _Sum:
    """A matrix into which products are added."""

    def __init__(self, rows: int, columns: int, like: Tensor) -> None:
        self.columns = columns
        self._value = like.new_empty(rows, columns)
        self._started = False

    def add(self, a: Tensor, b: Tensor) -> None:
        matmul(a, b, self._value, accumulate=self._started)
        self._started = True

    def add_rows(self, index: Tensor, rows: Tensor) -> None:
        _add_rows(self._value, index, rows)

    def value(self) -> Tensor:
        return self._value if self._started else self._value.zero_()


def stream(problem: Problem, wanted: Wanted) -> Streamed:
    """Compute the losses and the gradients that are wanted.

    Source: PAPER section 1; ``docs/loss.md``, eqs. 6-12.
    """
    from tiedlm.native import gpu  # which is made of this module's parts
    from tiedlm.native.streaming import NativeStream

    if gpu.is_for(problem.weight, products=problem.gemm_dtype):
        return gpu.TritonStream(problem, wanted).run()
    kernels = kernels_for(problem.weight, products=problem.gemm_dtype)
    return (NativeStream if kernels else Stream)(problem, wanted).run()


class Stream:
    """The buffers of :func:`stream`, and its steps."""

    def __init__(self, problem: Problem, wanted: Wanted) -> None:
        self.problem, self.wanted = problem, wanted
        dtype, like = problem.gemm_dtype, problem.weight
        N, D = problem.hidden_ND.shape
        V = len(problem.classifier_VD)
        # One weight for all tokens stays out of the (C, V) work: it multiplies narrow factors.
        self.same_weight = problem.weight.dim() == 0
        self.weight_N = problem.weight.expand(N)
        self.tied = problem.embedding_VE is None
        # Perhaps wider than D and E, by zeros.
        self.hidden_ND = operand(problem.hidden_ND, dtype)
        self.classifier_VD = operand(problem.classifier_VD, dtype)
        self.embedding_VE = self.classifier_VD  # or what follows; read only where alpha is not 0
        if problem.embedding_VE is not None and problem.alpha:
            # Nothing is gained by rounding a few columns.
            is_narrow = problem.embedding_VE.shape[1] < NARROW
            self.embedding_VE = operand(problem.embedding_VE, like.dtype if is_narrow else dtype)
        self.rows = max(1, min(N, max(self.most_numbers() // V, LEAST_ROWS)))
        self.nll_N = like.new_empty(N)
        self.kl_N = like.new_zeros(N)
        self.soft_aug = like.new_zeros(())
        self.grad_hidden_ND = like.new_empty(N, D) if wanted.hidden else None
        self.grad_bias_V = like.new_zeros(V) if wanted.bias else None
        self.grad_classifier: _Sum | None = None
        self.grad_embedding: _Sum | None = None
        if wanted.classifier or (wanted.soft and self.tied):
            self.grad_classifier = _Sum(V, D, like)
        if wanted.soft:
            self.grad_embedding = self.grad_classifier
            if problem.embedding_VE is not None:
                self.grad_embedding = _Sum(V, problem.embedding_VE.shape[1], like)
        self.make_buffers(V, like)

    def most_numbers(self) -> int:
        """Return how many numbers a chunk has, where that is not too few tokens."""
        return CHUNK

    def make_buffers(self, V: int, like: Tensor) -> None:
        """Make what is used again and again."""
        self.chunk_CV = take("chunk", self.rows, V, like)
        self.piece_RV = take("piece", max(1, min(self.rows, PIECE // V)), V, like)

    def run(self) -> Streamed:
        """Stream all tokens."""
        problem = self.problem
        for group in self.groups():
            self.stream_group(group)
        if self.grad_bias_V is not None:
            _add_rows(self.grad_bias_V, problem.targets_N, self.weight_N, -1)
        return Streamed(
            nll_N=self.nll_N,
            kl_N=None if self.wanted.soft else self.kl_N,
            ce=weighted(self.nll_N, self.weight_N).sum(),
            aug=weighted(self.kl_N, self.weight_N).sum() + self.soft_aug,
            grad_hidden_ND=self.grad_hidden_ND,
            grad_classifier_VD=self.grad_classifier.value() if self.grad_classifier else None,
            grad_bias_V=self.grad_bias_V,
            grad_embedding_VE=(
                self.grad_embedding.value() if self.grad_embedding and not self.tied else None
            ),
        )

    def groups(self) -> Iterable[Group]:
        """Return the tokens in the order in which they are streamed."""
        targets_N = self.problem.targets_N
        if self.problem.alpha == 0:
            return in_order(targets_N)
        if is_recording(targets_N):
            return single_tokens(targets_N, self.rows)
        return group_by_word(targets_N, self.rows)

    def stream_group(self, group: Group) -> None:
        """Stream the tokens of some words; what is held for these words ends with it."""
        soft = self.soft_targets(group) if self.problem.alpha else None
        for start in range(0, len(group.tokens_N), self.rows):
            self.chunk(group, start, soft)
        if soft is not None:
            self.through_soft_targets(group, soft)

    def soft_targets(self, group: Group) -> SoftTargets:
        """Make y~ of a group's words (eq. 4); the chunk is free to hold their scores."""
        vectors_UE = self.embedding_VE[group.words_U]
        scores_UV = self.chunk_CV[: len(vectors_UE)]
        matmul(vectors_UE, self.embedding_VE.t(), scores_UV).mul_(1 / self.problem.temperature)
        soft_UV = take("soft", len(vectors_UE), scores_UV.shape[1], scores_UV)
        torch.softmax(scores_UV, dim=-1, out=soft_UV)
        lse_U = _log_mean_exp(scores_UV.amax(-1), soft_UV)
        if not self.wanted.soft:
            dot_U = scores_UV.mul_(soft_UV).sum(-1)
            return SoftTargets(vectors_UE, soft_UV, lse_U, dot_U=dot_U)
        weight_U = self.word_weights(group)
        residual_UV = take("residual", len(vectors_UE), scores_UV.shape[1], scores_UV)
        torch.mul(scores_UV, weight_U.unsqueeze(1), out=residual_UV)
        return SoftTargets(vectors_UE, soft_UV, lse_U, None, weight_U, residual_UV)

    def word_weights(self, group: Group) -> Tensor:
        """Return the summed weights of each word's tokens, or their count if all weigh the same."""
        if self.same_weight:
            return group.count_U.to(self.nll_N.dtype)
        weight_N = self.weight_N[group.tokens_N]
        return _add_rows(weight_N.new_zeros(len(group.words_U)), group.word_of_N, weight_N)

    def chunk(self, group: Group, start: int, soft: SoftTargets | None) -> None:
        """Turn a chunk of a group's tokens into losses and their scores into G; multiply G."""
        tokens_C = group.tokens_N[start : start + self.rows]
        hidden_CD = self.hidden_ND[tokens_C]
        scores_CV = self.chunk_CV[: len(tokens_C)]
        matmul(hidden_CD, self.classifier_VD.t(), scores_CV)
        grad_CV = self.gradient_buffer(scores_CV, hidden_CD)
        step = len(self.piece_RV)
        for first in range(0, len(tokens_C), step):
            part = slice(first, first + step)
            if soft is None:
                self.plain_piece(scores_CV[part], tokens_C[part], grad_CV[part])
            else:
                self.piece(
                    scores_CV[part], tokens_C[part], grad_CV[part], group, start + first, soft
                )

        if self.wanted.hidden or self.wanted.classifier:
            self.multiply(grad_CV, tokens_C, hidden_CD)

    def multiply(self, grad_CV: Tensor, tokens_C: Tensor, hidden_CD: Tensor) -> None:
        """Add a chunk's share of the gradients: ``G W`` and ``G^T h``."""
        weight_C1 = self.weight_N[tokens_C].unsqueeze(1)
        if self.grad_hidden_ND is not None:
            grad_CD = torch.empty_like(self.grad_hidden_ND[: len(tokens_C)])
            matmul(grad_CV, self.classifier_VD, grad_CD)
            self.grad_hidden_ND[tokens_C] = grad_CD.mul_(weight_C1)
        if self.wanted.classifier and self.grad_classifier is not None:
            self.grad_classifier.add(grad_CV.t(), (hidden_CD * weight_C1).to(hidden_CD.dtype))

    def gradient_buffer(self, scores_CV: Tensor, hidden_CD: Tensor) -> Tensor:
        """Return where G goes: in place of the scores, or beside them in the GEMMs' type."""
        if scores_CV.dtype == hidden_CD.dtype or not (self.wanted.hidden or self.wanted.classifier):
            return scores_CV
        return take("gradient", len(scores_CV), scores_CV.shape[1], hidden_CD)

    def plain_piece(self, scores_RV: Tensor, tokens_R: Tensor, grad_RV: Tensor) -> None:
        """Set J; turn scores into p - onehot."""
        if self.problem.bias_V is not None:
            scores_RV.add_(self.problem.bias_V)
        self.cross_entropy(scores_RV, tokens_R, out_RV=scores_RV)
        _add_at(scores_RV, self.problem.targets_N[tokens_R], -1.0)
        if grad_RV.dtype != scores_RV.dtype:
            grad_RV.copy_(scores_RV)

    def cross_entropy(self, logits_RV: Tensor, tokens_R: Tensor, out_RV: Tensor) -> Tensor:
        """Set J and the bias's share of the gradient but for the one-hot; write p (eqs. 1, 2).

        Returns the largest logit of each token.
        """
        targets_R = self.problem.targets_N[tokens_R]
        target_R = logits_RV.gather(1, targets_R.unsqueeze(1)).squeeze(1)
        max_R = logits_RV.amax(-1)
        p_RV = torch.softmax(logits_RV, dim=-1, out=out_RV)
        self.nll_N[tokens_R] = (max_R - target_R) - torch.log(p_RV.amax(-1))
        if self.grad_bias_V is not None:
            self.grad_bias_V.addmv_(p_RV.t(), self.weight_N[tokens_R])
        return max_R

    def piece(
        self,
        scores_RV: Tensor,
        tokens_R: Tensor,
        grad_RV: Tensor,
        group: Group,
        start: int,
        soft: SoftTargets,
    ) -> None:
        """Set J and J_aug; turn scores into G (eq. 9)."""
        problem, stop = self.problem, start + len(tokens_R)
        p_RV = self.piece_RV[: len(tokens_R)]
        segments = list(group.segments(start, stop))
        if soft.dot_U is not None:
            for rows, words in segments:
                torch.mul(scores_RV[rows], _rows(soft.soft_UV, words), out=p_RV[rows])
            dot_R = p_RV.sum(-1).mul_(1 / problem.temperature)

        if problem.bias_V is None:
            max_R = self.cross_entropy(scores_RV, tokens_R, out_RV=p_RV)
        else:
            max_R = scores_RV.amax(-1)
            torch.add(scores_RV, problem.bias_V, out=p_RV)
            self.cross_entropy(p_RV, tokens_R, out_RV=p_RV)

        scores_RV.mul_(1 / problem.temperature)
        if soft.residual_UV is not None:
            weight_R1 = self.weight_N[tokens_R].unsqueeze(1)
            for rows, words in segments:
                part = scores_RV[rows] if self.same_weight else scores_RV[rows] * weight_R1[rows]
                if isinstance(words, slice):
                    soft.residual_UV[words].sub_(part)
                else:
                    _add_rows(soft.residual_UV, words, part, -1)

        prediction_RV = torch.softmax(scores_RV, dim=-1, out=scores_RV)
        lse_R = _log_mean_exp(max_R.mul(1 / problem.temperature), prediction_RV)
        if soft.dot_U is not None:
            word_of_R = group.word_of_N[start:stop]
            self.kl_N[tokens_R] = (soft.dot_U - soft.lse_U)[word_of_R] - dot_R + lse_R
        else:
            self.kl_N[tokens_R] = lse_R  # the rest is summed by word, in through_soft_targets

        if self.wanted.hidden or self.wanted.classifier:
            gamma = problem.alpha / problem.temperature
            for rows, words in segments:
                p_RV[rows].sub_(_rows(soft.soft_UV, words), alpha=gamma)
            _add_at(p_RV, problem.targets_N[tokens_R], -1.0)
            torch.add(p_RV, prediction_RV, alpha=gamma, out=grad_RV)

    def through_soft_targets(self, group: Group, soft: SoftTargets) -> None:
        """Add the gradient through y~ (eqs. 10-12), and J_aug's sums by word."""
        if soft.residual_UV is None:
            return
        product_UV = soft.residual_UV.mul_(soft.soft_UV)
        dot_U = product_UV.sum(-1)
        grad_UV = product_UV.addcmul_(soft.soft_UV, dot_U.unsqueeze(1), value=-1)
        grad_UV = grad_UV.to(soft.vectors_UE.dtype)
        soft.release()
        self.multiply_soft(group, soft, dot_U, grad_UV)

    def multiply_soft(
        self, group: Group, soft: SoftTargets, dot_U: Tensor, grad_UV: Tensor
    ) -> None:
        """Add a group's J_aug, and its share of the embedding's gradient: ``M^T u``, ``M L^T``."""
        assert self.grad_embedding is not None
        factor = self.add_soft_loss(soft, dot_U)
        vectors_UE = (soft.vectors_UE * factor).to(soft.vectors_UE.dtype)
        self.grad_embedding.add(grad_UV.t(), vectors_UE)
        grad_UE = soft.lse_U.new_empty(len(vectors_UE), self.grad_embedding.columns)
        matmul(grad_UV, self.embedding_VE, grad_UE).mul_(factor)
        self.grad_embedding.add_rows(group.words_U, grad_UE)

    def add_soft_loss(self, soft: SoftTargets, dot_U: Tensor) -> float | Tensor:
        """Add a group's J_aug by word; return the factor of its gradient through y~."""
        assert soft.weight_U is not None
        scale = self.problem.weight if self.same_weight else 1.0
        self.soft_aug += scale * (dot_U - soft.weight_U * soft.lse_U).sum()
        return scale * (self.problem.alpha / self.problem.temperature)


def _add_rows(target: Tensor, index: Tensor, rows: Tensor, alpha: int = 1) -> Tensor:
    """Add alpha times rows to those that the index names, perhaps again; return the target."""
    if target.is_cuda:  # where only this way adds in the same order every time
        return target.index_put_((index,), rows if alpha == 1 else rows * alpha, accumulate=True)
    return target.index_add_(0, index, rows, alpha=alpha)


def _rows(x_UV: Tensor, words: slice | Tensor) -> Tensor:
    """Return rows of a matrix: a view of them where that is possible."""
    if isinstance(words, slice):
        return x_UV[words]
    return torch.index_select(x_UV, 0, words, out=take("rows", len(words), x_UV.shape[1], x_UV))


def _log_mean_exp(max_N: Tensor, softmax_NV: Tensor) -> Tensor:
    """Return log mean exp of rows that have this maximum and this softmax.

    The largest entry of a softmax is 1 / sum exp(x - max). The mean, unlike the sum, keeps its
    digits where all scores are nearly equal: at high temperature.
    """
    return max_N - torch.log(softmax_NV.amax(-1) * softmax_NV.shape[-1])


def _add_at(x_RV: Tensor, index_R: Tensor, value: float) -> None:
    """Add a number to one entry of each row."""
    index_R1 = index_R.unsqueeze(1)
    x_RV.scatter_add_(1, index_R1, x_RV.new_full(index_R1.shape, value))
