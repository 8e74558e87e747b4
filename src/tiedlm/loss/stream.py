r"""The losses and their gradients in one pass over the tokens, in little memory.

The scores ``z = W h`` of a chunk of tokens are computed once, and turned into the gradient with
respect to the scores (eq. 9 of ``docs/loss.md``; ``gamma = alpha / tau``)

    ``G = p - onehot + gamma (y^ - y~)``,

so that the two products of plain cross-entropy, ``G W`` and ``G^T h``, serve both losses. The
gradient through the soft target (eqs. 10-12) needs the distinct target words only:

    ``M_u = y~_u (r_u - <y~_u, r_u>)``,  ``r_u = sum_n w_n (L^T u - z_n) / tau``.

This file has the order of the work, the scores and the buffers. ``gradients.py`` has the products
whose sums are the gradients. What lies between the products is done by a backend (``backends/``).

At any time, memory holds at most one chunk (C, V) of scores, and two matrices (U, V) of a group of
distinct words. The same limit holds for C and U. The PyTorch backend also has a smaller strip (R,
V) and, if the products have a lower precision, a copy of the chunk. If a backend works in place and
all tokens fit into one chunk, one matrix has the scores of the tokens and, below them, of the
words.

Shape letters: N tokens, C tokens of a chunk, V vocabulary, D hidden width, E embedding width,
U distinct targets.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext

import torch
from torch import Tensor

from tiedlm.loss import buffers
from tiedlm.loss.backends import backend_for
from tiedlm.loss.backends.backend import Chunk, SoftTargets
from tiedlm.loss.gradients import Gradients
from tiedlm.loss.grouping import Group, add_rows, group_by_word, in_order, single_tokens
from tiedlm.loss.problem import Problem, Streamed, Wanted, weighted
from tiedlm.matmul import matmul, operand
from tiedlm.tracing import is_asynchronous, is_recording

_NARROW = 16  # rounding an embedding of fewer columns saves nothing
# A GPU does this many bfloat16 multiplications in the time that a program needs to wait for it.
_CHEAP = 2**33


def stream(problem: Problem, wanted: Wanted) -> Streamed:
    """Compute the losses and the gradients that are wanted.

    Source: Inan et al. (2017); ``docs/loss.md``, eqs. 6-12.
    """
    device = problem.weight.device
    with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
        return _Stream(problem, wanted).run()


class _Stream:
    """One pass over the tokens: its order, its scores and its buffers."""

    def __init__(self, problem: Problem, wanted: Wanted) -> None:
        self.problem, self.wanted = problem, wanted
        dtype, like = problem.gemm_dtype, problem.weight
        N = len(problem.hidden_ND)
        self.V = V = len(problem.classifier_VD)
        # A weight that all tokens share does not multiply (C, V) matrices, but narrower factors.
        self.same_weight = like.dim() == 0
        self.weight_N = like.expand(N)
        self.tied = problem.embedding_VE is None
        # Operands may have columns of zeros after D or E.
        self.hidden_ND = operand(problem.hidden_ND, dtype)
        self.classifier_VD = operand(problem.classifier_VD, dtype)
        self.embedding_VE = self.classifier_VD  # without alpha it is never read
        if problem.embedding_VE is not None and problem.alpha:
            is_narrow = problem.embedding_VE.shape[1] < _NARROW
            self.embedding_VE = operand(problem.embedding_VE, like.dtype if is_narrow else dtype)
        self.nll_N = like.new_empty(N)
        self.kl_N = like.new_zeros(N)
        self.soft_aug = like.new_zeros(())
        self.gradients = Gradients(problem, wanted, self.classifier_VD, self.embedding_VE)
        self.backend = backend_for(problem)(problem, self.gradients.bias_V)
        self.most_words = buffers.chunk_rows(N, V, self.backend.chunk)  # of a group
        # In half precision twice as many scores fit the same memory.
        scores_dtype = dtype if self.backend.in_place else like.dtype
        times = like.itemsize // scores_dtype.itemsize
        self.chunk_tokens = buffers.chunk_rows(N, V, self.backend.chunk, times)
        self.scores, self.gradient = buffers.Buffer("scores"), buffers.Buffer("gradient")
        self.soft, self.residual = buffers.Buffer("soft"), buffers.Buffer("residual")

    def run(self) -> Streamed:
        """Stream all tokens."""
        for group in self._groups():
            self._stream_group(group)
        if self.gradients.bias_V is not None:
            add_rows(self.gradients.bias_V, self.problem.targets_N, self.weight_N, -1)
        return Streamed(
            self.nll_N,
            None if self.wanted.soft else self.kl_N,
            weighted(self.nll_N, self.weight_N).sum(),
            weighted(self.kl_N, self.weight_N).sum() + self.soft_aug,
            *self.gradients.values(),
        )

    def _groups(self) -> Iterable[Group]:
        """Return the tokens in the order in which they are streamed."""
        targets_N = self.problem.targets_N
        if self.problem.alpha == 0:
            return in_order(targets_N)
        # To count the distinct words of targets on a GPU, the program has to wait for the GPU.
        is_cheap = len(targets_N) * self.embedding_VE.numel() <= _CHEAP
        if is_recording(targets_N) or (is_asynchronous(targets_N) and is_cheap):
            return single_tokens(targets_N, self.most_words)
        return group_by_word(targets_N, self.most_words, by_level=self.backend.by_level)

    def _stream_group(self, group: Group) -> None:
        """Stream a group's tokens; no other group needs the soft targets of its words."""
        soft = self._soft_targets_of(group) if self.problem.alpha else None
        if soft is not None and self._is_one_chunk(group):
            self._stream_at_once(group, soft)
            return
        if soft is not None:
            scores_UV = self._take_scores(len(soft.vectors_UE), soft.vectors_UE)
            matmul(soft.vectors_UE, self.embedding_VE.t(), scores_UV)
            self._make_soft_targets(soft, scores_UV)
        for start in range(0, len(group.tokens_N), self.chunk_tokens):
            self._stream_chunk(group, start, soft)
        if soft is not None and soft.residual_UV is not None:
            self._through_soft_targets(group, soft)

    # Soft targets

    def _soft_targets_of(self, group: Group) -> SoftTargets:
        """Return the group's soft targets with empty buffers."""
        vectors_UE = self.embedding_VE[group.words_U]
        like, U = self.nll_N, len(vectors_UE)
        soft = SoftTargets(vectors_UE, like.new_empty(0, 0), lse_U=like.new_empty(U))
        if self.wanted.soft:
            soft.weight_U = group.weights(self.problem.weight)
        else:
            soft.dot_U = like.new_empty(U)
        return soft

    def _make_soft_targets(self, soft: SoftTargets, scores_UV: Tensor) -> None:
        """Fill y~ (eq. 4) and, where the gradient through it is wanted, the first part of r."""
        U, V = scores_UV.shape
        soft.soft_UV = self.soft.take(U, V, self.nll_N)
        if self.wanted.soft:
            soft.residual_UV = self.residual.take(U, V, self.nll_N)
        self.backend.soft_targets(scores_UV, soft)

    def _release(self, soft: SoftTargets) -> None:
        """Free y~ and r, once the gradient through y~ has been computed from them."""
        soft.soft_UV, soft.residual_UV = self.nll_N.new_empty(0, 0), None
        self.soft.release()
        self.residual.release()

    # Tokens

    def _stream_chunk(self, group: Group, start: int, soft: SoftTargets | None) -> None:
        """Compute the losses of a chunk of tokens, turn its scores into G, and add G's products."""
        tokens_C = group.tokens_N[start : start + self.chunk_tokens]
        hidden_CD = self.hidden_ND[tokens_C]
        scores_CV = self._take_scores(len(tokens_C), hidden_CD)
        matmul(hidden_CD, self.classifier_VD.t(), scores_CV)
        chunk = self._chunk_of(scores_CV, tokens_C, group, start)
        self.backend.tokens(chunk, soft)
        self._keep_losses(chunk, tokens_C, soft)
        self.gradients.add_tokens(chunk, tokens_C, hidden_CD)

    def _chunk_of(self, scores_CV: Tensor, tokens_C: Tensor, group: Group, start: int) -> Chunk:
        """Return a chunk: the scores of some tokens, and empty tensors for their losses."""
        C, V = scores_CV.shape
        nll_C, lse_C, dot_C = self.nll_N.new_empty(3, C).unbind(0)
        grad_CV = None
        if self.wanted.hidden or self.wanted.classifier:
            grad_CV = scores_CV
            if scores_CV.dtype != self.hidden_ND.dtype:
                grad_CV = self.gradient.take(C, V, self.hidden_ND)
        return Chunk(
            scores_CV, self.problem.targets_N[tokens_C], self.weight_N[tokens_C],
            group.word_of_N[start : start + C], nll_C, lse_C, dot_C, grad_CV, group, start,
        )  # fmt: skip

    def _take_scores(self, rows: int, factor: Tensor) -> Tensor:
        """Return a buffer for scores, in the type of ``factor`` if the backend works in place."""
        if self.backend.in_place:
            return self.scores.take(rows, self.V, factor, aligned=True)
        return self.scores.take(rows, self.V, self.nll_N)

    def _keep_losses(self, chunk: Chunk, tokens_C: Tensor, soft: SoftTargets | None) -> None:
        """Keep J and J_aug of a chunk's tokens."""
        self.nll_N[tokens_C] = chunk.nll_C
        if soft is not None and soft.dot_U is not None:
            self.kl_N[tokens_C] = (
                (soft.dot_U - soft.lse_U)[chunk.word_C] - chunk.dot_C + chunk.lse_C
            )
        elif soft is not None:
            # This is only a part of J_aug. _add_soft_loss adds the rest, which is summed by word.
            self.kl_N[tokens_C] = chunk.lse_C

    # The gradient through the soft targets

    def _through_soft_targets(self, group: Group, soft: SoftTargets) -> None:
        """Add the gradient through y~ (eqs. 10-12), and the part of J_aug summed by word."""
        grad_UV = soft.residual_UV
        assert grad_UV is not None
        if soft.vectors_UE.dtype != grad_UV.dtype:
            U, V = grad_UV.shape
            in_place = self.backend.in_place  # the scores' buffer then has the products' type
            buffer = self.scores if in_place else self.gradient
            grad_UV = buffer.take(U, V, soft.vectors_UE, aligned=in_place)
        dot_U = self.backend.through_soft_targets(soft, grad_UV)
        self._release(soft)
        factor = self._add_soft_loss(soft, dot_U)
        self.gradients.add_words(group.words_U, soft, factor, grad_UV)

    def _add_soft_loss(self, soft: SoftTargets, dot_U: Tensor) -> float | Tensor:
        """Add the part of a group's J_aug that is summed by word.

        Returns:
            The factor of the gradient through the soft target.
        """
        assert soft.weight_U is not None
        scale = self.problem.weight if self.same_weight else 1.0
        self.soft_aug += scale * (dot_U - soft.weight_U * soft.lse_U).sum()
        return scale * (self.problem.alpha / self.problem.temperature)

    # All at once

    def _is_one_chunk(self, group: Group) -> bool:
        """Tell whether the scores of all tokens and their words can be one matrix."""
        is_all = len(group.tokens_N) == len(self.nll_N) <= self.chunk_tokens
        return self.backend.in_place and is_all and self.embedding_VE.dtype == self.hidden_ND.dtype

    def _stream_at_once(self, group: Group, soft: SoftTargets) -> None:
        """Stream all tokens, with the scores of their words below their own in one matrix.

        G then lies above M, and with tied weights three products do the work of six.
        """
        tokens_C = group.tokens_N
        hidden_CD = self.hidden_ND[tokens_C]
        C, U = len(tokens_C), len(soft.vectors_UE)
        held = self._take_scores(C + U, hidden_CD)
        if self.tied:
            matmul(torch.cat((hidden_CD, soft.vectors_UE)), self.classifier_VD.t(), held)
        else:
            matmul(hidden_CD, self.classifier_VD.t(), held[:C])
            matmul(soft.vectors_UE, self.embedding_VE.t(), held[C:])
        chunk = self._chunk_of(held[:C], tokens_C, group, 0)
        dot_U = self._do_words(chunk, soft, held[C:])
        self._keep_losses(chunk, tokens_C, soft)
        if not self.wanted.soft:
            self.gradients.add_tokens(chunk, tokens_C, hidden_CD)
            return
        factor = self._add_soft_loss(soft, dot_U)
        if self.tied and self.wanted.hidden:
            self.gradients.add_all(chunk, hidden_CD, soft, factor, held)
        else:
            self.gradients.add_tokens(chunk, tokens_C, hidden_CD)
            self.gradients.add_words(group.words_U, soft, factor, held[C:])

    def _do_words(self, chunk: Chunk, soft: SoftTargets, scores_UV: Tensor) -> Tensor:
        """Do a backend's work on all tokens: word by word if it can, else in three steps.

        If the gradient through y~ is wanted, the words' scores become M, and ``<y~, r>`` is
        returned. If not, ``soft.dot_U`` is returned.
        """
        if self.backend.words is not None:
            return self.backend.words(chunk, soft, scores_UV)
        self._make_soft_targets(soft, scores_UV)
        self.backend.tokens(chunk, soft)
        if soft.dot_U is not None:
            return soft.dot_U
        dot_U = self.backend.through_soft_targets(soft, scores_UV)
        self._release(soft)
        return dot_U
