"""A Transformer that remembers exactly the last M words, in any window.

Each word attends to itself and to the M words before it. The keys and values of the last M words
are the state, so window and batch size change nothing but rounding. Only the distance of two
positions matters. So keys are kept before their rotation, and each window counts positions from the
oldest word that it can see. Positions then stay below M + T.

Shape letters: T steps, B streams, E width of the word vectors, H hidden width, L layers,
M words of memory, S = M + T words that a window can see.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from tiedlm.arithmetic import from_autocast, gemm_dtype, without_autocast
from tiedlm.dropout import check_probability, stream_mask
from tiedlm.errors import UserError
from tiedlm.networks.attention import (
    LayerMasks,
    Masks,
    Memory,
    check_memory,
    empty_memory,
    masked,
    product,
    rms_norm,
    rotations,
)
from tiedlm.networks.network import check_sizes, draw_parameters, register
from tiedlm.networks.options import option
from tiedlm.networks.state import map_state
from tiedlm.networks.transformer_layer import TransformerLayer

if TYPE_CHECKING:
    from tiedlm.model import ModelConfig


@dataclass(frozen=True, kw_only=True)
class TransformerOptions:
    """The options of the network ``transformer``.

    Raises:
        ValueError: naming the option that is out of range.
    """

    n_heads: int = option(4, "Heads of the attention; d_hidden / n_heads must be an even number.")
    d_inner: int | None = option(
        None, "Width inside a feed-forward layer. Default: 8/3 of d_hidden."
    )
    memory: int = option(128, "Words before itself that a word attends to, in each layer.")
    dropout_attention: float | None = option(
        None,
        "Probability of dropping a unit of what attention adds. Default: dropout_hidden.",
        training_only=True,
    )
    dropout_feedforward: float | None = option(
        None,
        "Probability of dropping a unit in a feed-forward layer, and of what the layer adds. "
        "Default: dropout_hidden.",
        training_only=True,
    )
    dropout_output: float | None = option(
        None,
        "Probability of dropping a unit of the output. Default: dropout_hidden.",
        training_only=True,
    )

    def __post_init__(self) -> None:
        for name in ("n_heads", "d_inner", "memory"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}: expected at least 1, got {value}")
        for name in ("dropout_attention", "dropout_feedforward", "dropout_output"):
            if (p := getattr(self, name)) is not None:
                check_probability(name, p)


class Transformer(nn.Module):
    """A stack of Transformer layers with a rolling memory, in which a mask lasts for the window.

    In training mode each call draws masks for every stream: one for the inputs, three per layer and
    one for the output. A mask is the same at every step. In evaluation mode nothing is dropped.

    Args:
        d_input: width of the inputs. If it is not d_hidden, a matrix maps the inputs to d_hidden.
        d_hidden: width of every layer.
        n_layers: number of layers.
        dropout_input: probability of dropping a unit of the inputs.
        dropout_hidden: probability of dropping units in attention, feed-forward layers and the
            output, unless the options give other probabilities.
        options: heads, memory, inner width, and dropout probabilities of their own for these
            places.

    Shape:
        output ``(T, B, d_hidden)``; state: :class:`tiedlm.networks.attention.Memory`.

    Raises:
        ValueError: naming the argument that is out of range.

    Source: Vaswani et al. (2017); equal to Mistral (Jiang et al., 2023) with
    ``sliding_window = memory + 1`` and as many key heads as query heads.
    """

    # Two states become equal after L * M words. But the words of a window are computed at once, so
    # parallel segments would be no faster, and would need many of these large states.
    forgets = False

    def __init__(
        self,
        d_input: int,
        d_hidden: int,
        n_layers: int = 1,
        dropout_input: float = 0.0,
        dropout_hidden: float = 0.0,
        options: TransformerOptions | None = None,
    ) -> None:
        super().__init__()
        options = TransformerOptions() if options is None else options
        check_sizes(d_input=d_input, d_hidden=d_hidden, n_layers=n_layers)
        check_heads(d_hidden, options.n_heads)
        check_probability("dropout_input", dropout_input)
        check_probability("dropout_hidden", dropout_hidden)
        self.d_input = d_input
        self.d_hidden = d_hidden
        self.d_inner = -(-8 * d_hidden // 3) if options.d_inner is None else options.d_inner
        self.n_layers = n_layers
        self.n_heads = options.n_heads
        self.memory = options.memory
        self.dropout_input = dropout_input
        given = (options.dropout_attention, options.dropout_feedforward, options.dropout_output)
        self.dropout_attention, self.dropout_feedforward, self.dropout_output = (
            dropout_hidden if p is None else p for p in given
        )
        self.mask_share = (0, 1)
        self.weight_input = (
            nn.Parameter(torch.empty(d_hidden, d_input)) if d_input != d_hidden else None
        )
        self.layers = nn.ModuleList(
            TransformerLayer(d_hidden, self.d_inner, options.n_heads) for _ in range(n_layers)
        )
        self.norm = nn.Parameter(torch.empty(d_hidden))
        self.reset_parameters()

    def reset_parameters(self, init_range: float = 0.1) -> None:
        """Draw weights from U(-init_range, init_range) and set the gains of norms to 1."""
        draw_parameters(self, init_range)

    def set_own_start(self) -> None:
        """Set gains to 1, and divide the matrices that add to a hidden state by ``sqrt(2 L)``.

        So the size of a hidden state does not grow with the number of layers.

        Source: Radford et al. (2019), section 2.3.
        """
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if name.endswith("norm"):
                    parameter.fill_(1.0)
                elif name.endswith(("weight_out", "weight_down")):
                    parameter.div_(math.sqrt(2 * self.n_layers))

    def typed_layers(self) -> Iterator[TransformerLayer]:
        """Yield the layers, the first one first."""
        for layer in self.layers:
            assert isinstance(layer, TransformerLayer)
            yield layer

    def initial_state(self, batch_size: int) -> Memory:
        """Return an empty memory for ``batch_size`` streams."""
        return empty_memory((self.n_layers, batch_size, self.memory, self.d_hidden), self.norm)

    def share_masks(self, rank: int, world: int) -> None:
        """Draw masks as process ``rank`` of ``world`` that share a batch."""
        self.mask_share = (rank, world)

    def sample_masks(self, batch_size: int) -> Masks:
        """Draw the masks of a window; None in evaluation mode, and where a probability is 0."""

        def draw(width: int, p: float) -> Tensor | None:
            p = p if self.training else 0.0
            return stream_mask(batch_size, width, p, self.norm, *self.mask_share)

        def of_layer() -> LayerMasks:
            return LayerMasks(
                draw(self.d_hidden, self.dropout_attention),
                draw(self.d_inner, self.dropout_feedforward),
                draw(self.d_hidden, self.dropout_feedforward),
            )

        return Masks(
            draw(self.d_input, self.dropout_input),
            [of_layer() for _ in range(self.n_layers)],
            draw(self.d_hidden, self.dropout_output),
        )

    def forward_time_major(
        self, x_TBE: Tensor, state: Memory | None = None
    ) -> tuple[Tensor, Memory]:
        """Run over a window as :meth:`forward_with_raw` does, without the undropped output."""
        output_TBH, _, state = self.forward_with_raw(x_TBE, state)
        return output_TBH, state

    def forward_with_raw(
        self, x_TBE: Tensor, state: Memory | None = None
    ) -> tuple[Tensor, Tensor, Memory]:
        """Run over a window.

        Args:
            x_TBE: ``(T, B, d_input)``.
            state: the memory after the previous window; None is empty.

        Returns:
            ``(output, raw, state)``: the hidden states ``(T, B, d_hidden)`` of the last layer,
            after and before dropout, and the memory after the last step, still attached to the
            graph.

        Raises:
            ValueError: for no steps, or a wrong shape of ``state``.
        """
        steps, batch_size = x_TBE.shape[:2]
        if steps == 0:
            raise ValueError("x: expected one step or more, got none")
        state = self.initial_state(batch_size) if state is None else Memory(*state)
        check_memory(state, (self.n_layers, batch_size, self.memory, self.d_hidden))
        x_BTE, masks = x_TBE.transpose(0, 1), self.sample_masks(batch_size)
        if self.training or torch.is_grad_enabled():
            raw_BTH, state = self._run(x_BTE, state, masks, gemm_dtype(x_BTE))
        else:
            (x_BTE,) = from_autocast(self.norm.dtype, x_BTE)
            with without_autocast(x_BTE):
                raw_BTH, state = self._run(x_BTE, state, masks, self.norm.dtype)
        return masked(raw_BTH, masks.output).transpose(0, 1), raw_BTH.transpose(0, 1), state

    def _run(
        self, x_BTE: Tensor, state: Memory, masks: Masks, dtype: torch.dtype
    ) -> tuple[Tensor, Memory]:
        """Run the layers one after the other; return the undropped output and the memory."""
        batch_size, steps = x_BTE.shape[:2]
        known_BS = torch.cat((state.known[0], state.known.new_ones(batch_size, steps)), dim=1)
        turns = rotations(self.memory + steps, self.d_hidden // self.n_heads, self.norm)
        x_BTH = masked(x_BTE, masks.input)
        if self.weight_input is not None:
            x_BTH = product(x_BTH, self.weight_input, dtype)
        keys, values = [], []
        for index, layer in enumerate(self.typed_layers()):
            before = (state.keys[index], state.values[index])
            x_BTH, key_BMH, value_BMH = layer(
                x_BTH, before, known_BS, turns, masks.layers[index], dtype
            )
            keys.append(key_BMH)
            values.append(value_BMH)
        known_1BM = known_BS[None, :, -self.memory :]
        last = Memory(torch.stack(keys), torch.stack(values), known_1BM)
        last = map_state(lambda part: part.to(self.norm.dtype), last)
        return rms_norm(x_BTH, self.norm), last

    def extra_repr(self) -> str:
        """Describe the module in ``print(model)``."""
        return (
            f"{self.d_input}, {self.d_hidden}, n_layers={self.n_layers}, n_heads={self.n_heads}, "
            f"d_inner={self.d_inner}, memory={self.memory}"
        )


def check_heads(d_hidden: int, n_heads: int) -> None:
    """Check that the heads divide the hidden width into even widths, as rotations need.

    Raises:
        ValueError: naming n_heads, the width and the number given.
    """
    if d_hidden % n_heads or d_hidden // n_heads % 2:
        raise ValueError(
            f"n_heads: expected a divisor of d_hidden = {d_hidden} that leaves heads of an even "
            f"width, got {n_heads}"
        )


@register("transformer", options=TransformerOptions, about="attention to exactly the last M words")
def build(config: ModelConfig) -> Transformer:
    """Build the Transformer of a model from the model's configuration.

    Raises:
        UserError: if the heads do not fit the hidden width.
    """
    options = config.network_options
    try:
        check_heads(config.d_hidden, options.n_heads)
    except ValueError as error:
        raise UserError(f"network transformer, option {error}") from error
    return Transformer(
        config.d_embed,
        config.d_hidden,
        config.n_layers,
        config.dropout_input,
        config.dropout_hidden,
        options,
    )
