"""The fast LSTM layer: the same results as ``lstm_layer_reference``, with a hand-written gradient.

It is fast in plain PyTorch, without compiled code:

- The input projections of all steps are one GEMM. So is the gradient of each weight.
- A step is one GEMM and in-place pointwise work, in buffers that are allocated once. Where it pays,
  the weight is laid out in memory for the GEMM once per window.
- :mod:`tiedlm.arithmetic` chooses the type of the products, float32 or bfloat16. Everything else is
  in the type of the parameters.
- In backward, the factors that do not depend on the recursion are computed for all steps at once.
  That leaves one GEMM and four pointwise operations per step.

The recurrence itself has two faster versions in ``networks/backends/``: compiled for a CPU, and
Triton's for a GPU.

Shape letters: B streams, T steps, E input width, H hidden width, G = 4H gates (i, f, g, o).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from tiedlm.arithmetic import gemm_dtype, kernels_for
from tiedlm.matmul import adder, linear, matmul, operand
from tiedlm.networks.backends import compiled, triton
from tiedlm.tracing import require_single_gradient


def _run(
    x_TBE: Tensor,
    h_BH: Tensor,
    c_BH: Tensor,
    weight_ih_GE: Tensor,
    weight_hh_GH: Tensor,
    bias_G: Tensor,
    mask_BH: Tensor | None,
    gemm: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Run forward; return ``hidden_SBH, h_BH, gates_TBG, cells_TBH, tanh_cells_TBH``.

    ``hidden_SBH`` has the masked hidden states, with S = T + 1: the first is the state before the
    window.
    """
    T, B, E = x_TBE.shape
    H = h_BH.shape[-1]
    x_NE, weight_ih_GE = operand(x_TBE.reshape(T * B, E), gemm), operand(weight_ih_GE, gemm)
    if gemm == bias_G.dtype:
        gates_NG = linear(x_NE, weight_ih_GE, bias_G)
    else:
        # Adding two tensors of different types would be several times slower.
        gates_NG = (x_NE @ weight_ih_GE.t()).to(bias_G.dtype).add_(bias_G)
    gates_TBG = gates_NG.view(T, B, 4 * H)
    cells_TBH, tanh_cells_TBH = gates_TBG.new_empty(2, T, B, H).unbind(0)
    hidden_SBH = gates_TBG.new_empty(T + 1, B, H)
    recurrent_BH, output_TBH = hidden_SBH[0], hidden_SBH[1:]
    recurrent_BH.copy_(h_BH if mask_BH is None else h_BH * mask_BH)
    run, _ = recurrence(gates_TBG, h_BH, c_BH, mask_BH, products=gemm)
    run(
        gates_TBG, c_BH, recurrent_BH, weight_hh_GH.to(gemm), mask_BH,
        cells_TBH, tanh_cells_TBH, output_TBH,
    )  # fmt: skip
    last_h_BH = gates_TBG[-1, :, 3 * H :] * tanh_cells_TBH[-1]
    return hidden_SBH, last_h_BH, gates_TBG, cells_TBH, tanh_cells_TBH


def recurrence(
    gates_TBG: Tensor, *tensors: Tensor | None, products: torch.dtype
) -> tuple[Callable[..., None], Callable[..., tuple[Tensor, Tensor, Tensor]]]:
    """Return the fastest ``(run_forward, run_backward)`` that works on these tensors.

    Args:
        gates_TBG: the gates.
        tensors: the other tensors that the function will read.
        products: type of the matrix products' operands.
    """
    tensors = (gates_TBG, *tensors)
    kernels = kernels_for(*tensors, products=products, work=gates_TBG.numel())
    if kernels is not None:
        return partial(compiled.run_forward, kernels), partial(compiled.run_backward, kernels)
    if triton.serves(*tensors, products=products):
        return triton.run_forward, triton.run_backward
    return _run_forward, _run_backward


def _run_forward(
    gates_TBG: Tensor,
    c_BH: Tensor,
    recurrent_BH: Tensor,
    weight_hh_GH: Tensor,
    mask_BH: Tensor | None,
    cells_TBH: Tensor,
    tanh_cells_TBH: Tensor,
    output_TBH: Tensor,
) -> None:
    """Compute the steps; write the gates over the input projections in ``gates_TBG``.

    The results also go into the last three arguments.
    """
    H, gemm = c_BH.shape[-1], weight_hh_GH.dtype
    add_recurrent = adder(weight_hh_GH, len(c_BH))
    i_TBH, f_TBH, g_TBH, o_TBH = gates_TBG.chunk(4, dim=-1)
    steps = zip(
        gates_TBG.unbind(0),
        gates_TBG[..., : 2 * H].unbind(0),
        i_TBH.unbind(0),
        f_TBH.unbind(0),
        g_TBH.unbind(0),
        o_TBH.unbind(0),
        cells_TBH.unbind(0),
        tanh_cells_TBH.unbind(0),
        output_TBH.unbind(0),
        strict=True,
    )
    for gates_BG, if_B2H, i_BH, f_BH, g_BH, o_BH, cell_BH, tanh_BH, out_BH in steps:
        add_recurrent(recurrent_BH.to(gemm), gates_BG)
        if_B2H.sigmoid_()
        g_BH.tanh_()
        o_BH.sigmoid_()
        torch.mul(f_BH, c_BH, out=cell_BH)
        cell_BH.addcmul_(i_BH, g_BH)
        torch.tanh(cell_BH, out=tanh_BH)
        torch.mul(o_BH, tanh_BH, out=out_BH)
        if mask_BH is not None:
            out_BH.mul_(mask_BH)
        c_BH, recurrent_BH = cell_BH, out_BH


def _run_backward(
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
    T, B, H = cells_TBH.shape
    gemm = weight_hh_GH.dtype
    cell_factors_TB3H, o_factor_TBH, c_factor_TBH = _factors(
        gates_TBG, c_BH, cells_TBH, tanh_cells_TBH
    )
    grad_gates_TBG = torch.empty_like(gates_TBG)
    factor_TBG = grad_gates_TBG  # the gradient, in the type of the GEMMs
    if gemm != grad_gates_TBG.dtype:
        factor_TBG = torch.empty_like(gates_TBG, dtype=gemm)
    # The state after the window is not masked. The output to the next layer is.
    grad_cell_BH = torch.addcmul(grad_c_BH, grad_h_BH, c_factor_TBH[-1])
    grad_o_last_BH = grad_h_BH * o_factor_TBH[-1]
    if mask_BH is not None:
        o_factor_TBH.mul_(mask_BH)
        c_factor_TBH.mul_(mask_BH)
    grad_B3H_views = grad_gates_TBG[..., : 3 * H].view(T, B, 3, H).unbind(0)
    grad_o_views = grad_gates_TBG[..., 3 * H :].unbind(0)
    cell_factor_views = cell_factors_TB3H.view(T, B, 3, H).unbind(0)
    grad_steps, factor_steps = grad_gates_TBG.unbind(0), factor_TBG.unbind(0)
    c_factor_steps, o_factor_steps = c_factor_TBH.unbind(0), o_factor_TBH.unbind(0)
    f_steps, grad_outputs = gates_TBG[..., H : 2 * H].unbind(0), grad_output_TBH.unbind(0)
    grad_hidden_BH = torch.empty_like(grad_cell_BH)
    add_recurrent = adder(weight_hh_GH.t(), B)
    for t in range(T - 1, -1, -1):
        grad_hidden_BH.copy_(grad_outputs[t])
        if t < T - 1:
            add_recurrent(factor_steps[t + 1], grad_hidden_BH)
        grad_cell_BH.addcmul_(grad_hidden_BH, c_factor_steps[t])
        torch.mul(cell_factor_views[t], grad_cell_BH.unsqueeze(1), out=grad_B3H_views[t])
        torch.mul(grad_hidden_BH, o_factor_steps[t], out=grad_o_views[t])
        if t == T - 1:
            grad_o_views[t].add_(grad_o_last_BH)
        grad_cell_BH.mul_(f_steps[t])
        if factor_TBG is not grad_gates_TBG:
            factor_steps[t].copy_(grad_steps[t])
    return grad_gates_TBG, factor_TBG, grad_cell_BH


def _factors(
    gates_TBG: Tensor, c_BH: Tensor, cells_TBH: Tensor, tanh_cells_TBH: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the derivatives of sigmoid and tanh by which a step multiplies gradients.

    Returns:
        ``(cell_factors_TB3H, o_factor_TBH, c_factor_TBH)``: d(gate inputs) is d(cell) times the
        first for i, f and g, and d(hidden) times the second for o. d(cell) has a share of d(hidden)
        times the third.
    """
    i_TBH, f_TBH, g_TBH, o_TBH = gates_TBG.chunk(4, dim=-1)
    cell_factors_TB3H = torch.empty_like(gates_TBG[..., : 3 * i_TBH.shape[-1]])
    by_i_TBH, by_f_TBH, by_g_TBH = cell_factors_TB3H.chunk(3, dim=-1)
    torch.addcmul(i_TBH, i_TBH, i_TBH, value=-1, out=by_i_TBH).mul_(g_TBH)
    torch.addcmul(f_TBH, f_TBH, f_TBH, value=-1, out=by_f_TBH)
    by_f_TBH[0].mul_(c_BH)
    by_f_TBH[1:].mul_(cells_TBH[:-1])
    torch.mul(g_TBH, g_TBH, out=by_g_TBH).neg_().add_(1).mul_(i_TBH)
    o_factor_TBH = torch.addcmul(o_TBH, o_TBH, o_TBH, value=-1).mul_(tanh_cells_TBH)
    c_factor_TBH = torch.mul(tanh_cells_TBH, tanh_cells_TBH).neg_().add_(1).mul_(o_TBH)
    return cell_factors_TB3H, o_factor_TBH, c_factor_TBH


class _LSTMLayer(torch.autograd.Function):
    """The layer as one autograd node, whose gradient is written by hand."""

    @staticmethod
    def forward(
        ctx: Any,
        x_TBE: Tensor,
        h_BH: Tensor,
        c_BH: Tensor,
        weight_ih_GE: Tensor,
        weight_hh_GH: Tensor,
        bias_G: Tensor,
        mask_BH: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.gemm = gemm_dtype(x_TBE)
        # Both passes use the weights in the type of the GEMMs.
        weight_ih_GE, weight_hh_GH = weight_ih_GE.to(ctx.gemm), weight_hh_GH.to(ctx.gemm)
        hidden_SBH, last_h_BH, gates_TBG, cells_TBH, tanh_cells_TBH = _run(
            x_TBE, h_BH, c_BH, weight_ih_GE, weight_hh_GH, bias_G, mask_BH, ctx.gemm
        )
        ctx.save_for_backward(
            x_TBE, c_BH, weight_ih_GE, weight_hh_GH, mask_BH,
            hidden_SBH, gates_TBG, cells_TBH, tanh_cells_TBH,
        )  # fmt: skip
        return hidden_SBH[1:], last_h_BH, cells_TBH[-1].clone()

    @staticmethod
    def backward(
        ctx: Any, grad_output_TBH: Tensor, grad_h_BH: Tensor, grad_c_BH: Tensor
    ) -> tuple[Tensor | None, ...]:
        require_single_gradient(
            grad_output_TBH, "VariationalLSTM: the fast layer", "set fast=False"
        )
        (
            x_TBE, c_BH, weight_ih_GE, weight_hh_GH, mask_BH,
            hidden_SBH, gates_TBG, cells_TBH, tanh_cells_TBH,
        ) = ctx.saved_tensors  # fmt: skip
        T, B, H = cells_TBH.shape
        gemm = ctx.gemm
        need_x, need_h, need_c, need_w_ih, need_w_hh, need_b, _ = ctx.needs_input_grad
        _, run = recurrence(gates_TBG, c_BH, mask_BH, grad_output_TBH, products=gemm)
        grad_gates_TBG, factor_TBG, grad_cell_BH = run(
            gates_TBG, c_BH, cells_TBH, tanh_cells_TBH, weight_hh_GH, mask_BH,
            grad_output_TBH, grad_h_BH, grad_c_BH,
        )  # fmt: skip

        grad_b = grad_gates_TBG.sum((0, 1)) if need_b else None
        grad_NG = factor_TBG.view(T * B, 4 * H)
        grad_x = grad_w_ih = grad_w_hh = grad_h0 = None
        if need_x:
            grad_x = torch.empty_like(x_TBE, memory_format=torch.contiguous_format)
            matmul(grad_NG, weight_ih_GE, out=grad_x.view(T * B, x_TBE.shape[-1]))
        if need_w_ih:
            grad_w_ih = gates_TBG.new_empty(weight_ih_GE.shape)
            matmul(grad_NG.t(), x_TBE.reshape(T * B, x_TBE.shape[-1]).to(gemm), out=grad_w_ih)
        if need_w_hh:
            grad_w_hh = grad_cell_BH.new_empty(4 * H, H)
            matmul(grad_NG.t(), hidden_SBH[:-1].view(T * B, H).to(gemm), out=grad_w_hh)
        if need_h:
            grad_h0 = torch.empty_like(grad_cell_BH)
            matmul(grad_NG[:B], weight_hh_GH, out=grad_h0)
            if mask_BH is not None:
                grad_h0.mul_(mask_BH)
        return grad_x, grad_h0, grad_cell_BH if need_c else None, grad_w_ih, grad_w_hh, grad_b, None


def lstm_layer(
    x_TBE: Tensor,
    h_BH: Tensor,
    c_BH: Tensor,
    weight_ih_GE: Tensor,
    weight_hh_GH: Tensor,
    bias_G: Tensor,
    mask_BH: Tensor | None = None,
    *,
    gemm: torch.dtype | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute :func:`tiedlm.networks.lstm.lstm_layer_reference` faster.

    The reference explains arguments, results and equations. The gradient is written by hand, and
    cannot be differentiated again. No gradient flows into the mask. ``gemm`` is the type of
    the products where no gradient is needed; None leaves it to :mod:`tiedlm.arithmetic`.
    """
    inputs = (x_TBE, h_BH, c_BH, weight_ih_GE, weight_hh_GH, bias_G)
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs):
        output_TBH, last_h_BH, last_c_BH = _LSTMLayer.apply(*inputs, mask_BH)  # type: ignore[no-untyped-call]
        return output_TBH, last_h_BH, last_c_BH
    hidden_SBH, last_h_BH, _, cells_TBH, _ = _run(*inputs, mask_BH, gemm or gemm_dtype(x_TBE))
    return hidden_SBH[1:], last_h_BH, cells_TBH[-1].clone()
