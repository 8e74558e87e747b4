"""The encoder of a tiedlm model. This file is self-contained and does not need tiedlm.

It is ``torch.nn.TransformerEncoder`` with a causal mask, over word vectors plus sines and cosines
of positions. A text begins afresh after each context of C words.

Shape letters: B sequences, T steps, H hidden width, L layers, C words of a context, M = C - 1 words
of memory, S = M + T words that a call can see.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional


class Memory(NamedTuple):
    """Keys and values ``(L, B, M, H)``, and ``(1, B, M)``: 1 for words of the present context."""

    keys: Tensor
    values: Tensor
    known: Tensor


def position_table(length: int, width: int, like: Tensor) -> Tensor:
    """Return the vectors of positions: sines and cosines in turn."""
    places = torch.arange(length, dtype=torch.float64, device=like.device)
    exponents = torch.arange(0, width, 2, dtype=torch.float64, device=like.device) / width
    angles = torch.outer(places, 10_000.0**-exponents)
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1).to(like.dtype)


class Network(nn.Module):
    """A stack of PyTorch's encoder layers, which remembers the words of the present context."""

    unsplittable = ("TransformerEncoderLayer",)  # modules that stay on one device

    def __init__(self, config: Any) -> None:
        super().__init__()
        options = config.network_options
        self.n_layers, self.d_hidden = config.n_layers, config.d_hidden
        self.context = options["context"]
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(config.d_hidden, options["n_heads"], options["d_inner"])
            for _ in range(config.n_layers)
        )
        self.norm = nn.LayerNorm(config.d_hidden) if options["final_norm"] else None

    def initial_state(self, batch: int, like: Tensor) -> Memory:
        """Return the state before the first word: a context begins."""
        keys = like.new_zeros(self.n_layers, batch, self.context - 1, self.d_hidden)
        return Memory(keys, keys, like.new_zeros(1, batch, self.context - 1))

    def forward(
        self, x_BTH: Tensor, state: Memory, mask_BT: Tensor | None
    ) -> tuple[list[Tensor], Memory]:
        """Return the outputs of every layer for a sequence, and the state after it.

        A masked position is skipped, and its output repeats the previous one. It is zero before the
        first word of a call.

        Args:
            x_BTH: word vectors.
            state: the state before the first step.
            mask_BT: true at the positions to read; None reads all.
        """
        batch, steps = x_BTH.shape[:2]
        if mask_BT is None:
            mask_BT = x_BTH.new_ones(batch, steps, dtype=torch.bool)
        # The positions to read come first, and the output of each goes back to its place.
        first_BT = mask_BT.to(torch.int8).argsort(dim=1, descending=True, stable=True)
        x_BTH = x_BTH.gather(1, first_BT[..., None].expand_as(x_BTH))
        latest_BT1 = mask_BT.cumsum(dim=1).unsqueeze(2) - 1  # -1 before the first word
        lengths_B1 = mask_BT.sum(dim=1, keepdim=True)
        # The place of a word counts from the beginning of the context that the memory is in.
        memory = self.context - 1
        read_B1 = state.known[0].float().round().sum(1, keepdim=True).long()
        place_BS = read_B1 + torch.arange(-memory, steps, device=x_BTH.device)
        context_BS = place_BS.div(self.context, rounding_mode="floor")
        is_same_BTS = context_BS[:, memory:, None] == context_BS[:, None]
        seen_BTS = is_same_BTS & (place_BS[:, memory:, None] >= place_BS[:, None])
        # The memory after the call ends with the last word read.
        last_BM = lengths_B1 + torch.arange(memory, device=x_BTH.device)
        begins_B1 = (read_B1 + lengths_B1) // self.context * self.context
        known_BM = (place_BS.gather(1, last_BM) >= begins_B1).to(x_BTH.dtype)

        table_CH = position_table(self.context, self.d_hidden, x_BTH)
        places_BTH = table_CH[place_BS[:, memory:] % self.context]
        x_BTH = x_BTH * math.sqrt(self.d_hidden) + places_BTH
        outputs, keys, values = [], [], []
        kept = last_BM[..., None].expand(-1, -1, self.d_hidden)
        for layer, key_BMH, value_BMH in zip(self.layers, state.keys, state.values, strict=True):
            x_BTH, key_BSH, value_BSH = _run(layer, x_BTH, key_BMH, value_BMH, seen_BTS)
            keys.append(key_BSH.gather(1, kept))
            values.append(value_BSH.gather(1, kept))
            outputs.append(x_BTH)
        if self.norm is not None:
            outputs[-1] = self.norm(x_BTH)
        after = Memory(torch.stack(keys), torch.stack(values), known_BM[None])
        at_BTH = latest_BT1.clamp(min=0).expand_as(x_BTH)
        return [x.gather(1, at_BTH).masked_fill(latest_BT1 < 0, 0) for x in outputs], after


def _run(
    layer: Any, x_BTH: Tensor, key_BMH: Tensor, value_BMH: Tensor, seen_BTS: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Run a layer; return it with keys and values ``(B, S, H)`` of the memory and the words."""
    attention = layer.self_attn
    projected = functional.linear(x_BTH, attention.in_proj_weight, attention.in_proj_bias)
    query_BTH, key_BTH, value_BTH = projected.chunk(3, dim=-1)
    key_BSH = torch.cat((key_BMH, key_BTH), dim=1)
    value_BSH = torch.cat((value_BMH, value_BTH), dim=1)
    query_BATD, key_BASD, value_BASD = (
        part.view(*part.shape[:2], attention.num_heads, -1).transpose(1, 2)
        for part in (query_BTH, key_BSH, value_BSH)
    )
    attended_BATD = functional.scaled_dot_product_attention(
        query_BATD, key_BASD, value_BASD, attn_mask=seen_BTS[:, None]
    )
    added_BTH = attention.out_proj(attended_BATD.transpose(1, 2).flatten(2))
    x_BTH = layer.norm1(x_BTH + added_BTH)
    inner_BTF = functional.relu(layer.linear1(x_BTH))
    return layer.norm2(x_BTH + layer.linear2(inner_BTF)), key_BSH, value_BSH
