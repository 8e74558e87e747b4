"""The steps of the loss in compiled C, for a CPU.

Each step reads a row of scores once. The kernels are in ``native/losses.c``.

Shape letters: C tokens of a chunk, U distinct targets, V vocabulary.
"""

from __future__ import annotations

import ctypes
from functools import cache

import torch
from torch import Tensor

from tiedlm.arithmetic import kernels_for
from tiedlm.loss import buffers
from tiedlm.loss.backends.backend import Chunk, SoftTargets
from tiedlm.loss.problem import Problem
from tiedlm.native import declare, pointer, rows_of

_LEAST_SHARED = 2**16  # elements; a smaller matrix gets one thread

_pointer, _count, _int, _float = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int, ctypes.c_float
_SIZES = [_count, _count, _int]
_SIGNATURES = {
    "soft_targets": [*_SIZES, _pointer, _count, _int, _float, *[_pointer] * 5],
    "tokens": [
        *_SIZES, _pointer, _count, _int, *[_pointer] * 3, _int, *[_pointer] * 3, _float, _float,
        *[_pointer] * 6,
    ],
    "through_soft_targets": [*_SIZES, *[_pointer] * 4, _count, _int],
    "words": [
        *_SIZES, _pointer, _count, _int, *[_pointer] * 4, _int, _pointer, _pointer, _float, _float,
        *[_pointer] * 8,
    ],
}  # fmt: skip


@cache
def _declare(kernels: ctypes.CDLL) -> None:
    declare(kernels, _SIGNATURES)


class CompiledBackend:
    """The backend of ``losses.c``. One thread computes all tokens of a word."""

    in_place = True
    by_level = False

    def __init__(self, problem: Problem, grad_bias_V: Tensor | None) -> None:
        kernels = _kernels_for(problem)
        assert kernels is not None
        _declare(kernels)
        self.kernels, self.grad_bias_V = kernels, grad_bias_V
        self.same_weight = int(problem.weight.dim() == 0)
        self.inverse_tau = 1 / problem.temperature
        self.gamma = problem.alpha / problem.temperature
        self.like, self.threads = problem.weight, torch.get_num_threads()
        self.bias_V = None
        if problem.bias_V is not None:
            self.bias_V = problem.bias_V.to(self.like.dtype).contiguous()

    @staticmethod
    def serves(problem: Problem) -> bool:
        """Tell whether the kernels work, are on, and suit a problem.

        They need a CPU, and float32 with products in float32 or bfloat16.
        """
        return _kernels_for(problem) is not None

    @property
    def chunk(self) -> int:
        """Number of scores in a chunk."""
        return buffers.CHUNK

    def soft_targets(self, scores_UV: Tensor, soft: SoftTargets) -> None:
        """Fill y~, lse, and either dot or the residual, from the words' scores."""
        self.kernels.soft_targets(
            *scores_UV.shape, self._threads_for(scores_UV), *rows_of(scores_UV), self.inverse_tau,
            pointer(soft.weight_U), pointer(soft.soft_UV), pointer(soft.lse_U),
            pointer(soft.dot_U), pointer(soft.residual_UV),
        )  # fmt: skip

    def tokens(self, chunk: Chunk, soft: SoftTargets | None) -> None:
        """Fill a chunk's losses, and G if it is wanted; subtract its tokens from the residual."""
        C, V = chunk.scores_CV.shape
        threads = self._threads_for(chunk.scores_CV)
        scratch, grad_bias = self.like.new_empty(threads, 2, V), self._bias_shares(threads, V)
        self.kernels.tokens(
            C, V, threads, *rows_of(chunk.scores_CV), pointer(self.bias_V),
            pointer(chunk.targets_C), pointer(chunk.weight_C), self.same_weight,
            pointer(chunk.word_C), pointer(soft.soft_UV if soft else None),
            pointer(soft.residual_UV if soft else None), self.inverse_tau, self.gamma,
            pointer(chunk.nll_C), pointer(chunk.lse_C), pointer(chunk.dot_C),
            _address(chunk.grad_CV), pointer(grad_bias), pointer(scratch),
        )  # fmt: skip
        self._add_bias_shares(grad_bias)

    def through_soft_targets(self, soft: SoftTargets, grad_UV: Tensor) -> Tensor:
        """Fill M, perhaps in place of the residual; return ``<y~, r>`` of each word."""
        dot_U = torch.empty_like(soft.lse_U)
        self.kernels.through_soft_targets(
            *grad_UV.shape, self._threads_for(grad_UV), pointer(soft.residual_UV),
            pointer(soft.soft_UV), pointer(dot_U), *rows_of(grad_UV),
        )  # fmt: skip
        return dot_U

    def words(self, chunk: Chunk, soft: SoftTargets, scores_UV: Tensor) -> Tensor:
        """Do all three steps for all tokens, word by word, with a word's y~ and r in a cache."""
        C, V = chunk.scores_CV.shape
        threads = self._threads_for(chunk.scores_CV)
        dot_U = torch.empty_like(soft.lse_U) if soft.dot_U is None else soft.dot_U
        scratch, grad_bias = self.like.new_empty(threads, 4, V), self._bias_shares(threads, V)
        self.kernels.words(
            C, V, threads, *rows_of(chunk.scores_CV), _address(scores_UV), pointer(self.bias_V),
            pointer(chunk.targets_C), pointer(chunk.weight_C), self.same_weight,
            pointer(chunk.word_C), pointer(soft.weight_U), self.inverse_tau, self.gamma,
            pointer(chunk.nll_C), pointer(chunk.lse_C), pointer(chunk.dot_C), pointer(soft.lse_U),
            pointer(dot_U), _address(chunk.grad_CV), pointer(grad_bias), pointer(scratch),
        )  # fmt: skip
        self._add_bias_shares(grad_bias)
        return dot_U

    def _threads_for(self, x: Tensor) -> int:
        """Return how many threads work on a matrix."""
        return self.threads if x.numel() >= _LEAST_SHARED else 1

    def _bias_shares(self, threads: int, V: int) -> Tensor | None:
        """Return zeros ``(threads, V)`` for the threads' shares of the bias's gradient, or None."""
        return None if self.grad_bias_V is None else self.like.new_zeros(threads, V)

    def _add_bias_shares(self, shares: Tensor | None) -> None:
        """Add the threads' shares to the bias's gradient, if it is wanted."""
        if self.grad_bias_V is not None and shares is not None:
            self.grad_bias_V += shares.sum(0)


def _kernels_for(problem: Problem) -> ctypes.CDLL | None:
    work = len(problem.targets_N) * len(problem.classifier_VD)
    return kernels_for(problem.weight, products=problem.gemm_dtype, work=work)


def _address(rows: Tensor | None) -> int | None:
    """Return the address of a matrix with the row stride of the scores; None for no matrix."""
    return None if rows is None else rows.data_ptr()
