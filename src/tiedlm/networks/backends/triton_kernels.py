"""Triton's kernels for the recurrence of an LSTM layer: one launch runs a whole window.

A program computes some hidden units of some streams through all steps. It keeps their cell states
in registers, and reads the hidden states of the other units, of the step before, from memory. At
the end of a step each program increments a counter, and waits until all have done so. So all
programs must run at once, which :mod:`tiedlm.networks.backends.triton` checks. Import this module
only where Triton is installed.

The operands of the products are padded with zeros to whole blocks. So the loads need no mask, and
the rows begin at multiples of 16 bytes.

Shape letters: B streams, T steps, H hidden width, G = 4H gates (i, f, g, o); N streams and U units
of a program, K numbers summed at a time. R, C and P are B and H rounded up to whole blocks: R in
streams, C in units of a program, P in numbers summed at a time.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _all_arrive(arrived, goal):
    """Increment the counter, and wait until it reaches ``goal``."""
    tl.debug_barrier()
    seen = tl.atomic_add(arrived, 1, sem="acq_rel") + 1
    while seen < goal:
        seen = tl.atomic_add(arrived, 0, sem="acquire")
    tl.debug_barrier()


@triton.jit
def _tanh(x):
    z = x * x
    p = ((-5.70498872745e-3 * z + 2.06390887954e-2) * z - 5.37397155531e-2) * z
    small = ((p + 1.33314422036e-1) * z - 3.33332819422e-1) * z * x + x
    return tl.where(tl.abs(x) < 0.625, small, 2.0 * tl.sigmoid(2.0 * x) - 1.0)


@triton.jit
def forward(
    gates_TBG, c_BH, previous_TRP, weight_4CP, mask_BH, cells_TBH, tanh_cells_TBH, output_TBH,
    arrived, T, B, H, R, C, P, programs,
    HAS_MASK: tl.constexpr, N: tl.constexpr, U: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    """Turn the input projections into gates; write cells, tanh(cells) and outputs.

    ``previous`` has T + 1 steps in the type of the products. The first one is given, and the others
    are written.
    """
    unit = tl.program_id(0) * U + tl.arange(0, U)[None, :]
    row = tl.program_id(1) * N + tl.arange(0, N)[:, None]
    mine = (row < B) & (unit < H)
    at = row * H + unit
    cell = tl.load(c_BH + at, mask=mine, other=0.0)
    keep = tl.load(mask_BH + at, mask=mine, other=0.0) if HAS_MASK else 1.0
    for t in range(0, T):
        gate_at = gates_TBG + t * B * 4 * H + row * 4 * H + unit
        i = tl.load(gate_at, mask=mine, other=0.0)
        f = tl.load(gate_at + H, mask=mine, other=0.0)
        g = tl.load(gate_at + 2 * H, mask=mine, other=0.0)
        o = tl.load(gate_at + 3 * H, mask=mine, other=0.0)
        before = previous_TRP + t * R * P + row * P
        for first in range(0, P, K):
            k = first + tl.arange(0, K)
            h = tl.load(before + k[None, :], cache_modifier=".cg")
            weight_at = weight_4CP + unit * P + k[:, None]
            i = tl.dot(h, tl.load(weight_at), i, input_precision="ieee")
            f = tl.dot(h, tl.load(weight_at + C * P), f, input_precision="ieee")
            g = tl.dot(h, tl.load(weight_at + 2 * C * P), g, input_precision="ieee")
            o = tl.dot(h, tl.load(weight_at + 3 * C * P), o, input_precision="ieee")
        i = tl.sigmoid(i)
        f = tl.sigmoid(f)
        g = _tanh(g)
        o = tl.sigmoid(o)
        cell = f * cell + i * g
        tanh_cell = _tanh(cell)
        out = o * tanh_cell * keep
        after = previous_TRP + (t + 1) * R * P + row * P + unit
        tl.store(after, out.to(previous_TRP.dtype.element_ty), mask=mine)
        tl.store(gate_at, i, mask=mine)
        tl.store(gate_at + H, f, mask=mine)
        tl.store(gate_at + 2 * H, g, mask=mine)
        tl.store(gate_at + 3 * H, o, mask=mine)
        tl.store(cells_TBH + t * B * H + at, cell, mask=mine)
        tl.store(tanh_cells_TBH + t * B * H + at, tanh_cell, mask=mine)
        tl.store(output_TBH + t * B * H + at, out, mask=mine)
        if t + 1 < T:
            _all_arrive(arrived, (t + 1) * programs)


@triton.jit
def backward(
    gates_TBG, c_BH, cells_TBH, tanh_cells_TBH, weight_C4P, mask_BH, grad_output_TBH, grad_h_BH,
    grad_cell_BH, grad_gates_TBG, factor_TBG, factor_TR4P, arrived, T, B, H, R, P, programs,
    HAS_MASK: tl.constexpr, HAS_FACTOR: tl.constexpr,
    N: tl.constexpr, U: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    """Write the gradients of the gates' inputs, also in the products' type, and of ``c_BH``."""
    unit = tl.program_id(0) * U + tl.arange(0, U)[None, :]
    row = tl.program_id(1) * N + tl.arange(0, N)[:, None]
    mine = (row < B) & (unit < H)
    at = row * H + unit
    G = 4 * H
    keep = tl.load(mask_BH + at, mask=mine, other=0.0) if HAS_MASK else 1.0
    grad_cell = tl.load(grad_cell_BH + at, mask=mine, other=0.0)
    # The state after the window is not masked. The output to the next layer is.
    grad_last = tl.load(grad_h_BH + at, mask=mine, other=0.0)
    for step in range(0, T):
        t = T - 1 - step
        gate_at = t * B * G + row * G + unit
        i = tl.load(gates_TBG + gate_at, mask=mine, other=0.0)
        f = tl.load(gates_TBG + gate_at + H, mask=mine, other=0.0)
        g = tl.load(gates_TBG + gate_at + 2 * H, mask=mine, other=0.0)
        o = tl.load(gates_TBG + gate_at + 3 * H, mask=mine, other=0.0)
        tanh_cell = tl.load(tanh_cells_TBH + t * B * H + at, mask=mine, other=0.0)
        if t > 0:
            before = tl.load(cells_TBH + (t - 1) * B * H + at, mask=mine, other=0.0)
        else:
            before = tl.load(c_BH + at, mask=mine, other=0.0)
        grad = tl.load(grad_output_TBH + t * B * H + at, mask=mine, other=0.0)
        if step > 0:
            after = factor_TR4P + (t + 1) * R * 4 * P + row * 4 * P
            for first in range(0, 4 * P, K):
                k = first + tl.arange(0, K)
                factor = tl.load(after + k[None, :], cache_modifier=".cg")
                w = tl.load(weight_C4P + unit * 4 * P + k[:, None])
                grad = tl.dot(factor, w, grad, input_precision="ieee")
        grad = grad * keep + grad_last
        grad_last = tl.zeros_like(grad_last)
        grad_cell += grad * o * (1.0 - tanh_cell * tanh_cell)
        grad_i = grad_cell * g * i * (1.0 - i)
        grad_f = grad_cell * before * f * (1.0 - f)
        grad_g = grad_cell * i * (1.0 - g * g)
        grad_o = grad * tanh_cell * o * (1.0 - o)
        grad_cell = grad_cell * f
        tl.store(grad_gates_TBG + gate_at, grad_i, mask=mine)
        tl.store(grad_gates_TBG + gate_at + H, grad_f, mask=mine)
        tl.store(grad_gates_TBG + gate_at + 2 * H, grad_g, mask=mine)
        tl.store(grad_gates_TBG + gate_at + 3 * H, grad_o, mask=mine)
        low = factor_TBG.dtype.element_ty
        here = factor_TR4P + t * R * 4 * P + row * 4 * P + unit
        tl.store(here, grad_i.to(low), mask=mine)
        tl.store(here + P, grad_f.to(low), mask=mine)
        tl.store(here + 2 * P, grad_g.to(low), mask=mine)
        tl.store(here + 3 * P, grad_o.to(low), mask=mine)
        if HAS_FACTOR:
            tl.store(factor_TBG + gate_at, grad_i.to(low), mask=mine)
            tl.store(factor_TBG + gate_at + H, grad_f.to(low), mask=mine)
            tl.store(factor_TBG + gate_at + 2 * H, grad_g.to(low), mask=mine)
            tl.store(factor_TBG + gate_at + 3 * H, grad_o.to(low), mask=mine)
        if step + 1 < T:
            _all_arrive(arrived, (step + 1) * programs)
    tl.store(grad_cell_BH + at, grad_cell, mask=mine)
