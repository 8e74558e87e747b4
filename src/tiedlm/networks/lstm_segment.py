"""An LSTM layer for dynamic evaluation: it reads a few words of one stream, without autograd.

It gives the same results as ``lstm_layer_reference``. :func:`backward` returns the gradient of the
gates, from which ``by_hand.py`` updates the weights. In float32 on a CPU the compiled kernels of
``native/narrow.c`` compute all products, because libraries are slow for one stream of five words.

Shape letters: T words, E input width, H hidden width, G = 4H gates (i, f, g, o), P rows and K
columns of a weight.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from tiedlm.native import pointer
from tiedlm.networks.lstm_function import recurrence
from tiedlm.networks.narrow import few_rows, narrow_kernels

_LEAST_SHARED = 2**17  # multiplications of a step; with fewer, one thread is faster


class Steps(NamedTuple):
    """The steps of a layer, kept for :func:`backward`.

    Args:
        c_H: the cell state before the first step.
        hidden_SH: the hidden states, with S = T + 1: the first is the state before the segment.
        gates_TG: the gates.
        cells_TH: the cell states.
        tanh_cells_TH: their tanh.
    """

    c_H: Tensor
    hidden_SH: Tensor
    gates_TG: Tensor
    cells_TH: Tensor
    tanh_cells_TH: Tensor


def forward(
    x_TE: Tensor, h_H: Tensor, c_H: Tensor, weight_ih_GE: Tensor, weight_hh_GH: Tensor,
    bias_G: Tensor,
) -> Steps:  # fmt: skip
    """Read words without dropout; ``lstm_layer_reference`` explains the arguments."""
    gates_TG = few_rows(x_TE, weight_ih_GE, bias_G)
    T, H = len(gates_TG), len(h_H)
    cells_TH, tanh_cells_TH = gates_TG.new_empty(2, T, H).unbind(0)
    hidden_SH = gates_TG.new_empty(T + 1, H)
    hidden_SH[0] = h_H
    c_H = c_H.contiguous()
    kernels = narrow_kernels(weight_hh_GH, gates_TG)
    if kernels is None:
        run, _ = recurrence(gates_TG, c_H, products=gates_TG.dtype)
        run(
            gates_TG[:, None], c_H[None], hidden_SH[:1], weight_hh_GH, None, cells_TH[:, None],
            tanh_cells_TH[:, None], hidden_SH[1:, None],
        )  # fmt: skip
    else:
        kernels.narrow_lstm(
            T, H, _threads_for(weight_hh_GH), pointer(weight_hh_GH), pointer(gates_TG),
            pointer(hidden_SH), pointer(c_H), pointer(cells_TH), pointer(tanh_cells_TH),
            pointer(hidden_SH[1:]),
        )  # fmt: skip
    return Steps(c_H, hidden_SH, gates_TG, cells_TH, tanh_cells_TH)


def backward(steps: Steps, weight_hh_GH: Tensor, grad_TH: Tensor) -> Tensor:
    """Return the gradient ``(T, G)`` of the gates' inputs.

    Args:
        steps: what :func:`forward` returned.
        weight_hh_GH: the recurrent weight, unchanged since then.
        grad_TH: the gradient of the hidden states.
    """
    c_H, _, gates_TG, cells_TH, tanh_cells_TH = steps
    grad_TH, zeros_H = grad_TH.contiguous(), torch.zeros_like(c_H)
    kernels = narrow_kernels(weight_hh_GH, grad_TH)
    if kernels is None:
        _, run = recurrence(gates_TG, c_H, grad_TH, products=gates_TG.dtype)
        grad_TBG, _, _ = run(
            gates_TG[:, None], c_H[None], cells_TH[:, None], tanh_cells_TH[:, None], weight_hh_GH,
            None, grad_TH[:, None], zeros_H[None], zeros_H[None],
        )  # fmt: skip
        return grad_TBG[:, 0]
    grad_TG, scratch_H = torch.empty_like(gates_TG), torch.empty_like(c_H)
    kernels.narrow_lstm_backward(
        *grad_TH.shape, _threads_for(weight_hh_GH), pointer(weight_hh_GH), pointer(gates_TG),
        pointer(c_H), pointer(cells_TH), pointer(tanh_cells_TH), pointer(grad_TH),
        pointer(scratch_H), pointer(zeros_H), pointer(grad_TG),
    )  # fmt: skip
    return grad_TG


def _threads_for(weight_hh_GH: Tensor) -> int:
    """Return how many threads share a layer's steps. They wait for each other after every step."""
    return torch.get_num_threads() if weight_hh_GH.numel() >= _LEAST_SHARED else 1
