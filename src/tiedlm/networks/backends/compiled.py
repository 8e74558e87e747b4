"""The recurrence of an LSTM layer compiled for a CPU (``native/lstm.c``).

In float32 one call runs a whole window, matrix products included. It lays the weight out in memory
first, which does not pay in a short window. There, and with bfloat16 operands, each step is a
library's matrix product and one call of a kernel.

Shape letters: B streams, T steps, H hidden width, G = 4H gates (i, f, g, o).
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from tiedlm.matmul import multiplier
from tiedlm.native import declare, pointer, type_of

_LEAST_STEPS = 4  # steps; a shorter window is not run as one call
_LEAST_SHARED = 2**17  # multiplications in a quarter of a step; with fewer, one thread is faster
_PANEL = 32  # the widest panel of lstm.c

_pointer, _int = ctypes.c_void_p, ctypes.c_int
_SIZES = [ctypes.c_int64, ctypes.c_int64, _int]
_WINDOW = [*[ctypes.c_int64] * 3, _int]
_SIGNATURES = {
    "lstm_forward": [*_WINDOW, *[_pointer] * 9],
    "lstm_backward": [*_WINDOW, *[_pointer] * 11],
    "lstm_step": [*_SIZES, _pointer, _pointer, _int, *[_pointer] * 6],
    "lstm_step_backward": [*_SIZES, *[_pointer] * 6, _int, *[_pointer] * 4],
}


@cache
def _declare(kernels: ctypes.CDLL) -> None:
    """Declare the argument types of the kernels in ``lstm.c``."""
    declare(kernels, _SIGNATURES)


def run_forward(
    kernels: ctypes.CDLL,
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
    _declare(kernels)
    T, B, H = cells_TBH.shape
    c_BH, mask_BH = c_BH.contiguous(), None if mask_BH is None else mask_BH.contiguous()
    factor_BH = recurrent_BH.to(weight_hh_GH.dtype).contiguous()
    if not _is_one_call(weight_hh_GH, T):
        _step_forward(
            kernels, gates_TBG, c_BH, factor_BH, weight_hh_GH, mask_BH,
            cells_TBH, tanh_cells_TBH, output_TBH,
        )  # fmt: skip
        return
    weight_hh_GH, packed = weight_hh_GH.contiguous(), _room_for(weight_hh_GH)
    kernels.lstm_forward(
        T, B, H, _threads_for(B, H), pointer(weight_hh_GH), pointer(packed),
        pointer(gates_TBG), pointer(factor_BH), pointer(c_BH), pointer(mask_BH),
        pointer(cells_TBH), pointer(tanh_cells_TBH), pointer(output_TBH),
    )  # fmt: skip


def _step_forward(
    kernels: ctypes.CDLL,
    gates_TBG: Tensor,
    c_BH: Tensor,
    factor_BH: Tensor,
    weight_hh_GH: Tensor,
    mask_BH: Tensor | None,
    cells_TBH: Tensor,
    tanh_cells_TBH: Tensor,
    output_TBH: Tensor,
) -> None:
    """Do the work of :func:`run_forward` with one library product and one kernel call per step.

    ``factor_BH`` is the masked hidden state before the first step, in the type of the weight.
    """
    T, B, H = cells_TBH.shape
    multiply = multiplier(weight_hh_GH, B)
    type_, threads = type_of(weight_hh_GH), torch.get_num_threads()
    low_BH = torch.empty_like(factor_BH) if weight_hh_GH.dtype != output_TBH.dtype else None
    before, mask, low = pointer(c_BH), pointer(mask_BH), pointer(low_BH)
    gates, cells, tanh_cells, outputs = map(
        _pointers, (gates_TBG, cells_TBH, tanh_cells_TBH, output_TBH)
    )
    for t in range(T):
        product_BG = multiply(factor_BH)
        kernels.lstm_step(
            B, H, threads, gates[t], product_BG.data_ptr(), type_, before, mask, cells[t],
            tanh_cells[t], outputs[t], low,
        )  # fmt: skip
        before = cells[t]
        factor_BH = output_TBH[t] if low_BH is None else low_BH


def run_backward(
    kernels: ctypes.CDLL,
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
    _declare(kernels)
    T, B, H = cells_TBH.shape
    c_BH, grad_h_BH = c_BH.contiguous(), grad_h_BH.contiguous()
    mask_BH = None if mask_BH is None else mask_BH.contiguous()
    grad_cell_BH = grad_c_BH.clone(memory_format=torch.contiguous_format)
    if not _is_one_call(weight_hh_GH, T):
        grad_gates_TBG, factor_TBG = _step_backward(
            kernels, gates_TBG, c_BH, cells_TBH, tanh_cells_TBH, weight_hh_GH, mask_BH,
            grad_output_TBH, grad_h_BH, grad_cell_BH,
        )  # fmt: skip
        return grad_gates_TBG, factor_TBG, grad_cell_BH
    grad_gates_TBG = torch.empty_like(gates_TBG)
    grad_output_TBH = grad_output_TBH.contiguous()
    weight_hh_GH, packed = weight_hh_GH.contiguous(), _room_for(weight_hh_GH)
    kernels.lstm_backward(
        T, B, H, _threads_for(B, H), pointer(weight_hh_GH), pointer(packed),
        pointer(gates_TBG), pointer(c_BH), pointer(mask_BH), pointer(cells_TBH),
        pointer(tanh_cells_TBH), pointer(grad_output_TBH), pointer(grad_h_BH),
        pointer(grad_cell_BH), pointer(grad_gates_TBG),
    )  # fmt: skip
    return grad_gates_TBG, grad_gates_TBG, grad_cell_BH


def _step_backward(
    kernels: ctypes.CDLL,
    gates_TBG: Tensor,
    c_BH: Tensor,
    cells_TBH: Tensor,
    tanh_cells_TBH: Tensor,
    weight_hh_GH: Tensor,
    mask_BH: Tensor | None,
    grad_output_TBH: Tensor,
    grad_h_BH: Tensor,
    grad_cell_BH: Tensor,
) -> tuple[Tensor, Tensor]:
    """Do the work of :func:`run_backward` with one library product and one kernel call per step.

    ``grad_cell_BH`` is the gradient of the last cell state, and becomes the gradient of ``c_BH``.

    Returns:
        The gradients of the gates' inputs, also in the GEMMs' type.
    """
    T, B, H = cells_TBH.shape
    grad_gates_TBG = torch.empty_like(gates_TBG)
    multiply = multiplier(weight_hh_GH.t(), B)
    type_, threads = type_of(weight_hh_GH), torch.get_num_threads()
    # A copy, because the step adds to the gradient of its output, and autograd owns that.
    grad_hidden_TBH = grad_output_TBH.clone(memory_format=torch.contiguous_format)
    factor_TBG = grad_gates_TBG
    low: Sequence[int | None] = [None] * T
    if weight_hh_GH.dtype != gates_TBG.dtype:
        factor_TBG = torch.empty_like(gates_TBG, dtype=weight_hh_GH.dtype)
        low = _pointers(factor_TBG)
    before = [pointer(c_BH), *_pointers(cells_TBH)]
    gates, tanh_cells, grad_hidden, grad_gates = map(
        _pointers, (gates_TBG, tanh_cells_TBH, grad_hidden_TBH, grad_gates_TBG)
    )
    mask, grad_cell, product_BH = pointer(mask_BH), pointer(grad_cell_BH), None
    for t in range(T - 1, -1, -1):
        is_last = t == T - 1
        if not is_last:
            product_BH = multiply(factor_TBG[t + 1])
        kernels.lstm_step_backward(
            B, H, threads, gates[t], before[t], tanh_cells[t], mask, grad_hidden[t],
            pointer(product_BH), 0 if is_last else type_, pointer(grad_h_BH) if is_last else None,
            grad_cell, grad_gates[t], low[t],
        )  # fmt: skip
    return grad_gates_TBG, factor_TBG


def _is_one_call(weight_hh_GH: Tensor, steps: int) -> bool:
    """Tell whether one call runs the window: in float32, and if laying out the weight pays."""
    return weight_hh_GH.dtype == torch.float32 and steps >= _LEAST_STEPS


def _room_for(weight_hh_GH: Tensor) -> Tensor:
    """Allocate memory for the weight in the layout of ``lstm.c``."""
    G, H = weight_hh_GH.shape
    return weight_hh_GH.new_empty(G, -(-H // _PANEL) * _PANEL)


def _threads_for(B: int, H: int) -> int:
    """Return how many threads share the steps of a window; they meet after every step."""
    return torch.get_num_threads() if B * H * H >= _LEAST_SHARED else 1


def _pointers(x_TBX: Tensor) -> list[int]:
    """Return the address of each step's part of a tensor."""
    first = pointer(x_TBX)
    assert first is not None
    size = x_TBX.stride(0) * x_TBX.element_size()
    return [first + t * size for t in range(len(x_TBX))]
