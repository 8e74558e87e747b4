"""The variational-dropout LSTM: the module, and the readable layer that defines what it computes.

Shape letters: B streams, T steps, E input width, H hidden width, G = 4H gates, L layers.
Inside ``networks`` time comes first; at the edge of the module the batch does.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from tiedlm.arithmetic import from_autocast, without_autocast
from tiedlm.dropout import check_probability, stream_mask
from tiedlm.networks import lstm_segment
from tiedlm.networks import state as states
from tiedlm.networks.by_hand import Backward, Learner
from tiedlm.networks.lstm_function import lstm_layer
from tiedlm.networks.network import check_sizes, check_type, draw_parameters, register
from tiedlm.tracing import is_jit_tracing, is_symbolic, is_transformed

if TYPE_CHECKING:
    from tiedlm.model import ModelConfig


class LSTMState(NamedTuple):
    """The state that an LSTM carries from one window to the next.

    Shape:
        h, c: ``(L, B, H)``. ``h`` is the hidden state *before* any mask.
    """

    h: Tensor
    c: Tensor

    def detach(self) -> LSTMState:
        """Return the state cut off from the graph: no gradient flows into the last window."""
        return states.detach(self)


def lstm_layer_reference(
    x_TBE: Tensor,
    h_BH: Tensor,
    c_BH: Tensor,
    weight_ih_GE: Tensor,
    weight_hh_GH: Tensor,
    bias_G: Tensor,
    mask_BH: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Compute one LSTM layer step by step, as the equations are written.

    .. math::
        (i, f, g, o) &= W_x x_t + W_h (m \odot h_{t-1}) + b \\
        c_t &= \sigma(f) \odot c_{t-1} + \sigma(i) \odot \tanh(g) \\
        h_t &= \sigma(o) \odot \tanh(c_t)

    The mask ``m`` is used twice: on ``h`` as the recurrent input of its own layer, and on ``h`` as
    the input of the next layer or the classifier.

    Args:
        x_TBE: inputs, already masked.
        h_BH: hidden state before the first step, unmasked.
        c_BH: cell state before the first step.
        weight_ih_GE: ``W_x``, rows in the order i, f, g, o (as in ``torch.nn.LSTM``).
        weight_hh_GH: ``W_h``, rows in the same order.
        bias_G: ``b``.
        mask_BH: ``m``, or None for no dropout.

    Returns:
        ``(output_TBH, h_BH, c_BH)``: the masked hidden states, and the state after the last step.
        Its ``h`` is not masked.

    Source: Inan et al. (2017) (variational dropout as in Gal and Ghahramani, 2016); Zaremba et al.
    (2014), equation 3.
    """
    mask = torch.ones_like(h_BH) if mask_BH is None else mask_BH
    outputs = []
    for x_BE in x_TBE:
        gates_BG = x_BE @ weight_ih_GE.t() + (mask * h_BH) @ weight_hh_GH.t() + bias_G
        i_BH, f_BH, g_BH, o_BH = gates_BG.chunk(4, dim=-1)
        c_BH = f_BH.sigmoid() * c_BH + i_BH.sigmoid() * g_BH.tanh()
        h_BH = o_BH.sigmoid() * c_BH.tanh()
        outputs.append(mask * h_BH)
    return torch.stack(outputs), h_BH, c_BH


class LSTMLayer(nn.Module):
    """The parameters of one layer. The rows of each weight are in the order i, f, g, o."""

    def __init__(self, d_input: int, d_hidden: int) -> None:
        super().__init__()
        self.weight_ih = nn.Parameter(torch.empty(4 * d_hidden, d_input))
        self.weight_hh = nn.Parameter(torch.empty(4 * d_hidden, d_hidden))
        self.bias = nn.Parameter(torch.empty(4 * d_hidden))


class VariationalLSTM(nn.Module):
    """A stack of LSTM layers in which a dropout mask lasts for the whole sequence.

    In training mode each call draws masks for every stream: one for the inputs, and one per layer
    for its hidden states. A mask is the same at every step. The mask of a layer is on ``h`` both as
    the recurrent input of the layer and as the input of the next one. In evaluation mode nothing is
    dropped.

    Args:
        d_input: width of the inputs.
        d_hidden: width of every layer.
        n_layers: number of layers.
        dropout_input: probability of dropping a unit of the inputs.
        dropout_hidden: probability of dropping a unit of a hidden state.
        fast: use the layer with the hand-written gradient; False uses the readable layer. Both
            give the same numbers. ``torch.func`` transforms, forward-mode differentiation and
            ``torch.export`` use the readable layer in any case. A second derivative through
            ``backward`` needs False.

    Shape:
        x: ``(B, T, d_input)``; output: ``(B, T, d_hidden)``, the masked hidden states of the last
        layer; state: :class:`LSTMState` with ``(n_layers, B, d_hidden)`` tensors.

    Source: Inan et al. (2017), training details.
    """

    forgets = True  # two states become equal, to rounding, after enough of the same words

    def __init__(
        self,
        d_input: int,
        d_hidden: int,
        n_layers: int = 1,
        dropout_input: float = 0.0,
        dropout_hidden: float = 0.0,
        fast: bool = True,
    ) -> None:
        super().__init__()
        check_sizes(d_input=d_input, d_hidden=d_hidden, n_layers=n_layers)
        check_probability("dropout_input", dropout_input)
        check_probability("dropout_hidden", dropout_hidden)
        self.d_input = d_input
        self.d_hidden = d_hidden
        self.n_layers = n_layers
        self.dropout_input = dropout_input
        self.dropout_hidden = dropout_hidden
        self.fast = fast
        self.mask_share = (0, 1)
        self.layers = nn.ModuleList(
            LSTMLayer(d_input if index == 0 else d_hidden, d_hidden) for index in range(n_layers)
        )
        self.reset_parameters()

    def reset_parameters(self, init_range: float = 0.1) -> None:
        """Draw weights from U(-init_range, init_range) and set biases to zero."""
        draw_parameters(self, init_range)

    def typed_layers(self) -> Iterator[LSTMLayer]:
        """Yield the layers, the first one first."""
        for layer in self.layers:
            assert isinstance(layer, LSTMLayer)
            yield layer

    def initial_state(self, batch_size: int) -> LSTMState:
        """Return the all-zero state for ``batch_size`` sequences."""
        like = next(self.typed_layers()).bias
        zeros_LBH = like.new_zeros(self.n_layers, batch_size, self.d_hidden)
        return LSTMState(zeros_LBH, zeros_LBH.clone())

    def sample_masks(self, batch_size: int) -> tuple[Tensor | None, list[Tensor | None]]:
        """Draw ``(input mask (B, d_input), [one mask (B, d_hidden) per layer])``.

        A mask is None in evaluation mode, and where its probability is 0.
        """
        if not self.training:
            return None, [None] * self.n_layers
        like = next(self.typed_layers()).bias

        def draw(width: int, p: float) -> Tensor | None:
            return stream_mask(batch_size, width, p, like, *self.mask_share)

        input_mask = draw(self.d_input, self.dropout_input)
        return input_mask, [draw(self.d_hidden, self.dropout_hidden) for _ in range(self.n_layers)]

    def share_masks(self, rank: int, world: int) -> None:
        """Draw masks as process ``rank`` of ``world`` that share a batch."""
        self.mask_share = (rank, world)

    def forward(
        self, x: Tensor, state: LSTMState | tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, LSTMState]:
        """Run over a window.

        Args:
            x: ``(B, T, d_input)``.
            state: ``(h, c)`` after the previous window, each ``(n_layers, B, d_hidden)``. None
                starts from zeros.

        Returns:
            ``(output, state)``: the masked hidden states ``(B, T, d_hidden)`` of the last layer,
            and the state after the last step, still attached to the graph.

        Raises:
            ValueError: for a wrong shape of ``x`` or ``state``, or a wrong type of ``x``.
        """
        if x.dim() != 3 or x.shape[-1] != self.d_input:
            raise ValueError(f"x: expected (B, T, {self.d_input}), got {tuple(x.shape)}")
        output_TBH, state = self.forward_time_major(x.transpose(0, 1), state)
        return output_TBH.transpose(0, 1), state

    def forward_time_major(
        self, x_TBE: Tensor, state: LSTMState | tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, LSTMState]:
        """Run over a window whose first axis is time, as :meth:`forward` does after transposing."""
        steps, batch_size = x_TBE.shape[:2]
        if steps == 0:
            raise ValueError("x: expected one step or more, got none")
        dtype = next(self.typed_layers()).bias.dtype
        check_type(x_TBE, dtype)
        h_LBH, c_LBH = self.initial_state(batch_size) if state is None else state
        expected = (self.n_layers, batch_size, self.d_hidden)
        for name, tensor in (("h", h_LBH), ("c", c_LBH)):
            if tuple(tensor.shape) != expected:
                raise ValueError(
                    f"state.{name}: expected (n_layers, B, d_hidden) = {expected}, "
                    f"got {tuple(tensor.shape)}"
                )
        fast = self.fast and not is_transformed()
        if fast and not self.training and not torch.is_grad_enabled():
            # Evaluation has no masks, so PyTorch's own kernel can be used where it is faster.
            x_TBE, h_LBH, c_LBH = from_autocast(dtype, x_TBE, h_LBH, c_LBH)
            with without_autocast(x_TBE):
                if x_TBE.is_cuda or is_symbolic(x_TBE) or not self._is_faster_here(batch_size):
                    return self._forward_without_masks(x_TBE, h_LBH, c_LBH)
                exact_layer = partial(lstm_layer, gemm=dtype)
                return self._forward_layers(x_TBE, h_LBH, c_LBH, exact_layer)
        fast = fast and not (is_symbolic(x_TBE) or is_jit_tracing())
        layer = lstm_layer if fast else lstm_layer_reference
        return self._forward_layers(x_TBE, h_LBH, c_LBH, layer)

    def read_to_learn(
        self, x_TE: Tensor, state: LSTMState | None
    ) -> tuple[Tensor, LSTMState, Backward]:
        """Read words of one stream without dropout, to learn from them by hand.

        See :class:`tiedlm.networks.by_hand.LearnsByHand`.
        """
        h_LBH, c_LBH = self.initial_state(1) if state is None else state
        read = []
        for index, layer in enumerate(self.typed_layers()):
            weights = (layer.weight_ih, layer.weight_hh, layer.bias)
            steps = lstm_segment.forward(x_TE, h_LBH[index, 0], c_LBH[index, 0], *weights)
            read.append((layer, x_TE, steps))
            x_TE = steps.hidden_SH[1:]
        last = LSTMState(
            torch.stack([steps.hidden_SH[-1:] for _, _, steps in read]),
            torch.stack([steps.cells_TH[-1:] for _, _, steps in read]),
        )

        def backward(grad_TH: Tensor, learner: Learner) -> Tensor:
            for layer, input_TE, steps in reversed(read):
                grad_TG = lstm_segment.backward(steps, layer.weight_hh, grad_TH)
                grad_TH = learner.through(layer.weight_ih, grad_TG, input_TE)
                learner.low_rank(layer.weight_hh, grad_TG, steps.hidden_SH[:-1])
                learner.dense(layer.bias, grad_TG.sum(dim=0))
            return grad_TH

        return x_TE, last, backward

    def _forward_layers(
        self,
        x_TBE: Tensor,
        h_LBH: Tensor,
        c_LBH: Tensor,
        layer_function: Callable[..., tuple[Tensor, Tensor, Tensor]],
    ) -> tuple[Tensor, LSTMState]:
        """Run the layers one after the other."""
        batch_size = x_TBE.shape[1]
        input_mask_BE, hidden_masks = self.sample_masks(batch_size)
        out_TB = x_TBE if input_mask_BE is None else x_TBE * input_mask_BE
        last_h, last_c = [], []
        for index, layer in enumerate(self.typed_layers()):
            out_TB, h_BH, c_BH = layer_function(
                out_TB,
                h_LBH[index],
                c_LBH[index],
                layer.weight_ih,
                layer.weight_hh,
                layer.bias,
                hidden_masks[index],
            )
            last_h.append(h_BH)
            last_c.append(c_BH)
        return out_TB, LSTMState(torch.stack(last_h), torch.stack(last_c))

    def _is_faster_here(self, batch_size: int) -> bool:
        """Tell whether our layers evaluate faster than PyTorch's kernel on a CPU.

        By measurement they are faster for several streams and weights that are too large for a
        cache. The weights are then laid out in memory for their products once per window.
        """
        return batch_size > 1 and self.d_hidden >= 1000

    def _forward_without_masks(
        self, x_TBE: Tensor, h_LBH: Tensor, c_LBH: Tensor
    ) -> tuple[Tensor, LSTMState]:
        """Evaluate with PyTorch's LSTM kernel, which has no dropout on the recurrent ``h``."""
        weights: list[Tensor] = []
        for layer in self.typed_layers():
            weights += [layer.weight_ih, layer.weight_hh, layer.bias, torch.zeros_like(layer.bias)]
        with exact_cudnn() if x_TBE.is_cuda else nullcontext():
            output_TBH, h_LBH, c_LBH = torch.lstm(
                x_TBE,
                (h_LBH.contiguous(), c_LBH.contiguous()),  # cuDNN refuses other layouts
                weights,
                has_biases=True,
                num_layers=self.n_layers,
                dropout=0.0,
                train=False,
                bidirectional=False,
                batch_first=False,
            )
        return output_TBH, LSTMState(h_LBH, c_LBH)

    def extra_repr(self) -> str:
        """Describe the module in ``print(model)``."""
        return (
            f"{self.d_input}, {self.d_hidden}, n_layers={self.n_layers}, "
            f"dropout_input={self.dropout_input}, dropout_hidden={self.dropout_hidden}"
        )


@register("lstm", about="the paper's LSTM with variational dropout")
def build(config: ModelConfig) -> VariationalLSTM:
    """Build the LSTM of a model from the model's configuration."""
    return VariationalLSTM(
        config.d_embed,
        config.d_hidden,
        config.n_layers,
        config.dropout_input,
        config.dropout_hidden,
    )


@contextmanager
def exact_cudnn() -> Iterator[None]:
    """Turn off cuDNN's rounding to TF32, and PyTorch's warning that it copies the weights."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "RNN module weights are not part of single contiguous")
        yield
