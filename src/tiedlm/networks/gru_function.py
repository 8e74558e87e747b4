"""The fast GRU layer: the same results as the readable layer, with a hand-written gradient.

- The input projections of all steps are one product. So is the gradient of each weight.
- The recurrent weight is laid out in memory for its products once per window.
- In backward, the factors that do not depend on the recursion are computed for all steps at once.
  That leaves one product and four pointwise operations per step.

Shape letters: B streams, T steps, E input width, H hidden width, G = 3H gates (r, z, n).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from tiedlm.arithmetic import from_autocast, gemm_dtype, without_autocast
from tiedlm.matmul import adder, matmul, operand
from tiedlm.tracing import require_single_gradient


class _Run(NamedTuple):
    """The tensors of a forward pass that the backward pass needs.

    Args:
        gates_TBG: ``r``, ``z`` and ``n`` of each step.
        products_TBG: the recurrent product of each step; its last third includes ``b_hn``.
        states_SBH: the hidden states, with S = T + 1: the first is the state before the window.
        factors_SBH: the masked hidden states.
    """

    gates_TBG: Tensor
    products_TBG: Tensor
    states_SBH: Tensor
    factors_SBH: Tensor


def _run(
    x_TBE: Tensor,
    h_BH: Tensor,
    weight_ih_GE: Tensor,
    weight_hh_GH: Tensor,
    bias_G: Tensor,
    recurrent_bias_H: Tensor,
    mask_BH: Tensor | None,
    gemm: torch.dtype,
) -> _Run:
    """Run forward, with products in the type ``gemm``; see ``gru_layer_reference``."""
    T, B, E = x_TBE.shape
    G, H = weight_hh_GH.shape
    gates_TBG = bias_G.new_empty(T, B, G).copy_(bias_G)
    x_NE, weight_ih_GE = operand(x_TBE.reshape(T * B, E), gemm), operand(weight_ih_GE, gemm)
    matmul(x_NE, weight_ih_GE.t(), gates_TBG.view(T * B, G), accumulate=True)
    products_TBG = bias_G.new_zeros(T, B, G)
    products_TBG[..., 2 * H :] = recurrent_bias_H
    states_SBH = bias_G.new_empty(T + 1, B, H)
    states_SBH[0] = h_BH
    factors_SBH = states_SBH if mask_BH is None else torch.empty_like(states_SBH)
    if mask_BH is not None:
        torch.mul(h_BH, mask_BH, out=factors_SBH[0])
    add_product = adder(weight_hh_GH.to(gemm), B)
    steps = zip(
        products_TBG.unbind(0), products_TBG[..., : 2 * H].unbind(0),
        products_TBG[..., 2 * H :].unbind(0), gates_TBG[..., : 2 * H].unbind(0),
        *(part.unbind(0) for part in gates_TBG.chunk(3, -1)),
        states_SBH.unbind(0)[:-1], states_SBH.unbind(0)[1:],
        factors_SBH.unbind(0)[:-1], factors_SBH.unbind(0)[1:], strict=True,
    )  # fmt: skip
    for (
        product_BG, product_B2H, product_BH, rz_B2H, r_BH, z_BH, n_BH,
        state_BH, next_BH, factor_BH, next_factor_BH,
    ) in steps:  # fmt: skip
        add_product(factor_BH.to(gemm), product_BG)
        rz_B2H.add_(product_B2H).sigmoid_()
        n_BH.addcmul_(r_BH, product_BH).tanh_()
        torch.lerp(n_BH, state_BH, z_BH, out=next_BH)
        if mask_BH is not None:
            torch.mul(next_BH, mask_BH, out=next_factor_BH)
    return _Run(gates_TBG, products_TBG, states_SBH, factors_SBH)


def _run_backward(
    run: _Run, weight_hh_GH: Tensor, mask_BH: Tensor | None, grad_TBH: Tensor, grad_h_BH: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of the input projections, of the products, and of ``h_BH``."""
    T, B, H = grad_TBH.shape
    gemm, dtype = weight_hh_GH.dtype, grad_TBH.dtype
    r_TBH, z_TBH, n_TBH = run.gates_TBG.chunk(3, -1)
    # d(product) is d(h_t) times a factor. d(h_(t-1)) is z d(h_t), plus the gradient through the
    # products.
    grad_products_TBG = torch.empty_like(run.products_TBG)
    by_r_TBH, by_z_TBH, by_n_TBH = grad_products_TBG.chunk(3, -1)  # the factors, then the gradients
    new_TBH = torch.addcmul(n_TBH.new_ones(()), n_TBH, n_TBH, value=-1).mul_(1 - z_TBH)
    torch.mul(new_TBH, r_TBH, out=by_n_TBH)
    torch.mul(by_n_TBH, 1 - r_TBH, out=by_r_TBH).mul_(run.products_TBG[..., 2 * H :])
    torch.addcmul(z_TBH, z_TBH, z_TBH, value=-1, out=by_z_TBH)
    by_z_TBH.mul_(run.states_SBH[:-1] - n_TBH)
    operands_TBG = grad_products_TBG
    if gemm != dtype:
        operands_TBG = torch.empty_like(grad_products_TBG, dtype=gemm)
    grads_TBH = torch.empty_like(grad_TBH, memory_format=torch.contiguous_format)
    add_product = adder(weight_hh_GH.t(), B)
    back_BH, carried_BH = torch.zeros_like(grad_h_BH), grad_h_BH.contiguous()
    steps = zip(
        grad_TBH.unbind(0), grads_TBH.unbind(0), grad_products_TBG.unbind(0),
        grad_products_TBG.view(T, B, 3, H).unbind(0), operands_TBG.unbind(0), z_TBH.unbind(0),
        strict=True,
    )  # fmt: skip
    for outer_BH, grad_BH, product_BG, product_B3H, operand_BG, z_BH in reversed(list(steps)):
        torch.add(outer_BH, back_BH, out=grad_BH)  # of the masked state
        if mask_BH is not None:
            grad_BH.mul_(mask_BH)
        grad_BH.add_(carried_BH)
        product_B3H.mul_(grad_BH.unsqueeze(1))
        if operands_TBG is not grad_products_TBG:
            operand_BG.copy_(product_BG)
        add_product(operand_BG, back_BH.zero_())
        carried_BH = grad_BH * z_BH
    grad_h_BH = carried_BH.add(back_BH if mask_BH is None else back_BH.mul_(mask_BH))
    grad_inputs_TBG = grad_products_TBG.clone()
    torch.mul(new_TBH, grads_TBH, out=grad_inputs_TBG[..., 2 * H :])
    return grad_inputs_TBG, grad_products_TBG, grad_h_BH


class _GRULayer(torch.autograd.Function):
    """The layer as one autograd node, whose gradient is written by hand."""

    @staticmethod
    def forward(
        ctx: Any,
        x_TBE: Tensor,
        h_BH: Tensor,
        weight_ih_GE: Tensor,
        weight_hh_GH: Tensor,
        bias_G: Tensor,
        recurrent_bias_H: Tensor,
        mask_BH: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        ctx.gemm = gemm_dtype(x_TBE)
        weight_ih_GE, weight_hh_GH = weight_ih_GE.to(ctx.gemm), weight_hh_GH.to(ctx.gemm)
        run = _run(
            x_TBE, h_BH, weight_ih_GE, weight_hh_GH, bias_G, recurrent_bias_H, mask_BH, ctx.gemm
        )
        ctx.save_for_backward(x_TBE, weight_ih_GE, weight_hh_GH, mask_BH, *run)
        return run.factors_SBH[1:], run.states_SBH[-1].clone()

    @staticmethod
    def backward(ctx: Any, grad_TBH: Tensor, grad_h_BH: Tensor) -> tuple[Tensor | None, ...]:
        require_single_gradient(grad_TBH, "GRU: the fast layer", "set fast=False")
        x_TBE, weight_ih_GE, weight_hh_GH, mask_BH, *saved = ctx.saved_tensors
        run = _Run(*saved)
        grad_inputs_TBG, grad_products_TBG, grad_h_BH = _run_backward(
            run, weight_hh_GH, mask_BH, grad_TBH, grad_h_BH
        )
        T, B, G = grad_inputs_TBG.shape
        gemm, H, E = ctx.gemm, G // 3, x_TBE.shape[-1]
        need_x, need_h, need_w_ih, need_w_hh, need_b, need_rb, _ = ctx.needs_input_grad
        grad_x = grad_w_ih = grad_w_hh = None
        grad_NG = grad_inputs_TBG.view(T * B, G).to(gemm)
        if need_x:
            grad_x = torch.empty_like(x_TBE, memory_format=torch.contiguous_format)
            matmul(grad_NG, weight_ih_GE, out=grad_x.view(T * B, E))
        if need_w_ih:
            grad_w_ih = grad_inputs_TBG.new_empty(weight_ih_GE.shape)
            matmul(grad_NG.t(), operand(x_TBE.reshape(T * B, E), gemm), out=grad_w_ih)
        if need_w_hh:
            grad_w_hh = grad_inputs_TBG.new_empty(weight_hh_GH.shape)
            factors_NH = operand(run.factors_SBH[:-1].reshape(T * B, H), gemm)
            matmul(grad_products_TBG.view(T * B, G).to(gemm).t(), factors_NH, out=grad_w_hh)
        grad_b = grad_inputs_TBG.sum((0, 1)) if need_b else None
        grad_rb = grad_products_TBG[..., 2 * H :].sum((0, 1)) if need_rb else None
        return grad_x, grad_h_BH if need_h else None, grad_w_ih, grad_w_hh, grad_b, grad_rb, None


def gru_layer(
    x_TBE: Tensor,
    h_BH: Tensor,
    weight_ih_GE: Tensor,
    weight_hh_GH: Tensor,
    bias_G: Tensor,
    recurrent_bias_H: Tensor,
    mask_BH: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Compute :func:`tiedlm.networks.gru.gru_layer_reference` faster.

    The reference explains arguments, results and equations. The gradient is written by hand, and
    cannot be differentiated again. No gradient flows into the mask.
    """
    inputs = (x_TBE, h_BH, weight_ih_GE, weight_hh_GH, bias_G, recurrent_bias_H)
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs):
        output_TBH, last_BH = _GRULayer.apply(*inputs, mask_BH)  # type: ignore[no-untyped-call]
        return output_TBH, last_BH
    gemm = gemm_dtype(x_TBE)
    if mask_BH is None:  # evaluation multiplies in the type of the weights
        gemm = bias_G.dtype
        x_TBE, h_BH = from_autocast(gemm, x_TBE, h_BH)
    with without_autocast(x_TBE):
        run = _run(x_TBE, h_BH, *inputs[2:], mask_BH, gemm)
    return run.factors_SBH[1:], run.states_SBH[-1].clone()
