"""The recurrence of an LSTM layer in Triton, for a GPU: one launch runs a whole window.

A program of the launch owns some hidden units of some streams. The kernels are in
``triton_kernels.py``, which is imported only where Triton is installed.

Shape letters: B streams, T steps, H hidden width, G = 4H gates (i, f, g, o). R, C and P are B and H
rounded up to whole blocks: R in streams, C in units of a program, P in numbers summed at a time.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from tiedlm.native import gpu_shared_by
from tiedlm.native import triton as detection

_MOST_STREAMS = 64  # per program
_UNITS = 16  # per program: the fewest that a matrix unit multiplies
_BYTES_SUMMED = 256  # of each row, which a product sums at a time; twice as many in backward
_REGISTERS = 128 * 256  # per program at most: 128 threads with 256 each
_STAGES = 3  # most loads of a product's operands in flight at once


class _Blocks(NamedTuple):
    """How the work is cut into Triton programs.

    Args:
        across: programs side by side, each with its own units.
        down: programs one below the other, each with its own streams.
        streams: streams of a program.
        units: hidden units of a program.
        summed: elements that a product sums at a time.
        P: hidden width rounded up to a multiple of ``summed``.
    """

    across: int
    down: int
    streams: int
    units: int
    summed: int
    P: int

    @property
    def programs(self) -> int:
        return self.across * self.down

    @property
    def R(self) -> int:
        return self.down * self.streams

    @property
    def C(self) -> int:
        return self.across * self.units


def _blocks(gates_TBG: Tensor, products: torch.dtype) -> _Blocks:
    """Return how the work on these gates is cut into programs."""
    _, B, G = gates_TBG.shape
    if gates_TBG.is_cuda:
        return _cut(B, G // 4, products, _MOST_STREAMS, _UNITS)
    # One program only: programs wait for each other, but Triton's interpreter runs them in
    # sequence.
    return _cut(B, G // 4, products, 2**20, 2**20)


def _cut(B: int, H: int, products: torch.dtype, most_streams: int, most_units: int) -> _Blocks:
    """Cut B streams and H units into programs of powers of two, 16 or more of each."""
    streams = min(most_streams, max(16, 1 << (B - 1).bit_length()))
    units = min(most_units, max(16, 1 << (H - 1).bit_length()))
    summed = _BYTES_SUMMED // products.itemsize
    padded = -(-H // summed) * summed
    return _Blocks(-(-H // units), -(-B // streams), streams, units, summed, padded)


def serves(*tensors: Tensor | None, products: torch.dtype) -> bool:
    """Tell whether :func:`run_forward` and :func:`run_backward` work on these tensors.

    Args:
        tensors: the gates ``(T, B, G)`` first, then the others that are read.
        products: type of the matrix products' operands.
    """
    gates_TBG = tensors[0]
    if gates_TBG is None or gates_TBG.numel() == 0:
        return False
    if not detection.is_for(*(t for t in tensors if t is not None), products=products):
        return False
    blocks, steps = _blocks(gates_TBG, products), len(gates_TBG)
    if max(gates_TBG.numel(), steps * blocks.R * 4 * blocks.P) >= 2**31:
        return False  # the kernels count positions in 32 bits
    if not gates_TBG.is_cuda:
        return True
    # Programs wait for each other. So all must fit on the GPU at once, beside the programs of other
    # processes.
    properties = torch.cuda.get_device_properties(gates_TBG.device)
    return blocks.programs * gpu_shared_by() <= _held_at_once(properties, blocks.streams)


def _held_at_once(properties: Any, streams: int) -> int:
    """Return how many programs with this many streams run on a GPU at once."""
    # Older versions of PyTorch lack these properties. Every GPU that Triton supports has at least
    # these values.
    registers = getattr(properties, "regs_per_multiprocessor", 2**16)
    memory = getattr(properties, "shared_memory_per_multiprocessor", 2**16)
    forward, backward = (
        (streams + 4 * _UNITS) * _BYTES_SUMMED,
        (streams + _UNITS) * 2 * _BYTES_SUMMED,
    )
    each = min(registers // _REGISTERS, memory // (_STAGES * max(forward, backward)))
    return int(properties.multi_processor_count * each)


def run_forward(
    gates_TBG: Tensor,
    c_BH: Tensor,
    recurrent_BH: Tensor,
    weight_hh_GH: Tensor,
    mask_BH: Tensor | None,
    cells_TBH: Tensor,
    tanh_cells_TBH: Tensor,
    output_TBH: Tensor,
) -> None:
    """Run through the steps; write the last three tensors, and the gates over ``gates_TBG``.

    ``gates_TBG`` holds the input projections at first.
    """
    from tiedlm.networks.backends import triton_kernels  # where Triton is installed

    T, B, H = cells_TBH.shape
    blocks = _blocks(gates_TBG, weight_hh_GH.dtype)
    R, C, P = blocks.R, blocks.C, blocks.P
    previous_TRP = weight_hh_GH.new_zeros(T + 1, R, P)
    previous_TRP[0, :B, :H] = recurrent_BH
    weight_4CP = weight_hh_GH.new_zeros(4, C, P)
    weight_4CP[:, :H, :H] = weight_hh_GH.view(4, H, H)
    keep_BH = c_BH if mask_BH is None else mask_BH.contiguous()
    arrived = torch.zeros(1, dtype=torch.int32, device=gates_TBG.device)
    with torch.cuda.device_of(gates_TBG):  # type: ignore[no-untyped-call]
        triton_kernels.forward[(blocks.across, blocks.down)](
            gates_TBG, c_BH.contiguous(), previous_TRP, weight_4CP, keep_BH,
            cells_TBH, tanh_cells_TBH, output_TBH, arrived, T, B, H, R, C, P, blocks.programs,
            HAS_MASK=mask_BH is not None, N=blocks.streams, U=blocks.units, K=blocks.summed,
        )  # fmt: skip


def run_backward(
    gates_TBG: Tensor,
    c_BH: Tensor,
    cells_TBH: Tensor,
    tanh_cells_TBH: Tensor,
    weight_hh_GH: Tensor,
    mask_BH: Tensor | None,
    grad_output_TBH: Tensor,
    grad_h_BH: Tensor,
    grad_c_BH: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of the gates' inputs, also in the GEMMs' type, and of ``c_BH``."""
    from tiedlm.networks.backends import triton_kernels  # where Triton is installed

    T, B, H = cells_TBH.shape
    blocks = _blocks(gates_TBG, weight_hh_GH.dtype)
    R, C, P = blocks.R, blocks.C, blocks.P
    keep_BH = c_BH if mask_BH is None else mask_BH.contiguous()
    grad_cell_BH = grad_c_BH.clone(memory_format=torch.contiguous_format)
    grad_gates_TBG = factor_TBG = torch.empty_like(gates_TBG)
    if weight_hh_GH.dtype != gates_TBG.dtype:
        factor_TBG = torch.empty_like(gates_TBG, dtype=weight_hh_GH.dtype)
    factor_TR4P = weight_hh_GH.new_zeros(T, R, 4, P)
    weight_C4P = weight_hh_GH.new_zeros(C, 4, P)
    weight_C4P[:H, :, :H] = weight_hh_GH.view(4, H, H).permute(2, 0, 1)
    arrived = torch.zeros(1, dtype=torch.int32, device=gates_TBG.device)
    with torch.cuda.device_of(gates_TBG):  # type: ignore[no-untyped-call]
        triton_kernels.backward[(blocks.across, blocks.down)](
            gates_TBG, c_BH.contiguous(), cells_TBH, tanh_cells_TBH, weight_C4P,
            keep_BH, grad_output_TBH.contiguous(), grad_h_BH.contiguous(),
            grad_cell_BH, grad_gates_TBG, factor_TBG, factor_TR4P, arrived,
            T, B, H, R, P, blocks.programs,
            HAS_MASK=mask_BH is not None, HAS_FACTOR=factor_TBG is not grad_gates_TBG,
            N=blocks.streams, U=blocks.units, K=2 * blocks.summed,
        )  # fmt: skip
    return grad_gates_TBG, factor_TBG, grad_cell_BH
