"""The steps of the loss in PyTorch's own operations, for every device and type.

The other backends are tested against this one. Every operation passes over memory once, so a chunk
is processed in strips of rows that fit a cache.

Shape letters: C tokens of a chunk, R tokens of a strip, U distinct targets, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tiedlm.loss import buffers
from tiedlm.loss.backends.backend import Chunk, SoftTargets
from tiedlm.loss.grouping import Segment, add_rows
from tiedlm.loss.problem import Problem


class EagerBackend:
    """The steps in PyTorch's operations. Scores have the type of the losses."""

    in_place = False
    by_level = True
    words = None

    def __init__(self, problem: Problem, grad_bias_V: Tensor | None) -> None:
        self.problem, self.grad_bias_V = problem, grad_bias_V
        self.inverse_tau = 1 / problem.temperature
        self.same_weight = problem.weight.dim() == 0
        self.strip, self.rows = buffers.Buffer("strip"), buffers.Buffer("rows")

    @staticmethod
    def serves(problem: Problem) -> bool:
        """Return True: PyTorch's operations serve every problem."""
        return True

    @property
    def chunk(self) -> int:
        """Number of scores in a chunk."""
        return buffers.CHUNK

    def soft_targets(self, scores_UV: Tensor, soft: SoftTargets) -> None:
        """Fill y~, lse, and either dot or the residual, from the words' scores."""
        scores_UV.mul_(self.inverse_tau)
        torch.softmax(scores_UV, dim=-1, out=soft.soft_UV)
        soft.lse_U = _log_mean_exp(scores_UV.amax(-1), soft.soft_UV)
        if soft.residual_UV is None:
            soft.dot_U = scores_UV.mul_(soft.soft_UV).sum(-1)
            return
        assert soft.weight_U is not None
        torch.mul(scores_UV, soft.weight_U.unsqueeze(1), out=soft.residual_UV)

    def tokens(self, chunk: Chunk, soft: SoftTargets | None) -> None:
        """Fill a chunk's losses, and G if it is wanted; subtract its tokens from the residual."""
        C, V = chunk.scores_CV.shape
        step = max(1, buffers.STRIP // V)
        for first in range(0, C, step):
            rows = slice(first, min(first + step, C))
            if soft is None:
                self._plain_strip(chunk, rows)
            else:
                self._strip(chunk, rows, soft)

    def through_soft_targets(self, soft: SoftTargets, grad_UV: Tensor) -> Tensor:
        """Fill M; return ``<y~, r>`` of each word."""
        assert soft.residual_UV is not None
        product_UV = soft.residual_UV.mul_(soft.soft_UV)
        dot_U = product_UV.sum(-1)
        product_UV.addcmul_(soft.soft_UV, dot_U.unsqueeze(1), value=-1)
        if grad_UV.dtype != product_UV.dtype:
            grad_UV.copy_(product_UV)
        return dot_U

    def _plain_strip(self, chunk: Chunk, rows: slice) -> None:
        """Fill J, and G, which is p - onehot, for rows without a soft target."""
        scores_RV = chunk.scores_CV[rows]
        if self.problem.bias_V is not None:
            scores_RV.add_(self.problem.bias_V)
        self._cross_entropy(scores_RV, chunk, rows, out_RV=scores_RV)
        if chunk.grad_CV is None:
            return
        _add_at(scores_RV, chunk.targets_C[rows], -1.0)
        if chunk.grad_CV.dtype != scores_RV.dtype:
            chunk.grad_CV[rows].copy_(scores_RV)

    def _cross_entropy(
        self, logits_RV: Tensor, chunk: Chunk, rows: slice, out_RV: Tensor
    ) -> Tensor:
        """Fill J and write p (eqs. 1 and 2); add the share of p to the bias's gradient.

        Returns:
            ``(R,)``: the largest logit of each token.
        """
        target_R = logits_RV.gather(1, chunk.targets_C[rows].unsqueeze(1)).squeeze(1)
        max_R = logits_RV.amax(-1)
        p_RV = torch.softmax(logits_RV, dim=-1, out=out_RV)
        chunk.nll_C[rows] = (max_R - target_R) - torch.log(p_RV.amax(-1))
        if self.grad_bias_V is not None:
            self.grad_bias_V.addmv_(p_RV.t(), chunk.weight_C[rows])
        return max_R

    def _strip(self, chunk: Chunk, rows: slice, soft: SoftTargets) -> None:
        """Fill J, the parts of J_aug, and G (eq. 9), for rows with a soft target."""
        scores_RV, bias_V = chunk.scores_CV[rows], self.problem.bias_V
        p_RV = self.strip.take(len(scores_RV), scores_RV.shape[1], scores_RV)
        segments = list(chunk.group.segments(chunk.start + rows.start, chunk.start + rows.stop))
        if soft.dot_U is not None:
            for part, words in segments:
                torch.mul(scores_RV[part], self._rows_of(soft.soft_UV, words), out=p_RV[part])
            chunk.dot_C[rows] = p_RV.sum(-1).mul_(self.inverse_tau)

        if bias_V is None:
            max_R = self._cross_entropy(scores_RV, chunk, rows, out_RV=p_RV)
        else:
            max_R = scores_RV.amax(-1)
            torch.add(scores_RV, bias_V, out=p_RV)
            self._cross_entropy(p_RV, chunk, rows, out_RV=p_RV)

        scores_RV.mul_(self.inverse_tau)
        if soft.residual_UV is not None:
            self._subtract_tokens(soft.residual_UV, scores_RV, chunk.weight_C[rows], segments)
        prediction_RV = torch.softmax(scores_RV, dim=-1, out=scores_RV)
        chunk.lse_C[rows] = _log_mean_exp(max_R.mul(self.inverse_tau), prediction_RV)

        if chunk.grad_CV is not None:
            gamma = self.problem.alpha / self.problem.temperature
            for part, words in segments:
                p_RV[part].sub_(self._rows_of(soft.soft_UV, words), alpha=gamma)
            _add_at(p_RV, chunk.targets_C[rows], -1.0)
            torch.add(p_RV, prediction_RV, alpha=gamma, out=chunk.grad_CV[rows])

    def _subtract_tokens(
        self, residual_UV: Tensor, scores_RV: Tensor, weight_R: Tensor, segments: list[Segment]
    ) -> None:
        """Subtract ``w z / tau`` of each token from the residual of its word."""
        weight_R1 = weight_R.unsqueeze(1)
        for rows, words in segments:
            part = scores_RV[rows] if self.same_weight else scores_RV[rows] * weight_R1[rows]
            if isinstance(words, slice):
                residual_UV[words].sub_(part)
            else:
                add_rows(residual_UV, words, part, -1)

    def _rows_of(self, x_UV: Tensor, words: slice | Tensor) -> Tensor:
        """Return rows of a matrix: a view for a slice, a copy for an index."""
        if isinstance(words, slice):
            return x_UV[words]
        out = self.rows.take(len(words), x_UV.shape[1], x_UV)
        return torch.index_select(x_UV, 0, words, out=out)


def _log_mean_exp(max_N: Tensor, softmax_NV: Tensor) -> Tensor:
    """Return ``log mean exp`` of rows, given their maximum and their softmax.

    The largest entry of a softmax is 1 / sum exp(x - max), which gives the sum. The logarithm of
    the mean keeps its digits at high temperature, where all scores are nearly equal. The logarithm
    of the sum would lose them.
    """
    return max_N - torch.log(softmax_NV.amax(-1) * softmax_NV.shape[-1])


def _add_at(x_RV: Tensor, index_R: Tensor, value: float) -> None:
    """Add a number to one entry of each row."""
    index_R1 = index_R.unsqueeze(1)
    x_RV.scatter_add_(1, index_R1, x_RV.new_full(index_R1.shape, value))
