"""AWD-LSTM: an LSTM with separate dropouts of input, recurrent weights, layers and output.

Optionally the input and the state of a layer gate each other before each step (Mogrifier).

Shape letters: B streams, T steps, E input width, H width of a layer, G = 4H gates, R rank.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from tiedlm.arithmetic import from_autocast, without_autocast
from tiedlm.dropout import check_probability, stream_mask, variational_mask
from tiedlm.networks.lstm import lstm_layer_reference
from tiedlm.networks.lstm_function import lstm_layer
from tiedlm.networks.network import check_type, register
from tiedlm.networks.options import option
from tiedlm.networks.state import check_shapes
from tiedlm.tracing import needs_plain_operations

if TYPE_CHECKING:
    from tiedlm.model import ModelConfig

Layer = Callable[..., tuple[Tensor, Tensor, Tensor]]


class AWDState(NamedTuple):
    """The state that is carried from one window to the next.

    Shape:
        h, c: ``(1, B, sum of the layers' widths)``, the layers side by side.
    """

    h: Tensor
    c: Tensor


@dataclass(frozen=True, kw_only=True)
class AWDOptions:
    """The options of AWD-LSTM; ``dropout_hidden`` is its dropout between layers.

    Raises:
        ValueError: for a value out of range.
    """

    d_last: int | None = option(
        None, "Width of the last layer. Default: the word vectors' width if tied, else d_hidden."
    )
    dropout_output: float = option(
        0.0, "Probability of dropping a unit of the last layer's output.", training_only=True
    )
    dropconnect: float = option(
        0.0, "Probability of dropping a recurrent weight.", training_only=True
    )
    mogrifier_rounds: int = option(
        0, "Rounds in which the input and the state of a layer gate each other."
    )
    mogrifier_rank: int | None = option(
        None, "Rank of the matrices of these gates. Default: full rank."
    )

    def __post_init__(self) -> None:
        for name in ("dropout_output", "dropconnect"):
            check_probability(name, getattr(self, name))
        for name in ("d_last", "mogrifier_rank"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}: expected at least 1, got {value}")
        if not 0 <= self.mogrifier_rounds <= 100:
            raise ValueError(f"mogrifier_rounds: expected 0 to 100, got {self.mogrifier_rounds}")
        if self.mogrifier_rank is not None and self.mogrifier_rounds == 0:
            raise ValueError("mogrifier_rank: needs mogrifier_rounds, such as 5")


class Gate(nn.Module):
    r"""The factor ``2 \sigma(M z)`` of a round of the Mogrifier; ``M`` may be a product ``A B``."""

    def __init__(self, d_input: int, d_output: int, rank: int | None) -> None:
        super().__init__()
        shapes = [(d_output, d_input)] if rank is None else [(d_output, rank), (rank, d_input)]
        self.factors = nn.ParameterList(nn.Parameter(torch.empty(shape)) for shape in shapes)

    def forward(self, z: Tensor) -> Tensor:
        """Return the factor ``(B, d_output)`` for ``z (B, d_input)``."""
        for factor in reversed(self.factors):
            z = z @ factor.t()
        return 2 * z.sigmoid()


class AWDLayer(nn.Module):
    """The parameters of one layer. The rows of each weight are in the order i, f, g, o.

    As in ``torch.nn.LSTM`` there are two biases, of which only the sum counts.
    """

    def __init__(self, d_input: int, d_hidden: int, options: AWDOptions) -> None:
        super().__init__()
        self.d_hidden = d_hidden
        self.weight_ih = nn.Parameter(torch.empty(4 * d_hidden, d_input))
        self.weight_hh = nn.Parameter(torch.empty(4 * d_hidden, d_hidden))
        self.bias_ih = nn.Parameter(torch.empty(4 * d_hidden))
        self.bias_hh = nn.Parameter(torch.empty(4 * d_hidden))
        widths = ((d_hidden, d_input), (d_input, d_hidden))  # of the gates on x, and on h
        self.gates = nn.ModuleList(
            Gate(*widths[index % 2], options.mogrifier_rank)
            for index in range(options.mogrifier_rounds)
        )

    def set_own_start(self) -> None:
        """Draw all parameters from U(-x, x) with x = 1 / sqrt(H), as ``torch.nn.LSTM`` does."""
        bound = self.d_hidden**-0.5
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def forward(
        self, x_TBE: Tensor, h_BH: Tensor, c_BH: Tensor, weight_hh_GH: Tensor, layer: Layer
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Run over a window; return ``(output_TBH, h_BH, c_BH)``.

        Args:
            x_TBE: inputs, already masked.
            h_BH: hidden state before the first step.
            c_BH: cell state before the first step.
            weight_hh_GH: the recurrent weights of this window.
            layer: the function that computes an LSTM layer. With the Mogrifier it is called for
                each step.
        """
        bias_G = self.bias_ih + self.bias_hh
        if not self.gates:
            return layer(x_TBE, h_BH, c_BH, self.weight_ih, weight_hh_GH, bias_G)
        outputs = []
        for x_BE in x_TBE:
            x_BE, gated_BH = mogrify(x_BE, h_BH, self.gates)
            output_TBH, h_BH, c_BH = layer(
                x_BE[None], gated_BH, c_BH, self.weight_ih, weight_hh_GH, bias_G
            )
            outputs.append(output_TBH)
        return torch.cat(outputs), h_BH, c_BH


def mogrify(x_BE: Tensor, h_BH: Tensor, gates: nn.ModuleList) -> tuple[Tensor, Tensor]:
    r"""Let the input and the hidden state of a step gate each other in turn.

    .. math::
        x &\leftarrow 2 \sigma(Q_i h) \odot x && \text{in odd rounds i} \\
        h &\leftarrow 2 \sigma(R_i x) \odot h && \text{in even rounds i}

    Args:
        x_BE: the input.
        h_BH: the hidden state.
        gates: one for each round.

    Returns:
        The two after all rounds.

    Source: Melis, Kocisky and Blunsom (2020), equations 1 and 2.
    """
    for index, gate in enumerate(gates):
        if index % 2 == 0:
            x_BE = gate(h_BH) * x_BE
        else:
            h_BH = gate(x_BE) * h_BH
    return x_BE, h_BH


@register(
    "awd_lstm",
    options=AWDOptions,
    about="an LSTM with dropped recurrent weights; Mogrifier gates are an option",
)
class AWDLSTM(nn.Module):
    r"""A stack of LSTM layers with DropConnect, and dropout masks that last for a window.

    .. math::
        (i, f, g, o) &= W_x x_t + (M \odot W_h) h_{t-1} + b \\
        c_t &= \sigma(f) \odot c_{t-1} + \sigma(i) \odot \tanh(g) \\
        h_t &= \sigma(o) \odot \tanh(c_t)

    In training each window has one mask ``M`` of each layer's recurrent weights, for all streams.
    Each stream has a mask of the input (``dropout_input``), one between each two layers
    (``dropout_hidden``) and one of the output (``dropout_output``). In evaluation nothing is
    dropped.

    Args:
        config: widths, number of layers, dropout; its ``network_options`` are
            :class:`AWDOptions`. All layers but the last are ``d_hidden`` wide.

    Source: Merity, Keskar and Socher (2018), sections 2 and 4.
    """

    forgets = True  # two states become equal, to rounding, after enough of the same words

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        options: AWDOptions = config.network_options
        last = options.d_last or (config.d_embed if config.tied else config.d_hidden)
        self.widths = [config.d_hidden] * (config.n_layers - 1) + [last]
        self.d_input, self.d_hidden = config.d_embed, last
        self.dropout_input = config.dropout_input
        self.dropout_between = config.dropout_hidden
        self.dropout_output = options.dropout_output
        self.dropconnect = options.dropconnect
        self.mask_share = (0, 1)
        inputs = [config.d_embed, *self.widths[:-1]]
        self.layers = nn.ModuleList(
            AWDLayer(d_input, width, options)
            for d_input, width in zip(inputs, self.widths, strict=True)
        )

    @property
    def shares_masks(self) -> bool:
        """Whether the streams of a batch share a mask: those of DropConnect."""
        return self.dropconnect > 0

    def typed_layers(self) -> Iterator[AWDLayer]:
        """Yield the layers, the first one first."""
        for layer in self.layers:
            assert isinstance(layer, AWDLayer)
            yield layer

    def initial_state(self, batch_size: int) -> AWDState:
        """Return the all-zero state for ``batch_size`` streams."""
        zeros = next(self.typed_layers()).bias_ih.new_zeros(1, batch_size, sum(self.widths))
        return AWDState(zeros, zeros.clone())

    def share_masks(self, rank: int, world: int) -> None:
        """Draw masks as process ``rank`` of ``world`` that share a batch."""
        self.mask_share = (rank, world)

    def forward_time_major(self, x_TBE: Tensor, state: AWDState | None) -> tuple[Tensor, AWDState]:
        """Read a window; return ``(hidden_TBH, state)``: the last layer's output after dropout."""
        hidden_TBH, _, state = self.forward_with_raw(x_TBE, state)
        return hidden_TBH, state

    def forward_with_raw(
        self, x_TBE: Tensor, state: AWDState | None
    ) -> tuple[Tensor, Tensor, AWDState]:
        """Read a window; return ``(hidden_TBH, raw_TBH, state)``: ``raw`` is before dropout.

        Raises:
            ValueError: for no steps, a wrong type of ``x``, or a wrong shape of ``state``.
        """
        steps, batch_size = x_TBE.shape[:2]
        if steps == 0:
            raise ValueError("x: expected one step or more, got none")
        dtype = next(self.typed_layers()).bias_ih.dtype
        check_type(x_TBE, dtype)
        state = self.initial_state(batch_size) if state is None else state
        expected = (1, batch_size, sum(self.widths))
        # Compiled kernels would read beyond the end of a smaller state.
        check_shapes(AWDState(*state), (expected, expected))
        if self.training or torch.is_grad_enabled():
            return self._run(x_TBE, state, self._layer_function(x_TBE))
        x_TBE, *state_tensors = from_autocast(dtype, x_TBE, *state)
        state = AWDState(*state_tensors)
        layer = self._layer_function(x_TBE)
        with without_autocast(x_TBE):
            exact = partial(layer, gemm=dtype) if layer is lstm_layer else layer
            return self._run(x_TBE, state, exact)

    def _layer_function(self, x_TBE: Tensor) -> Layer:
        """Return the fast layer, or the readable one where a hand-written gradient cannot work."""
        return lstm_layer_reference if needs_plain_operations(x_TBE) else lstm_layer

    def _run(
        self, x_TBE: Tensor, state: AWDState, layer_function: Layer
    ) -> tuple[Tensor, Tensor, AWDState]:
        """Run the layers one after the other; return as :meth:`forward_with_raw` does."""
        out_TBH = self._drop_units(x_TBE, self.dropout_input)
        parts = (torch.split(part[0], self.widths, dim=-1) for part in state)
        last_h, last_c = [], []
        for index, (layer, h_BH, c_BH) in enumerate(zip(self.typed_layers(), *parts, strict=True)):
            if index > 0:
                out_TBH = self._drop_units(out_TBH, self.dropout_between)
            weight_hh_GH = self._drop_connections(layer.weight_hh)
            # The fast layer needs contiguous states. Slices of the wider state are not contiguous.
            out_TBH, h_BH, c_BH = layer(
                out_TBH, h_BH.contiguous(), c_BH.contiguous(), weight_hh_GH, layer_function
            )
            last_h.append(h_BH)
            last_c.append(c_BH)
        after = AWDState(torch.cat(last_h, -1)[None], torch.cat(last_c, -1)[None])
        return self._drop_units(out_TBH, self.dropout_output), out_TBH, after

    def _drop_units(self, x_TBH: Tensor, p: float) -> Tensor:
        """Return a window with units dropped: in each stream the same units at every step."""
        p = p if self.training else 0.0
        mask_BH = stream_mask(x_TBH.shape[1], x_TBH.shape[2], p, x_TBH, *self.mask_share)
        return x_TBH if mask_BH is None else x_TBH * mask_BH

    def _drop_connections(self, weight: Tensor) -> Tensor:
        """Return recurrent weights with some dropped, the same ones in every process."""
        p = self.dropconnect if self.training else 0.0
        mask = variational_mask(tuple(weight.shape), p, weight)
        return weight if mask is None else weight * mask

    def extra_repr(self) -> str:
        """Describe the module in ``print(model)``."""
        return (
            f"{self.d_input}, widths={self.widths}, dropout_input={self.dropout_input}, "
            f"dropout_between={self.dropout_between}, dropout_output={self.dropout_output}, "
            f"dropconnect={self.dropconnect}"
        )
