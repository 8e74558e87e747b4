"""The steps of the loss in Triton, for a GPU.

The kernels are in ``triton_kernels.py``, which is imported only where Triton is installed.

Shape letters: C tokens of a chunk, U distinct targets, V vocabulary; S is the row stride of the
scores, in numbers.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tiedlm.loss import buffers
from tiedlm.loss.backends.backend import Chunk, SoftTargets
from tiedlm.loss.problem import Problem
from tiedlm.native import triton as detection

_ROWS = 16  # tokens whose share of the bias's gradient one program sums


class TritonBackend:
    """The kernels of ``triton_kernels.py``."""

    in_place = True
    by_level = False
    words = None

    def __init__(self, problem: Problem, grad_bias_V: Tensor | None) -> None:
        from tiedlm.loss.backends import triton_kernels  # where Triton is installed

        self.kernels: Any = triton_kernels
        self.grad_bias_V, self.like = grad_bias_V, problem.weight
        self.has_weights = problem.weight.dim() > 0
        self.inverse_tau = 1 / problem.temperature
        self.gamma = problem.alpha * self.inverse_tau
        self.bias_V = None
        if problem.bias_V is not None:
            self.bias_V = problem.bias_V.to(self.like.dtype).contiguous()
        V = len(problem.classifier_VD)
        self.block = min(triton_kernels.BLOCK, 1 << (V - 1).bit_length())
        self.blocks = -(-V // self.block)

    @staticmethod
    def serves(problem: Problem) -> bool:
        """Tell whether Triton works, is on, and suits a problem.

        It needs a GPU, and float32 with products in any type that the GPU multiplies.
        """
        return detection.is_for(problem.weight, products=problem.gemm_dtype)

    @property
    def chunk(self) -> int:
        """Number of scores in a chunk."""
        return buffers.GPU_CHUNK if self.like.is_cuda else buffers.CHUNK

    def soft_targets(self, scores_UV: Tensor, soft: SoftTargets) -> None:
        """Fill y~, lse, and either dot or the residual, from the words' scores."""
        U, V = scores_UV.shape
        none = scores_UV  # a pointer for arguments that the kernel does not read
        has_residual = soft.residual_UV is not None
        self.kernels.soft_targets[(U,)](
            scores_UV, soft.weight_U if has_residual else none, soft.soft_UV, soft.lse_U,
            none if has_residual else soft.dot_U, soft.residual_UV if has_residual else none,
            V, scores_UV.stride(0), self.inverse_tau, HAS_RESIDUAL=has_residual, B=self.block,
        )  # fmt: skip

    def tokens(self, chunk: Chunk, soft: SoftTargets | None) -> None:
        """Fill a chunk's losses, and G if it is wanted; subtract its tokens from the residual."""
        scores_CV = chunk.scores_CV
        (C, V), S = scores_CV.shape, scores_CV.stride(0)
        stats_C4 = chunk.nll_C.new_empty(C, 4)
        bias_V = scores_CV if self.bias_V is None else self.bias_V
        soft_UV = scores_CV if soft is None else soft.soft_UV
        options = {
            "HAS_BIAS": self.bias_V is not None, "HAS_SOFT": soft is not None, "B": self.block
        }  # fmt: skip
        self.kernels.statistics[(C,)](
            scores_CV, bias_V, chunk.targets_C, chunk.word_C, soft_UV, chunk.nll_C, chunk.lse_C,
            chunk.dot_C, stats_C4, V, S, self.inverse_tau,
            WANTS_DOT=soft is not None and soft.dot_U is not None, **options,
        )  # fmt: skip
        if soft is not None and soft.residual_UV is not None:
            self._subtract_tokens(chunk, soft.residual_UV)
        if self.grad_bias_V is not None:
            shares = -(-C // _ROWS)
            part_SV = self.grad_bias_V.new_empty(shares, V)
            self.kernels.bias_gradient[(shares, self.blocks)](
                scores_CV, bias_V, chunk.weight_C, stats_C4, part_SV, C, V, S,
                ROWS=_ROWS, B=self.block,
            )  # fmt: skip
            self.grad_bias_V += part_SV.sum(0)
        if chunk.grad_CV is not None:  # the scores themselves
            self.kernels.gradient[(C, self.blocks)](
                scores_CV, bias_V, chunk.targets_C, chunk.word_C, soft_UV, stats_C4, V, S,
                self.inverse_tau, self.gamma, **options,
            )  # fmt: skip

    def through_soft_targets(self, soft: SoftTargets, grad_UV: Tensor) -> Tensor:
        """Fill M, perhaps in place of the residual; return ``<y~, r>`` of each word."""
        U, V = grad_UV.shape
        dot_U = torch.empty_like(soft.lse_U)
        self.kernels.through_soft_targets[(U,)](
            soft.residual_UV, soft.soft_UV, dot_U, grad_UV, V, grad_UV.stride(0), B=self.block
        )
        return dot_U

    def _subtract_tokens(self, chunk: Chunk, residual_UV: Tensor) -> None:
        """Subtract ``w z / tau`` of each token of a chunk from the residual of its word."""
        scores_CV, U = chunk.scores_CV, len(residual_UV)
        words = torch.arange(U + 1, device=scores_CV.device)
        self.kernels.subtract_tokens[(U, self.blocks)](
            scores_CV, torch.searchsorted(chunk.word_C, words), chunk.weight_C, residual_UV,
            scores_CV.shape[1], scores_CV.stride(0), self.inverse_tau,
            HAS_WEIGHTS=self.has_weights, B=self.block,
        )  # fmt: skip
