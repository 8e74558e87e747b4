"""The Transformer of pytorch/examples' word_language_model, to read its checkpoints.

It is ``torch.nn.TransformerEncoder`` with a causal mask. Sines and cosines of the positions are
added to the word vectors. That program reads windows of 35 words, and a word sees only its own
window. Here the window must not change the result. So the text is cut into contexts of C words,
independently of the windows, and a word attends to itself and to the earlier words of its context.

Shape letters: T steps, B streams, H hidden width, L layers, C words of a context, M = C - 1 words
of memory, S = M + T words that a window can see, F inner width.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from tiedlm.arithmetic import from_autocast, without_autocast
from tiedlm.dropout import stream_mask
from tiedlm.errors import UserError
from tiedlm.networks.attention import (
    BASE,
    LayerMasks,
    Masks,
    Memory,
    banded_attention,
    check_memory,
    empty_memory,
    heads,
    masked,
)
from tiedlm.networks.network import register
from tiedlm.networks.options import option
from tiedlm.networks.state import map_state

if TYPE_CHECKING:
    from tiedlm.model import ModelConfig


@dataclass(frozen=True, kw_only=True)
class EncoderOptions:
    """The options of the network ``encoder``.

    Raises:
        ValueError: naming the option that is out of range.
    """

    n_heads: int = option(2, "Heads of the attention; they divide d_hidden.")
    d_inner: int = option(200, "Width inside a feed-forward layer.")
    context: int = option(35, "Words of a context; nothing is remembered beyond it.")
    final_norm: bool = option(True, "Whether a layer norm follows the last layer.")

    def __post_init__(self) -> None:
        for name, least in (("n_heads", 1), ("d_inner", 1), ("context", 2)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}: expected at least {least}, got {getattr(self, name)}")


def position_table(length: int, width: int, like: Tensor) -> Tensor:
    r"""Return the vectors ``(length, width)`` that are added to words for their positions.

    Unit ``2 i`` of position ``p`` is :math:`\sin(p \, b^{-2i / width})`, unit ``2 i + 1`` the
    cosine of the same angle, with ``b`` = 10,000.

    Args:
        length: number of positions, from 0.
        width: an even number.
        like: the result gets the dtype and the device of this tensor.

    Source: Vaswani et al. (2017), section 3.5.
    """
    positions = torch.arange(length, dtype=torch.float64, device=like.device)
    exponents = torch.arange(0, width, 2, dtype=torch.float64, device=like.device) / width
    angles = torch.outer(positions, BASE**-exponents)
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1).to(like.dtype)


@register(
    "encoder",
    options=EncoderOptions,
    about="the Transformer of pytorch/examples, for imported checkpoints",
)
class TransformerEncoder(nn.Module):
    r"""Layers of attention and a feed-forward layer, each followed by a layer norm.

    .. math::
        x &\leftarrow \mathrm{norm}_1(x + m_a \odot \mathrm{attention}(x)) \\
        x &\leftarrow \mathrm{norm}_2(x + m_f \odot (W_2 (m_i \odot \mathrm{relu}(W_1 x + b_1))
        + b_2))

    The input is the word vector times ``sqrt(H)``, plus the vector of its position, masked. Every
    mask lasts for the window. The masks of the layers have the probability dropout_hidden.

    Args:
        config: d_embed must be d_hidden, an even number that the heads divide.

    Raises:
        UserError: naming the width or the option that does not fit.

    Source: Vaswani et al. (2017); ``TransformerModel`` of pytorch/examples,
    word_language_model/model.py.
    """

    forgets = False  # states at different places of a context never become equal

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        options: EncoderOptions = config.network_options
        width = config.d_hidden
        if config.d_embed != width or width % 2:
            raise UserError(
                "network encoder: expected d_embed and d_hidden to be the same even number, got "
                f"{config.d_embed} and {width}"
            )
        if width % options.n_heads:
            raise UserError(
                f"network encoder, option n_heads: expected a divisor of d_hidden = {width}, got "
                f"{options.n_heads}"
            )
        self.d_hidden = width
        self.n_layers = config.n_layers
        self.n_heads = options.n_heads
        self.d_inner = options.d_inner
        self.context = options.context
        self.dropout_input = config.dropout_input
        self.dropout_hidden = config.dropout_hidden
        self.mask_share = (0, 1)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, options.n_heads, options.d_inner)
            for _ in range(config.n_layers)
        )
        self.norm = nn.LayerNorm(width) if options.final_norm else None

    def set_own_start(self) -> None:
        """Set the gains of the norms to 1."""
        for module in self.modules():
            if isinstance(module, nn.LayerNorm):
                nn.init.ones_(module.weight)

    def typed_layers(self) -> Iterator[nn.TransformerEncoderLayer]:
        """Yield the layers, the first one first."""
        for layer in self.layers:
            assert isinstance(layer, nn.TransformerEncoderLayer)
            yield layer

    def initial_state(self, batch_size: int) -> Memory:
        """Return an empty memory for ``batch_size`` streams: a context begins."""
        like = next(self.typed_layers()).linear1.bias
        return empty_memory((self.n_layers, batch_size, self.context - 1, self.d_hidden), like)

    def share_masks(self, rank: int, world: int) -> None:
        """Draw masks as process ``rank`` of ``world`` that share a batch."""
        self.mask_share = (rank, world)

    def sample_masks(self, like: Tensor) -> Masks:
        """Draw the masks of a window for a batch like ``(B, ...)``; None where none is needed."""

        def draw(width: int, p: float) -> Tensor | None:
            p = p if self.training else 0.0
            return stream_mask(len(like), width, p, like, *self.mask_share)

        widths = (self.d_hidden, self.d_inner, self.d_hidden)
        input_mask = draw(self.d_hidden, self.dropout_input)
        layers = [
            LayerMasks(*(draw(width, self.dropout_hidden) for width in widths))
            for _ in range(self.n_layers)
        ]
        return Masks(input_mask, layers, None)

    def forward_time_major(
        self, x_TBE: Tensor, state: Memory | None = None
    ) -> tuple[Tensor, Memory]:
        """Run over a window.

        Args:
            x_TBE: ``(T, B, d_hidden)``.
            state: the memory after the previous window; None begins a context.

        Returns:
            ``(output, state)``: the hidden states ``(T, B, d_hidden)`` of the last layer, and the
            memory after the last step, still attached to the graph.

        Raises:
            ValueError: for no steps, or a wrong shape of ``state``.
        """
        steps, batch_size = x_TBE.shape[:2]
        if steps == 0:
            raise ValueError("x: expected one step or more, got none")
        state = self.initial_state(batch_size) if state is None else Memory(*state)
        if self.training or torch.is_grad_enabled():
            return self._run(x_TBE, state)
        (x_TBE,) = from_autocast(state.keys.dtype, x_TBE)
        with without_autocast(x_TBE):
            return self._run(x_TBE, state)

    def _run(self, x_TBE: Tensor, state: Memory) -> tuple[Tensor, Memory]:
        """Run over a window with the memory ``state``."""
        steps, batch_size = x_TBE.shape[:2]
        memory = self.context - 1
        check_memory(state, (self.n_layers, batch_size, memory, self.d_hidden))
        # Positions count from the beginning of the context in which the memory ends.
        read_B1 = state.known[0].float().round().sum(1, keepdim=True).long()
        place_BS = read_B1 + torch.arange(-memory, steps, device=x_TBE.device)
        context_BS = place_BS.div(self.context, rounding_mode="floor")
        table_CH = position_table(self.context, self.d_hidden, x_TBE)
        masks = self.sample_masks(x_TBE.transpose(0, 1))

        x_BTH = x_TBE.transpose(0, 1) * math.sqrt(self.d_hidden)
        x_BTH = masked(x_BTH + table_CH[place_BS[:, memory:] % self.context], masks.input)
        keys, values = [], []
        for index, layer in enumerate(self.typed_layers()):
            before = (state.keys[index], state.values[index])
            x_BTH, key_BMH, value_BMH = _run_layer(
                layer, x_BTH, before, context_BS, masks.layers[index]
            )
            keys.append(key_BMH)
            values.append(value_BMH)
        output_BTH = x_BTH if self.norm is None else self.norm(x_BTH)
        known_BM = place_BS[:, -memory:] >= (place_BS[:, -1:] + 1) // self.context * self.context
        last = Memory(torch.stack(keys), torch.stack(values), known_BM[None])
        dtype = state.keys.dtype
        return output_BTH.transpose(0, 1), map_state(lambda part: part.to(dtype), last)


def _run_layer(
    layer: nn.TransformerEncoderLayer,
    x_BTH: Tensor,
    memory: tuple[Tensor, Tensor],
    context_BS: Tensor,
    masks: LayerMasks,
) -> tuple[Tensor, Tensor, Tensor]:
    """Run a layer over a window; return hidden states, and keys and values of the last M words."""
    attention, size = layer.self_attn, memory[0].shape[1]
    projected = functional.linear(x_BTH, attention.in_proj_weight, attention.in_proj_bias)
    query_BTH, key_BTH, value_BTH = projected.chunk(3, dim=-1)
    key_BSH = torch.cat((memory[0].to(key_BTH.dtype), key_BTH), dim=1)
    value_BSH = torch.cat((memory[1].to(value_BTH.dtype), value_BTH), dim=1)
    attended_BATD = banded_attention(
        heads(query_BTH, attention.num_heads),
        heads(key_BSH, attention.num_heads),
        heads(value_BSH, attention.num_heads),
        context_BS,
    )
    added_BTH = attention.out_proj(attended_BATD.transpose(1, 2).flatten(2))
    x_BTH = layer.norm1(x_BTH + masked(added_BTH, masks.attention))
    inner_BTF = masked(functional.relu(layer.linear1(x_BTH)), masks.inner)
    x_BTH = layer.norm2(x_BTH + masked(layer.linear2(inner_BTF), masks.feedforward))
    return x_BTH, key_BSH[:, -size:], value_BSH[:, -size:]
