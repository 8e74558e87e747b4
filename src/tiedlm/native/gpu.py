"""The steps of the loss with Triton's kernels, for a GPU.

``TIEDLM_TRITON=0`` turns them off, and those of the networks. On a CPU Triton's interpreter runs
them, for tests, where ``TIEDLM_TRITON`` and ``TRITON_INTERPRET`` are 1.

Shape letters: C tokens of a chunk, U distinct targets, V vocabulary; S is how many numbers a row of
scores is from the next.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from tiedlm.grouping import Group, single_tokens
from tiedlm.native.streaming import Chunk, NativeStream
from tiedlm.streaming import SoftTargets, Streamed
from tiedlm.tracing import is_recording

ON = "TIEDLM_TRITON"  # environment variable
_TYPES = (torch.float32, torch.bfloat16, torch.float16)
_ROWS = 16  # whose share of the bias's gradient a program sums, one after the other
_CHUNK = 2**26  # numbers of a chunk: a GPU has no cache to spare, and memory enough


def is_for(*tensors: Tensor, products: torch.dtype) -> bool:
    """Tell whether Triton's kernels are on, and serve tensors like these with such products."""
    if products not in _TYPES or torch.compiler.is_compiling():
        return False
    if any(t.dtype != torch.float32 for t in tensors):
        return False
    if all(t.is_cuda for t in tensors):
        device = tensors[0].device
        return not why_not(device) and (
            products != torch.bfloat16 or torch.cuda.get_device_capability(device) >= (8, 0)
        )
    interprets = os.environ.get(ON) == os.environ.get("TRITON_INTERPRET") == "1"
    return interprets and _is_installed()


def why_not(device: torch.device) -> str:
    """Return why Triton's kernels do not run on a GPU, or "" where they do."""
    if os.environ.get(ON) == "0":
        return f"{ON}=0"
    return _why_not(device.index if device.index is not None else torch.cuda.current_device())


@cache
def _why_not(index: int) -> str:
    if torch.version.hip is not None:
        return "tried on NVIDIA's GPUs only"
    if not _is_installed():
        return "Triton is not installed"
    if torch.cuda.get_device_capability(index) < (7, 0):
        return "the GPU is too old for Triton"
    try:
        from tiedlm.native import triton_kernels

        with torch.cuda.device(index):
            triton_kernels.probe[(1,)](torch.empty(1, device="cuda"))
    except Exception as error:  # it compiles at run time: a compiler, headers, a driver may lack
        return f"Triton fails here: {' '.join(str(error).split()) or type(error).__name__}"
    return ""


def version() -> str | None:
    """Return Triton's version where its kernels run on the current GPU, else None."""
    if not torch.cuda.is_available() or why_not(torch.device("cuda")):
        return None
    import triton

    return str(triton.__version__)


def describe() -> str:
    """Return what ``tiedlm info`` says of the current GPU."""
    reason = why_not(torch.device("cuda"))
    return f"PyTorch's ({reason})" if reason else "Triton's"


@cache
def _is_installed() -> bool:
    return importlib.util.find_spec("triton") is not None


class TritonStream(NativeStream):
    """A stream whose pointwise work is Triton's."""

    def run(self) -> Streamed:
        """Stream all tokens, on the device where they are."""
        with torch.cuda.device_of(self.nll_N):  # type: ignore[no-untyped-call]
            return super().run()

    def groups(self) -> Iterable[Group]:
        """Return the tokens word by word, or one by one where nothing may depend on them."""
        targets_N = self.problem.targets_N
        if self.problem.alpha and is_recording(targets_N):
            return single_tokens(targets_N, self.words)
        return super().groups()

    def most_numbers(self) -> int:
        """Return how many numbers a chunk has, where that is not too few tokens."""
        return _CHUNK if self.problem.weight.is_cuda else super().most_numbers()

    def make_buffers(self, V: int, like: Tensor) -> None:
        """Make what is used again and again."""
        from tiedlm.native import triton_kernels  # where Triton is installed

        super().make_buffers(V, like)
        self.triton: Any = triton_kernels
        self.block = min(triton_kernels.BLOCK, 1 << (V - 1).bit_length())
        self.blocks = -(-V // self.block)

    def fill_soft_targets(self, scores_UV: Tensor, soft: SoftTargets) -> None:
        """Fill all but the vectors and the weights, from the words' scores."""
        U, V = scores_UV.shape
        none = scores_UV  # stands for what is not there
        has_residual = soft.residual_UV is not None
        self.triton.soft_targets[(U,)](
            scores_UV, soft.weight_U if has_residual else none, soft.soft_UV, soft.lse_U,
            none if has_residual else soft.dot_U, soft.residual_UV if has_residual else none,
            V, scores_UV.stride(0), 1 / self.problem.temperature, HAS_RESIDUAL=has_residual,
            B=self.block,
        )  # fmt: skip

    def work_on_tokens(self, chunk: Chunk, soft: SoftTargets | None, wants_grad: bool) -> None:
        """Fill a chunk's losses, take it off the residual, turn its scores into G if wanted."""
        scores_CV = chunk.scores_CV
        (C, V), S = scores_CV.shape, scores_CV.stride(0)
        inverse_tau = 1 / self.problem.temperature
        stats_C4 = chunk.nll_C.new_empty(C, 4)
        bias_V = scores_CV if self.bias_V is None else self.bias_V
        soft_UV = scores_CV if soft is None else soft.soft_UV
        options = {
            "HAS_BIAS": self.bias_V is not None, "HAS_SOFT": soft is not None, "B": self.block
        }  # fmt: skip
        self.triton.statistics[(C,)](
            scores_CV, bias_V, chunk.targets_C, chunk.word_C, soft_UV, chunk.nll_C, chunk.lse_C,
            chunk.dot_C, stats_C4, V, S, inverse_tau,
            WANTS_DOT=soft is not None and soft.dot_U is not None, **options,
        )  # fmt: skip
        if soft is not None and soft.residual_UV is not None:
            U = len(soft.residual_UV)
            words = torch.arange(U + 1, device=scores_CV.device)
            self.triton.subtract_tokens[(U, self.blocks)](
                scores_CV, torch.searchsorted(chunk.word_C, words), chunk.weight_C,
                soft.residual_UV, V, S, inverse_tau, HAS_WEIGHTS=not self.same_weight, B=self.block,
            )  # fmt: skip
        if self.grad_bias_V is not None:
            shares = -(-C // _ROWS)
            part_SV = self.grad_bias_V.new_empty(shares, V)
            self.triton.bias_gradient[(shares, self.blocks)](
                scores_CV, bias_V, chunk.weight_C, stats_C4, part_SV, C, V, S,
                ROWS=_ROWS, B=self.block,
            )  # fmt: skip
            self.grad_bias_V += part_SV.sum(0)
        if wants_grad:
            gamma = self.problem.alpha * inverse_tau
            self.triton.gradient[(C, self.blocks)](
                scores_CV, bias_V, chunk.targets_C, chunk.word_C, soft_UV, stats_C4, V, S,
                inverse_tau, gamma, **options,
            )  # fmt: skip

    def work_on_words(
        self, chunk: Chunk, soft: SoftTargets, word_scores_UV: Tensor, wants_grad: bool
    ) -> Tensor:
        """Do the work of the other three for all tokens and their words, one after the other."""
        self.make_soft_targets(soft, word_scores_UV)
        self.work_on_tokens(chunk, soft, wants_grad)
        if soft.dot_U is not None:
            return soft.dot_U
        dot_U = torch.empty_like(soft.lse_U)
        self.fill_soft_gradient(soft, dot_U, word_scores_UV)
        soft.release()
        return dot_U

    def fill_soft_gradient(self, soft: SoftTargets, dot_U: Tensor, grad_UV: Tensor) -> None:
        """Fill ``<y~, r>`` and ``M``."""
        U, V = grad_UV.shape
        self.triton.through_soft_targets[(U,)](
            soft.residual_UV, soft.soft_UV, dot_U, grad_UV, V, grad_UV.stride(0), B=self.block
        )
