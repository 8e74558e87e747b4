"""The kernels of the loss in Triton: the steps of ``losses.c``, for a GPU.

One program computes a row, or a block of a row. The program that owns a result, such as the
gradient of the bias, adds up its tokens in a fixed order. So results do not depend on timing.
Import this module only where Triton is installed.

Shape letters: C tokens of a chunk, U distinct targets, V vocabulary, B numbers of a block; S is the
row stride of the scores, z or out, in numbers. In ``part_SV`` S counts shares instead.
"""

from __future__ import annotations

import triton
import triton.language as tl

BLOCK = 1024
LEAST = tl.constexpr(-3.0e38)  # where a maximum starts: with -inf, a block of -inf gives NaN


@triton.jit
def soft_targets(
    z_UV, weight_U, soft_UV, lse_U, dot_U, residual_UV, V, S, inverse_tau,
    HAS_RESIDUAL: tl.constexpr, B: tl.constexpr,
):  # fmt: skip
    """Store y~ = softmax(z / tau), lse = log mean exp(z / tau), and dot or the first part of r."""
    u = tl.program_id(0).to(tl.int64)
    largest = LEAST
    total = 0.0
    weighted = 0.0
    for first in range(0, V, B):
        v = first + tl.arange(0, B)
        z = tl.load(z_UV + u * S + v, mask=v < V, other=-float("inf")).to(tl.float32)
        new = tl.maximum(largest, tl.max(z, 0))
        scale = tl.exp((largest - new) * inverse_tau)
        e = tl.exp((z - new) * inverse_tau)
        total = total * scale + tl.sum(e, 0)
        weighted = weighted * scale + tl.sum(tl.where(v < V, e * z, 0.0), 0)
        largest = new
    tl.store(lse_U + u, largest * inverse_tau + tl.log(total / V))
    if HAS_RESIDUAL:
        weight = tl.load(weight_U + u)
    else:
        tl.store(dot_U + u, weighted / total * inverse_tau)
    for first in range(0, V, B):
        v = first + tl.arange(0, B)
        z = tl.load(z_UV + u * S + v, mask=v < V, other=0.0).to(tl.float32)
        y = tl.exp((z - largest) * inverse_tau) / total
        tl.store(soft_UV + u * V + v, y, mask=v < V)
        if HAS_RESIDUAL:
            tl.store(residual_UV + u * V + v, weight * inverse_tau * z, mask=v < V)


@triton.jit
def statistics(
    z_CV, bias_V, target_C, word_C, soft_UV, nll_C, lse_C, dot_C, stats_C4, V, S, inverse_tau,
    HAS_BIAS: tl.constexpr, HAS_SOFT: tl.constexpr, WANTS_DOT: tl.constexpr, B: tl.constexpr,
):  # fmt: skip
    """Store J and the parts of J_aug of each token, and maximum and sum of both its softmaxes."""
    c = tl.program_id(0).to(tl.int64)
    largest = LEAST
    total = 0.0
    largest_z = LEAST
    total_z = 0.0
    dot = 0.0
    word = tl.load(word_C + c)
    for first in range(0, V, B):
        v = first + tl.arange(0, B)
        z = tl.load(z_CV + c * S + v, mask=v < V, other=-float("inf")).to(tl.float32)
        x = z
        if HAS_BIAS:
            x = z + tl.load(bias_V + v, mask=v < V, other=0.0)
        new = tl.maximum(largest, tl.max(x, 0))
        total = total * tl.exp(largest - new) + tl.sum(tl.exp(x - new), 0)
        largest = new
        if HAS_SOFT:
            new = tl.maximum(largest_z, tl.max(z, 0))
            scale = tl.exp((largest_z - new) * inverse_tau)
            total_z = total_z * scale + tl.sum(tl.exp((z - new) * inverse_tau), 0)
            largest_z = new
            if WANTS_DOT:
                y = tl.load(soft_UV + word * V + v, mask=v < V, other=0.0)
                dot += tl.sum(tl.where(v < V, y * z, 0.0), 0)
    target = tl.load(target_C + c)
    logit = tl.load(z_CV + c * S + target).to(tl.float32)
    if HAS_BIAS:
        logit += tl.load(bias_V + target)
    tl.store(nll_C + c, largest - logit + tl.log(total))
    tl.store(stats_C4 + 4 * c, largest)
    tl.store(stats_C4 + 4 * c + 1, total)
    if HAS_SOFT:
        tl.store(lse_C + c, largest_z * inverse_tau + tl.log(total_z / V))
        tl.store(stats_C4 + 4 * c + 2, largest_z)
        tl.store(stats_C4 + 4 * c + 3, total_z)
        if WANTS_DOT:
            tl.store(dot_C + c, dot * inverse_tau)


@triton.jit
def subtract_tokens(
    z_CV,
    end_U,
    weight_C,
    residual_UV,
    V,
    S,
    inverse_tau,
    HAS_WEIGHTS: tl.constexpr,
    B: tl.constexpr,
):
    """Subtract weight z / tau of a word's tokens, which are consecutive, from its residual."""
    u = tl.program_id(0).to(tl.int64)
    v = tl.program_id(1) * B + tl.arange(0, B)
    start = tl.load(end_U + u)
    stop = tl.load(end_U + u + 1)
    if start == stop:  # no token of the word is in this chunk
        return
    total = tl.load(residual_UV + u * V + v, mask=v < V, other=0.0)
    for c in range(start, stop):
        z = tl.load(z_CV + c * S + v, mask=v < V, other=0.0).to(tl.float32)
        if HAS_WEIGHTS:
            z = z * tl.load(weight_C + c)
        total -= inverse_tau * z
    tl.store(residual_UV + u * V + v, total, mask=v < V)


@triton.jit
def bias_gradient(
    z_CV, bias_V, weight_C, stats_C4, part_SV, C, V, S, ROWS: tl.constexpr, B: tl.constexpr
):
    """Sum weight p over some tokens, which gives a share of the bias's gradient."""
    v = tl.program_id(1) * B + tl.arange(0, B)
    share = tl.program_id(0).to(tl.int64)  # the axis that may be long
    bias = tl.load(bias_V + v, mask=v < V, other=0.0)
    total = tl.zeros((B,), tl.float32)
    for c in range(share * ROWS, tl.minimum((share + 1) * ROWS, C)):
        row = tl.full((), c, tl.int64)
        z = tl.load(z_CV + row * S + v, mask=v < V, other=0.0).to(tl.float32)
        p = tl.exp(z + bias - tl.load(stats_C4 + 4 * row)) / tl.load(stats_C4 + 4 * row + 1)
        total += tl.load(weight_C + row) * p
    tl.store(part_SV + share * V + v, total, mask=v < V)


@triton.jit
def gradient(
    z_CV, bias_V, target_C, word_C, soft_UV, stats_C4, V, S, inverse_tau, gamma,
    HAS_BIAS: tl.constexpr, HAS_SOFT: tl.constexpr, B: tl.constexpr,
):  # fmt: skip
    """Turn scores into G, in place."""
    c = tl.program_id(0).to(tl.int64)
    v = tl.program_id(1) * B + tl.arange(0, B)
    z = tl.load(z_CV + c * S + v, mask=v < V, other=0.0).to(tl.float32)
    x = z
    if HAS_BIAS:
        x = z + tl.load(bias_V + v, mask=v < V, other=0.0)
    g = tl.exp(x - tl.load(stats_C4 + 4 * c)) / tl.load(stats_C4 + 4 * c + 1)
    if HAS_SOFT:
        largest = tl.load(stats_C4 + 4 * c + 2)
        q = tl.exp((z - largest) * inverse_tau) / tl.load(stats_C4 + 4 * c + 3)
        y = tl.load(soft_UV + tl.load(word_C + c) * V + v, mask=v < V, other=0.0)
        g += gamma * (q - y)
    g -= tl.where(v == tl.load(target_C + c), 1.0, 0.0)
    tl.store(z_CV + c * S + v, g.to(z_CV.dtype.element_ty), mask=v < V)


@triton.jit
def through_soft_targets(residual_UV, soft_UV, dot_U, out_UV, V, S, B: tl.constexpr):
    """Store dot = <y~, r> and out = y~ (r - dot)."""
    u = tl.program_id(0).to(tl.int64)
    dot = 0.0
    for first in range(0, V, B):
        v = first + tl.arange(0, B)
        r = tl.load(residual_UV + u * V + v, mask=v < V, other=0.0)
        y = tl.load(soft_UV + u * V + v, mask=v < V, other=0.0)
        dot += tl.sum(r * y, 0)
    tl.store(dot_U + u, dot)
    for first in range(0, V, B):
        v = first + tl.arange(0, B)
        r = tl.load(residual_UV + u * V + v, mask=v < V, other=0.0)
        y = tl.load(soft_UV + u * V + v, mask=v < V, other=0.0)
        out = y * (r - dot)
        tl.store(out_UV + u * S + v, out.to(out_UV.dtype.element_ty), mask=v < V)
