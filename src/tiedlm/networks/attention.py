"""Attention to the last M words, for the networks that keep a memory of them.

Shape letters: L layers, B streams, T steps, M words of memory, S = M + T words that a window can
see, E input width, H hidden width, F inner width, A heads, D = H / A width of a head.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from tiedlm.networks import state as states

BASE = 10_000.0  # of the wavelengths of positions (Vaswani et al., 2017; Su et al., 2021)
BLOCK = 128  # words whose attention is computed at once; more would waste work on keys out of reach
EPSILON = 1e-5  # added to the mean square of a hidden state, as in Mistral


class Memory(NamedTuple):
    """The state of a network that attends: keys and values of the last M words, for each layer.

    Shape:
        keys, values: ``(L, B, M, H)``, the latest word last; keys before their rotation.
        known: ``(1, B, M)``, 1 where the memory holds a word, and 0 where it is still empty.
    """

    keys: Tensor
    values: Tensor
    known: Tensor

    def detach(self) -> Memory:
        """Return the state cut off from the graph: no gradient flows into the last window."""
        return states.detach(self)


def empty_memory(shape: tuple[int, int, int, int], like: Tensor) -> Memory:
    """Return an empty memory, with which the first word attends only to itself.

    Args:
        shape: ``(L, B, M, H)``.
        like: the memory gets the dtype and the device of this tensor.
    """
    keys = like.new_zeros(shape)
    return Memory(keys, keys.clone(), like.new_zeros(1, *shape[1:3]))


def check_memory(state: Memory, shape: tuple[int, int, int, int]) -> None:
    """Check the shapes of a memory; ``shape`` is the expected shape of its keys.

    Raises:
        ValueError: naming the tensor, its shape and the expected one.
    """
    states.check_shapes(state, (shape, shape, (1, *shape[1:3])))


class LayerMasks(NamedTuple):
    """The masks of one layer: attention ``(B, H)``, inner ``(B, F)``, feedforward ``(B, H)``."""

    attention: Tensor | None
    inner: Tensor | None
    feedforward: Tensor | None


class Masks(NamedTuple):
    """The dropout masks of a window: input ``(B, E)``, one tuple per layer, output ``(B, H)``."""

    input: Tensor | None
    layers: list[LayerMasks]
    output: Tensor | None


def rotations(length: int, width: int, like: Tensor) -> tuple[Tensor, Tensor]:
    r"""Return the cosines and sines ``(length, width)`` that rotate the words of a window.

    At position ``p`` the units ``i`` and ``i + width / 2`` turn by the angle
    :math:`p \, b^{-2i / width}`, with ``b`` = 10,000.

    Args:
        length: number of positions, from 0.
        width: width of a head, even.
        like: the result gets the dtype and the device of this tensor.

    Source: Su et al. (2021), RoFormer; units are paired as in Llama and Mistral.
    """
    positions = torch.arange(length, dtype=torch.float64, device=like.device)
    exponents = torch.arange(0, width, 2, dtype=torch.float64, device=like.device) / width
    angles = torch.outer(positions, BASE**-exponents).repeat(1, 2)
    return angles.cos().to(like.dtype), angles.sin().to(like.dtype)


def rotate(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Rotate each pair of units ``(i, i + D / 2)`` of queries or keys ``(..., D)``."""
    first, second = x.chunk(2, dim=-1)
    return x * cosines + torch.cat((-second, first), dim=-1) * sines


def banded_attention(
    query_BATD: Tensor, key_BASD: Tensor, value_BASD: Tensor, context_BS: Tensor
) -> Tensor:
    r"""Let each word attend to itself and to the M words before it in its context.

    .. math::
        y_t = \sum_{j = t}^{t + M} p_{tj} v_j, \qquad
        p_{tj} \propto [c_j = c_{M + t}] \exp(q_t \cdot k_j / \sqrt{D})

    Key ``j = M + t`` is the word itself. There are M more keys than queries.

    Args:
        query_BATD: queries of the words of a window.
        key_BASD: keys of the memory and of the window.
        value_BASD: their values.
        context_BS: for each key the number of its context. A word attends only to keys of its own
            context. Empty places of the memory have a number that no word has.

    Returns:
        ``(B, A, T, D)``.

    Source: Vaswani et al. (2017), section 3.2.1; the band is Mistral's with
    ``sliding_window = M + 1``, which counts the word itself.
    """
    steps = query_BATD.shape[2]
    memory = key_BASD.shape[2] - steps
    blocks = []
    for start in range(0, steps, BLOCK):
        stop = min(start + BLOCK, steps)
        seen = slice(start, stop + memory)
        place_S = torch.arange(start, stop + memory, device=context_BS.device)
        distance_TS = place_S[memory:, None] - place_S
        band_TS = (distance_TS >= 0) & (distance_TS <= memory)
        own_BT = context_BS[:, start + memory : stop + memory]
        is_same_BTS = own_BT[:, :, None] == context_BS[:, None, seen]
        with _repeatable(query_BATD):
            block = functional.scaled_dot_product_attention(
                query_BATD[:, :, start:stop],
                key_BASD[:, :, seen],
                value_BASD[:, :, seen],
                attn_mask=(band_TS & is_same_BTS)[:, None],
            )
        blocks.append(block)
    return torch.cat(blocks, dim=2)


def _repeatable(query_BATD: Tensor) -> AbstractContextManager[object]:
    """Return a context in which the gradient of attention has the same bits every time.

    On a GPU the gradient of PyTorch's fused attention is a sum in an order that depends on timing.
    A resumed run would then differ from one that was not stopped.
    """
    if query_BATD.is_cuda and query_BATD.requires_grad:
        return sdpa_kernel(SDPBackend.MATH)
    return nullcontext()


def heads(x_BSH: Tensor, count: int) -> Tensor:
    """Split vectors ``(B, S, H)`` into heads: ``(B, A, S, D)``."""
    B, S, H = x_BSH.shape
    return x_BSH.view(B, S, count, H // count).transpose(1, 2)


def product(x: Tensor, weight: Tensor, dtype: torch.dtype) -> Tensor:
    """Return ``x @ weight.t()`` in the type of x, with operands rounded to ``dtype``."""
    return functional.linear(x.to(dtype), weight.to(dtype)).to(x.dtype)


def masked(x_BTH: Tensor, mask_BH: Tensor | None) -> Tensor:
    """Multiply every step by the same mask."""
    return x_BTH if mask_BH is None else x_BTH * mask_BH[:, None]


def rms_norm(x_BTH: Tensor, gain_H: Tensor) -> Tensor:
    """Return x divided by its root mean square, times a gain."""
    return functional.rms_norm(x_BTH, gain_H.shape, gain_H, EPSILON)
