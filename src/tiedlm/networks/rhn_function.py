"""The fast recurrent highway layer: the readable layer's results, with a hand-written gradient.

- The input projections of all steps are one product. So is the gradient of each depth's weight.
- H and T of a depth are one product. The weights are laid out in memory for it once per window.
- In backward, the factors that do not depend on the recursion are computed for all steps at once.

Shape letters: B streams, T steps, D depth, E input width, H hidden width, G = 2H gates (H, T).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from tiedlm.arithmetic import from_autocast, gemm_dtype, without_autocast
from tiedlm.matmul import adder, matmul, operand
from tiedlm.tracing import require_single_gradient

_LEAST_STEPS = 8  # in a shorter window, laying out the weights does not pay


class _Run(NamedTuple):
    """The tensors of a forward pass that the backward pass needs.

    Args:
        gates_DTBG: ``h_l`` beside ``t_l``.
        states_DTBH: ``s_(l-1)``, which each depth reads.
        factors_DTBH: ``s_(l-1)``, masked, in the type of the products.
        output_TBH: ``s_D`` of each step.
    """

    gates_DTBG: Tensor
    states_DTBH: Tensor
    factors_DTBH: Tensor
    output_TBH: Tensor


def _run(
    x_TBE: Tensor,
    s_BH: Tensor,
    weight_ih_GE: Tensor,
    weight_hh_DGH: Tensor,
    bias_DG: Tensor,
    mask_BH: Tensor | None,
    gemm: torch.dtype,
) -> _Run:
    """Run forward, with products in the type ``gemm``; see ``rhn_layer_reference``."""
    T, B, E = x_TBE.shape
    D, G = bias_DG.shape
    H, dtype = G // 2, bias_DG.dtype
    gates_DTBG = bias_DG.new_empty(D, T, B, G)
    gates_DTBG.copy_(bias_DG[:, None, None])
    x_NE, weight_ih_GE = operand(x_TBE.reshape(T * B, E), gemm), operand(weight_ih_GE, gemm)
    matmul(x_NE, weight_ih_GE.t(), gates_DTBG[0].view(T * B, G), accumulate=True)
    states_DTBH = bias_DG.new_empty(D, T, B, H)
    output_TBH = bias_DG.new_empty(T, B, H)
    is_same = mask_BH is None and gemm == dtype
    factors_DTBH = states_DTBH if is_same else states_DTBH.new_empty(D, T, B, H, dtype=gemm)
    add = [_adder(weight_GH, B, T) for weight_GH in weight_hh_DGH.to(gemm).unbind(0)]
    steps = [tuple(part.unbind(0)) for part in gates_DTBG.unbind(1)]
    h_steps, t_steps = (
        [tuple(part.unbind(0)) for part in half.unbind(1)] for half in gates_DTBG.chunk(2, -1)
    )
    state_steps = [tuple(part.unbind(0)) for part in states_DTBH.unbind(1)]
    factor_steps = [tuple(part.unbind(0)) for part in factors_DTBH.unbind(1)]
    outputs = output_TBH.unbind(0)
    state_steps[0][0].copy_(s_BH)
    for t in range(T):
        for depth in range(D):
            state_BH, factor_BH = state_steps[t][depth], factor_steps[t][depth]
            if mask_BH is not None and gemm == dtype:
                torch.mul(state_BH, mask_BH, out=factor_BH)
            elif not is_same:
                factor_BH.copy_(state_BH if mask_BH is None else state_BH * mask_BH)
            add[depth](factor_BH, steps[t][depth])
            h_BH, t_BH = h_steps[t][depth].tanh_(), t_steps[t][depth].sigmoid_()
            next_BH = state_steps[t][depth + 1] if depth < D - 1 else outputs[t]
            torch.lerp(state_BH, h_BH, t_BH, out=next_BH)
        if t < T - 1:
            state_steps[t + 1][0].copy_(outputs[t])
    return _Run(gates_DTBG, states_DTBH, factors_DTBH, output_TBH)


def _adder(weight_PK: Tensor, rows: int, steps: int) -> Any:
    """Return a function ``(a, out)`` that adds ``a @ weight.t()`` to ``out``.

    Args:
        weight_PK: the weight; in a long window it is laid out in memory for the products.
        rows: number of rows of a.
        steps: number of steps of the window.
    """
    if steps >= _LEAST_STEPS:
        return adder(weight_PK, rows)
    weight_KP = weight_PK.t()
    return lambda a, out: matmul(a, weight_KP, out, accumulate=True)


def _run_backward(
    run: _Run, weight_hh_DGH: Tensor, mask_BH: Tensor | None, grad_TBH: Tensor, grad_s_BH: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of the gates' inputs, also in the products' type, and of ``s_BH``."""
    D, T, B, G = run.gates_DTBG.shape
    gemm, dtype = weight_hh_DGH.dtype, run.gates_DTBG.dtype
    h_DTBH, t_DTBH = run.gates_DTBG.chunk(2, -1)
    # d(gate inputs) is d(s_l) times a factor. d(s_(l-1)) is (1 - t) d(s_l), plus the gradient
    # through the gates.
    grad_gates_DTBG = torch.empty_like(run.gates_DTBG)
    by_h_DTBH, by_t_DTBH = grad_gates_DTBG.chunk(2, -1)  # first the factors, then the gradients
    torch.mul(h_DTBH, h_DTBH, out=by_h_DTBH).neg_().add_(1).mul_(t_DTBH)
    torch.addcmul(t_DTBH, t_DTBH, t_DTBH, value=-1, out=by_t_DTBH).mul_(h_DTBH - run.states_DTBH)
    carry_DTBH = 1 - t_DTBH
    operands_DTBG = grad_gates_DTBG
    if gemm != dtype:
        operands_DTBG = torch.empty_like(grad_gates_DTBG, dtype=gemm)
    add = [_adder(weight_GH.t(), B, T) for weight_GH in weight_hh_DGH.unbind(0)]
    pairs = grad_gates_DTBG.view(D, T, B, 2, G // 2)
    pair_steps = [tuple(part.unbind(0)) for part in pairs.unbind(1)]
    grad_steps = [tuple(part.unbind(0)) for part in grad_gates_DTBG.unbind(1)]
    operand_steps = [tuple(part.unbind(0)) for part in operands_DTBG.unbind(1)]
    carry_steps = [tuple(part.unbind(0)) for part in carry_DTBH.unbind(1)]
    outputs = grad_TBH.unbind(0)
    grad_s_BH = grad_s_BH.clone()
    product_BH = torch.empty_like(grad_s_BH)
    for t in range(T - 1, -1, -1):
        grad_s_BH.add_(outputs[t])
        for depth in range(D - 1, -1, -1):
            pair_steps[t][depth].mul_(grad_s_BH.unsqueeze(1))
            if operands_DTBG is not grad_gates_DTBG:
                operand_steps[t][depth].copy_(grad_steps[t][depth])
            grad_s_BH.mul_(carry_steps[t][depth])
            if mask_BH is None:
                add[depth](operand_steps[t][depth], grad_s_BH)
            else:
                add[depth](operand_steps[t][depth], product_BH.zero_())
                grad_s_BH.addcmul_(product_BH, mask_BH)
    return grad_gates_DTBG, operands_DTBG, grad_s_BH


def _run_without_gradient(
    x_TBE: Tensor,
    s_BH: Tensor,
    weight_ih_GE: Tensor,
    weight_hh_DGH: Tensor,
    bias_DG: Tensor,
    mask_BH: Tensor | None,
    gemm: torch.dtype,
) -> tuple[Tensor, Tensor]:
    """Return the outputs and the last state; keep no tensors for a gradient."""
    T, B, E = x_TBE.shape
    D, G = bias_DG.shape
    first_TBG = bias_DG.new_empty(T, B, G).copy_(bias_DG[0])
    x_NE, weight_ih_GE = operand(x_TBE.reshape(T * B, E), gemm), operand(weight_ih_GE, gemm)
    matmul(x_NE, weight_ih_GE.t(), first_TBG.view(T * B, G), accumulate=True)
    add = [_adder(weight_GH, B, T) for weight_GH in weight_hh_DGH.to(gemm).unbind(0)]
    biases, gates_BG = bias_DG.unbind(0), bias_DG.new_empty(B, G)
    outputs = []
    for first_BG in first_TBG.unbind(0):
        for depth in range(D):
            gates_BG.copy_(first_BG if depth == 0 else biases[depth])
            factor_BH = s_BH if mask_BH is None else s_BH * mask_BH
            add[depth](factor_BH.to(gemm), gates_BG)
            h_BH, t_BH = gates_BG.chunk(2, -1)
            s_BH = torch.lerp(s_BH, h_BH.tanh_(), t_BH.sigmoid_())
        outputs.append(s_BH)
    return torch.stack(outputs), s_BH


class _RHNLayer(torch.autograd.Function):
    """The layer as one autograd node, whose gradient is written by hand."""

    @staticmethod
    def forward(
        ctx: Any,
        x_TBE: Tensor,
        s_BH: Tensor,
        weight_ih_GE: Tensor,
        weight_hh_DGH: Tensor,
        bias_DG: Tensor,
        mask_BH: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        ctx.gemm = gemm_dtype(x_TBE)
        weight_ih_GE, weight_hh_DGH = weight_ih_GE.to(ctx.gemm), weight_hh_DGH.to(ctx.gemm)
        run = _run(x_TBE, s_BH, weight_ih_GE, weight_hh_DGH, bias_DG, mask_BH, ctx.gemm)
        ctx.save_for_backward(x_TBE, weight_ih_GE, weight_hh_DGH, mask_BH, *run)
        return run.output_TBH, run.output_TBH[-1].clone()

    @staticmethod
    def backward(ctx: Any, grad_TBH: Tensor, grad_s_BH: Tensor) -> tuple[Tensor | None, ...]:
        require_single_gradient(grad_TBH, "RHN: the fast layer", "set fast=False")
        x_TBE, weight_ih_GE, weight_hh_DGH, mask_BH, *saved = ctx.saved_tensors
        run = _Run(*saved)
        grad_gates_DTBG, operands_DTBG, grad_s_BH = _run_backward(
            run, weight_hh_DGH, mask_BH, grad_TBH, grad_s_BH
        )
        D, T, B, G = grad_gates_DTBG.shape
        need_x, need_s, need_w_ih, need_w_hh, need_b, _ = ctx.needs_input_grad
        grad_x = grad_w_ih = grad_w_hh = None
        first_NG = operands_DTBG[0].view(T * B, G)
        x_NE = x_TBE.reshape(T * B, x_TBE.shape[-1])
        if need_x:
            grad_x = torch.empty_like(x_TBE, memory_format=torch.contiguous_format)
            matmul(first_NG, weight_ih_GE, out=grad_x.view(T * B, x_NE.shape[-1]))
        if need_w_ih:
            grad_w_ih = grad_gates_DTBG.new_empty(weight_ih_GE.shape)
            matmul(first_NG.t(), x_NE.to(ctx.gemm), out=grad_w_ih)
        if need_w_hh:
            grad_w_hh = grad_gates_DTBG.new_empty(weight_hh_DGH.shape)
            for depth in range(D):
                factor_NH = run.factors_DTBH[depth].view(T * B, G // 2)
                matmul(operands_DTBG[depth].view(T * B, G).t(), factor_NH, out=grad_w_hh[depth])
        grad_b = grad_gates_DTBG.sum((1, 2)) if need_b else None
        return grad_x, grad_s_BH if need_s else None, grad_w_ih, grad_w_hh, grad_b, None


def rhn_layer(
    x_TBE: Tensor,
    s_BH: Tensor,
    weight_ih_GE: Tensor,
    weight_hh_DGH: Tensor,
    bias_DG: Tensor,
    mask_BH: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Compute :func:`tiedlm.networks.rhn.rhn_layer_reference` faster.

    The reference explains arguments, results and equations. The gradient is written by hand, and
    cannot be differentiated again. No gradient flows into the mask.
    """
    inputs = (x_TBE, s_BH, weight_ih_GE, weight_hh_DGH, bias_DG)
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs):
        output_TBH, last_BH = _RHNLayer.apply(*inputs, mask_BH)  # type: ignore[no-untyped-call]
        return output_TBH, last_BH
    gemm = gemm_dtype(x_TBE)
    if mask_BH is None:  # evaluation multiplies in the type of the weights
        gemm = bias_DG.dtype
        x_TBE, s_BH = from_autocast(gemm, x_TBE, s_BH)
    with without_autocast(x_TBE):
        return _run_without_gradient(x_TBE, s_BH, *inputs[2:], mask_BH, gemm)
