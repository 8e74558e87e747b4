"""The steps of :mod:`tiedlm.streaming` with compiled pointwise work: one pass a row for each.

Where all tokens are one chunk the steps are taken word by word (``work_on_words``), so that y~ and
r, (U, V) both, are never in memory: a row of each is, in a cache.

Shape letters: C tokens of a chunk, V vocabulary, D hidden width, U distinct targets.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from tiedlm.grouping import Group, group_by_word, in_order
from tiedlm.matmul import matmul
from tiedlm.native import kernels_for, pointer, rows_of
from tiedlm.streaming import SoftTargets, Stream
from tiedlm.workspace import take

# Work on fewer numbers is done by one thread.
_LEAST_SHARED = 2**16


class Chunk(NamedTuple):
    """Scores of some tokens, what is known of these, and their losses, to be filled.

    Shape:
        scores_CV z, of the GEMMs' type; targets_C ids; weight_C; word_C the row of the group's
        words, ascending; nll_C J; lse_C log mean exp(z / tau); dot_C <y~, z / tau>.
    """

    scores_CV: Tensor
    targets_C: Tensor
    weight_C: Tensor
    word_C: Tensor
    nll_C: Tensor
    lse_C: Tensor
    dot_C: Tensor


def aligned(name: str, rows: int, columns: int, like: Tensor) -> Tensor:
    """Take a matrix for scores; rows of two-byte numbers begin on 16 bytes.

    A GPU's fastest products need that, and on a CPU with AMX a step is some percent faster. Rows
    that do not end there are made 64 bytes long, or a multiple. What is between the rows is 0:
    oneDNN multiplies some of it, by 0, and a NaN there would come out.
    """
    if like.itemsize > 2 or columns % 8 == 0:
        return take(name, rows, columns, like)
    wide = take(name, rows, -(-columns // 32) * 32, like)
    wide[:, columns:].zero_()
    return wide[:, :columns]


class NativeStream(Stream):
    """A stream whose pointwise work is compiled. Scores stay in the type of the GEMMs."""

    def make_buffers(self, V: int, like: Tensor) -> None:
        """Make what is used again and again."""
        self.kernels = kernels_for(like, products=self.hidden_ND.dtype)
        self.words = self.rows
        # A chunk is one buffer here, in the type of the GEMMs: where that is half as wide, twice
        # as long.
        wider = like.itemsize // self.hidden_ND.itemsize
        self.rows = max(1, min(len(self.nll_N), self.rows * wider))
        self.threads = torch.get_num_threads()
        self.bias_V = None
        if self.problem.bias_V is not None:
            self.bias_V = self.problem.bias_V.to(like.dtype).contiguous()

    def threads_for(self, x: Tensor) -> int:
        """Return how many threads work on a matrix."""
        return self.threads if x.numel() >= _LEAST_SHARED else 1

    def groups(self) -> Iterable[Group]:
        """Return the tokens word by word, so that a thread has all tokens of its words."""
        targets_N = self.problem.targets_N
        if self.problem.alpha == 0:
            return in_order(targets_N)
        return group_by_word(targets_N, self.words, by_level=False)

    def stream_group(self, group: Group) -> None:
        """Stream the tokens of some words, all at once where they are one chunk."""
        if self.problem.alpha and self.is_one_chunk(group):
            self.stream_at_once(group)
        else:
            super().stream_group(group)

    def is_one_chunk(self, group: Group) -> bool:
        """Tell whether these are all tokens, one chunk, with scores of one type for all."""
        is_all = len(group.tokens_N) == len(self.nll_N) <= self.rows
        return is_all and self.embedding_VE.dtype == self.hidden_ND.dtype

    def stream_at_once(self, group: Group) -> None:
        """Do what ``stream_group`` does with the words' scores below those of the tokens.

        So G lies above M, and where the embedding is tied two products do the work of four.
        """
        tokens_C, soft = group.tokens_N, self.words_of(group)
        hidden_CD = self.hidden_ND[tokens_C]
        C, U, V = len(tokens_C), len(soft.vectors_UE), len(self.classifier_VD)
        held = aligned("chunk", C + U, V, hidden_CD)
        matmul(hidden_CD, self.classifier_VD.t(), held[:C])
        matmul(soft.vectors_UE, self.embedding_VE.t(), held[C:])
        chunk = self.chunk_of(held[:C], tokens_C, group.word_of_N)
        wants_grad = self.wanted.hidden or self.wanted.classifier
        dot_U = self.work_on_words(chunk, soft, held[C:], wants_grad)
        self.keep_losses(chunk, tokens_C, soft)
        if self.wanted.soft and self.tied and self.wanted.hidden:
            self.multiply_all(group, soft, dot_U, held)
            return
        if wants_grad:
            self.multiply(held[:C], tokens_C, hidden_CD)
        if self.wanted.soft:
            self.multiply_soft(group, soft, dot_U, held[C:])

    def words_of(self, group: Group) -> SoftTargets:
        """Return what there is of a group's soft targets before any is made."""
        vectors_UE = self.embedding_VE[group.words_U]
        like, U = self.nll_N, len(vectors_UE)
        soft = SoftTargets(vectors_UE, like.new_empty(0, 0), lse_U=like.new_empty(U))
        if self.wanted.soft:
            soft.weight_U = self.word_weights(group)
        else:
            soft.dot_U = like.new_empty(U)
        return soft

    def make_soft_targets(self, soft: SoftTargets, scores_UV: Tensor) -> None:
        """Make y~ and r of the words' scores."""
        U, V = scores_UV.shape
        soft.soft_UV = take("soft", U, V, self.nll_N)
        if self.wanted.soft:
            soft.residual_UV = take("residual", U, V, self.nll_N)
        self.fill_soft_targets(scores_UV, soft)

    def soft_targets(self, group: Group) -> SoftTargets:
        """Make y~ of a group's words (eq. 4)."""
        soft = self.words_of(group)
        scores_UV = aligned("chunk", len(soft.vectors_UE), len(self.embedding_VE), soft.vectors_UE)
        matmul(soft.vectors_UE, self.embedding_VE.t(), scores_UV)
        self.make_soft_targets(soft, scores_UV)
        return soft

    def chunk_of(self, scores_CV: Tensor, tokens_C: Tensor, word_C: Tensor) -> Chunk:
        """Return the scores of some tokens with what is known of these."""
        nll_C, lse_C, dot_C = self.nll_N.new_empty(3, len(tokens_C)).unbind(0)
        targets_C, weight_C = self.problem.targets_N[tokens_C], self.weight_N[tokens_C]
        return Chunk(scores_CV, targets_C, weight_C, word_C, nll_C, lse_C, dot_C)

    def chunk(self, group: Group, start: int, soft: SoftTargets | None) -> None:
        """Turn a chunk of a group's tokens into losses and their scores into G; multiply G."""
        tokens_C = group.tokens_N[start : start + self.rows]
        word_C = group.word_of_N[start : start + self.rows]
        hidden_CD = self.hidden_ND[tokens_C]
        scores_CV = aligned("chunk", len(tokens_C), len(self.classifier_VD), hidden_CD)
        matmul(hidden_CD, self.classifier_VD.t(), scores_CV)
        wants_grad = self.wanted.hidden or self.wanted.classifier
        chunk = self.chunk_of(scores_CV, tokens_C, word_C)
        self.work_on_tokens(chunk, soft, wants_grad)
        self.keep_losses(chunk, tokens_C, soft)
        if wants_grad:
            self.multiply(scores_CV, tokens_C, hidden_CD)

    def keep_losses(self, chunk: Chunk, tokens_C: Tensor, soft: SoftTargets | None) -> None:
        """Set J and J_aug of a chunk's tokens."""
        self.nll_N[tokens_C] = chunk.nll_C
        if soft is not None and soft.dot_U is not None:
            self.kl_N[tokens_C] = (
                (soft.dot_U - soft.lse_U)[chunk.word_C] - chunk.dot_C + chunk.lse_C
            )
        elif soft is not None:
            self.kl_N[tokens_C] = chunk.lse_C  # the rest is summed by word, in add_soft_loss

    def through_soft_targets(self, group: Group, soft: SoftTargets) -> None:
        """Add the gradient through y~ (eqs. 10-12), and J_aug's sums by word."""
        if soft.residual_UV is None:
            return
        dot_U = torch.empty_like(soft.lse_U)
        if soft.vectors_UE.dtype == soft.residual_UV.dtype:
            grad_UV = soft.residual_UV
        else:
            U, V = soft.soft_UV.shape
            grad_UV = aligned("chunk", U, V, soft.vectors_UE)
        self.fill_soft_gradient(soft, dot_U, grad_UV)
        soft.release()
        self.multiply_soft(group, soft, dot_U, grad_UV)

    def multiply_all(self, group: Group, soft: SoftTargets, dot_U: Tensor, held: Tensor) -> None:
        """Do the work of ``multiply`` and ``multiply_soft`` with two products instead of four."""
        assert self.grad_classifier is not None
        assert self.grad_hidden_ND is not None
        factor = self.add_soft_loss(soft, dot_U)
        tokens_N = group.tokens_N
        weight_N1 = self.weight_N[tokens_N].unsqueeze(1)
        vectors = torch.cat((self.hidden_ND[tokens_N] * weight_N1, soft.vectors_UE * factor))
        self.grad_classifier.add(held.t(), vectors.to(held.dtype))
        grad = self.nll_N.new_empty(len(held), self.grad_classifier.columns)
        matmul(held, self.classifier_VD, grad)
        self.grad_hidden_ND[tokens_N] = grad[: len(tokens_N)].mul_(weight_N1)
        self.grad_classifier.add_rows(group.words_U, grad[len(tokens_N) :].mul_(factor))

    def work_on_words(
        self, chunk: Chunk, soft: SoftTargets, word_scores_UV: Tensor, wants_grad: bool
    ) -> Tensor:
        """Do the work of the three functions below for all tokens and their words, word by word.

        Where the gradient through y~ is wanted the words' scores become M, and ``<y~, r>`` is
        returned; where not, soft.dot_U.
        """
        assert self.kernels is not None
        problem, scores_CV = self.problem, chunk.scores_CV
        (C, V), threads = scores_CV.shape, self.threads_for(scores_CV)
        dot_U = torch.empty_like(soft.lse_U) if soft.dot_U is None else soft.dot_U
        scratch = self.nll_N.new_empty(threads, 4, V)
        grad_bias = self.bias_shares(threads, V)
        self.kernels.words(
            C, V, threads, *rows_of(scores_CV), word_scores_UV.data_ptr(), pointer(self.bias_V),
            pointer(chunk.targets_C), pointer(chunk.weight_C), int(self.same_weight),
            pointer(chunk.word_C), pointer(soft.weight_U), 1 / problem.temperature,
            problem.alpha / problem.temperature, pointer(chunk.nll_C), pointer(chunk.lse_C),
            pointer(chunk.dot_C), pointer(soft.lse_U), pointer(dot_U),
            scores_CV.data_ptr() if wants_grad else None, pointer(grad_bias), pointer(scratch),
        )  # fmt: skip
        self.add_bias_shares(grad_bias)
        return dot_U

    def bias_shares(self, threads: int, V: int) -> Tensor | None:
        """Return where each thread sums its share of the bias's gradient, if that is wanted."""
        return None if self.grad_bias_V is None else self.nll_N.new_zeros(threads, V)

    def add_bias_shares(self, shares: Tensor | None) -> None:
        """Add up what the threads summed."""
        if self.grad_bias_V is not None and shares is not None:
            self.grad_bias_V += shares.sum(0)

    def fill_soft_targets(self, scores_UV: Tensor, soft: SoftTargets) -> None:
        """Fill all but the vectors and the weights, from the words' scores."""
        assert self.kernels is not None
        self.kernels.soft_targets(
            *scores_UV.shape, self.threads_for(scores_UV), *rows_of(scores_UV),
            1 / self.problem.temperature, pointer(soft.weight_U), pointer(soft.soft_UV),
            pointer(soft.lse_U), pointer(soft.dot_U), pointer(soft.residual_UV),
        )  # fmt: skip

    def work_on_tokens(self, chunk: Chunk, soft: SoftTargets | None, wants_grad: bool) -> None:
        """Fill a chunk's losses, take it off the residual, turn its scores into G if wanted."""
        assert self.kernels is not None
        problem, scores_CV = self.problem, chunk.scores_CV
        threads = self.threads_for(scores_CV)
        V = scores_CV.shape[1]
        scratch = self.nll_N.new_empty(threads, 2, V)
        grad_bias = self.bias_shares(threads, V)
        self.kernels.tokens(
            *scores_CV.shape, threads, *rows_of(scores_CV),
            pointer(self.bias_V), pointer(chunk.targets_C), pointer(chunk.weight_C),
            int(self.same_weight), pointer(chunk.word_C), pointer(soft.soft_UV if soft else None),
            pointer(soft.residual_UV if soft else None), 1 / problem.temperature,
            problem.alpha / problem.temperature, pointer(chunk.nll_C), pointer(chunk.lse_C),
            pointer(chunk.dot_C), scores_CV.data_ptr() if wants_grad else None, pointer(grad_bias),
            pointer(scratch),
        )  # fmt: skip
        self.add_bias_shares(grad_bias)

    def fill_soft_gradient(self, soft: SoftTargets, dot_U: Tensor, grad_UV: Tensor) -> None:
        """Fill ``<y~, r>`` and ``M``."""
        assert self.kernels is not None
        self.kernels.through_soft_targets(
            *grad_UV.shape, self.threads_for(grad_UV), pointer(soft.residual_UV),
            pointer(soft.soft_UV), pointer(dot_U), *rows_of(grad_UV),
        )  # fmt: skip
