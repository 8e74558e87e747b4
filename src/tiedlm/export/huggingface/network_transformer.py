"""The Transformer of a tiedlm model. This file is self-contained and does not need tiedlm.

Each word attends to itself and to the M words before it, whose keys and values are the state.

Shape letters: B sequences, T steps, E embedding width, H hidden width, L layers, M words of memory,
S = M + T words that a call can see, A heads, D = H / A width of a head.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

EPSILON = 1e-5


class Memory(NamedTuple):
    """Keys and values ``(L, B, M, H)``, and ``(1, B, M)``: 1 where there is a word."""

    keys: Tensor
    values: Tensor
    known: Tensor


def rotate(x_BASD: Tensor, first: int) -> Tensor:
    """Rotate each pair of units ``(i, i + D / 2)`` by the position, which counts from ``first``."""
    length, width = x_BASD.shape[2:]
    places = torch.arange(first, first + length, dtype=torch.float64, device=x_BASD.device)
    exponents = torch.arange(0, width, 2, dtype=torch.float64, device=x_BASD.device) / width
    angles = torch.outer(places, 10_000.0**-exponents).repeat(1, 2)
    cosines, sines = angles.cos().to(x_BASD.dtype), angles.sin().to(x_BASD.dtype)
    one, other = x_BASD.chunk(2, dim=-1)
    return x_BASD * cosines + torch.cat((-other, one), dim=-1) * sines


class Layer(nn.Module):
    """One layer: attention and a gated feed-forward layer, each added to the hidden state."""

    def __init__(self, d_hidden: int, d_inner: int, n_heads: int, n_layers: int) -> None:
        super().__init__()
        self.n_heads, self.n_layers = n_heads, n_layers
        self.attention_norm = nn.Parameter(torch.empty(d_hidden))
        self.weight_qkv = nn.Parameter(torch.empty(3 * d_hidden, d_hidden))
        self.weight_out = nn.Parameter(torch.empty(d_hidden, d_hidden))
        self.feedforward_norm = nn.Parameter(torch.empty(d_hidden))
        self.weight_gate_up = nn.Parameter(torch.empty(2 * d_inner, d_hidden))
        self.weight_down = nn.Parameter(torch.empty(d_hidden, d_inner))

    def set_own_start(self) -> None:
        """Divide the matrices that add to a hidden state of a new model by ``sqrt(2 L)``."""
        for weight in (self.weight_out, self.weight_down):
            weight.detach().div_(math.sqrt(2 * self.n_layers))

    def forward(
        self, x_BTH: Tensor, key_BMH: Tensor, value_BMH: Tensor, seen_BTS: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the hidden states, and keys and values ``(B, S, H)`` of the memory and the words.

        Args:
            x_BTH: hidden states.
            key_BMH: keys of the memory.
            value_BMH: its values.
            seen_BTS: true where a word attends.
        """
        normed_BTH = functional.rms_norm(
            x_BTH, self.attention_norm.shape, self.attention_norm, EPSILON
        )
        query_BTH, key_BTH, value_BTH = (normed_BTH @ self.weight_qkv.t()).chunk(3, dim=-1)
        key_BSH = torch.cat((key_BMH, key_BTH), dim=1)
        value_BSH = torch.cat((value_BMH, value_BTH), dim=1)
        attended_BATD = functional.scaled_dot_product_attention(
            rotate(self._heads(query_BTH), key_BMH.shape[1]),
            rotate(self._heads(key_BSH), 0),
            self._heads(value_BSH),
            attn_mask=seen_BTS[:, None],
        )
        x_BTH = x_BTH + attended_BATD.transpose(1, 2).flatten(2) @ self.weight_out.t()
        normed_BTH = functional.rms_norm(
            x_BTH, self.feedforward_norm.shape, self.feedforward_norm, EPSILON
        )
        gate_BTF, up_BTF = (normed_BTH @ self.weight_gate_up.t()).chunk(2, dim=-1)
        x_BTH = x_BTH + (functional.silu(gate_BTF) * up_BTF) @ self.weight_down.t()
        return x_BTH, key_BSH, value_BSH

    def _heads(self, x_BSH: Tensor) -> Tensor:
        return x_BSH.view(*x_BSH.shape[:2], self.n_heads, -1).transpose(1, 2)


class Network(nn.Module):
    """A stack of layers with a rolling memory."""

    unsplittable = ("Layer",)  # modules that stay on one device

    def __init__(self, config: Any) -> None:
        super().__init__()
        options = config.network_options
        self.n_layers, self.d_hidden = config.n_layers, config.d_hidden
        self.memory = options["memory"]
        d_inner = options["d_inner"] or -(-8 * config.d_hidden // 3)
        is_narrow = config.d_embed != config.d_hidden
        self.weight_input = (
            nn.Parameter(torch.empty(config.d_hidden, config.d_embed)) if is_narrow else None
        )
        self.layers = nn.ModuleList(
            Layer(config.d_hidden, d_inner, options["n_heads"], config.n_layers)
            for _ in range(config.n_layers)
        )
        self.norm = nn.Parameter(torch.empty(config.d_hidden))

    def initial_state(self, batch: int, like: Tensor) -> Memory:
        """Return the state before the first word: a memory of no words."""
        keys = like.new_zeros(self.n_layers, batch, self.memory, self.d_hidden)
        return Memory(keys, keys, like.new_zeros(1, batch, self.memory))

    def forward(
        self, x_BTE: Tensor, state: Memory, mask_BT: Tensor | None
    ) -> tuple[list[Tensor], Memory]:
        """Return the outputs of every layer for a sequence, and the state after it.

        A masked position is skipped, and its output repeats the previous one. It is zero before the
        first word of a call.

        Args:
            x_BTE: word vectors.
            state: the state before the first step.
            mask_BT: true at the positions to read; None reads all.
        """
        batch, steps = x_BTE.shape[:2]
        if mask_BT is None:
            mask_BT = x_BTE.new_ones(batch, steps, dtype=torch.bool)
        # The positions to read come first, and the output of each goes back to its place.
        first_BT = mask_BT.to(torch.int8).argsort(dim=1, descending=True, stable=True)
        x_BTH = x_BTE.gather(1, first_BT[..., None].expand_as(x_BTE))
        latest_BT1 = mask_BT.cumsum(dim=1).unsqueeze(2) - 1  # -1 before the first word
        known_BS = torch.cat((state.known[0], mask_BT.gather(1, first_BT).to(x_BTH.dtype)), dim=1)
        # The memory after the call ends with the last word read.
        last_BM = mask_BT.sum(dim=1, keepdim=True) + torch.arange(self.memory, device=x_BTE.device)
        place_S = torch.arange(self.memory + steps, device=x_BTE.device)
        distance_TS = place_S[self.memory :, None] - place_S
        band_TS = (distance_TS >= 0) & (distance_TS <= self.memory)
        seen_BTS = band_TS & ((known_BS[:, None] > 0) | (distance_TS == 0))

        if self.weight_input is not None:
            x_BTH = x_BTH @ self.weight_input.t()
        outputs, keys, values = [], [], []
        kept = last_BM[..., None].expand(-1, -1, self.d_hidden)
        for layer, key_BMH, value_BMH in zip(self.layers, state.keys, state.values, strict=True):
            x_BTH, key_BSH, value_BSH = layer(x_BTH, key_BMH, value_BMH, seen_BTS)
            keys.append(key_BSH.gather(1, kept))
            values.append(value_BSH.gather(1, kept))
            outputs.append(x_BTH)
        outputs[-1] = functional.rms_norm(x_BTH, self.norm.shape, self.norm, EPSILON)
        after = Memory(torch.stack(keys), torch.stack(values), known_BS.gather(1, last_BM)[None])
        at_BTH = latest_BT1.clamp(min=0).expand_as(x_BTH)
        return [x.gather(1, at_BTH).masked_fill(latest_BT1 < 0, 0) for x in outputs], after
