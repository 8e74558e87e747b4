"""The gated recurrent unit with variational dropout: the module, and its readable layer.

Shape letters: B streams, T steps, E input width, H hidden width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from tiedlm.networks.gru_function import gru_layer
from tiedlm.networks.network import register
from tiedlm.networks.recurrent import RecurrentNetwork, masked
from tiedlm.tracing import needs_plain_operations

if TYPE_CHECKING:
    from tiedlm.model import ModelConfig


class GRULayer(nn.Module):
    """The parameters of one layer. The rows of each weight are in the order r, z, n.

    ``recurrent_bias`` is ``b_hn``. In ``torch.nn.GRU`` r and z have two biases each, of which only
    the sum counts. Here ``bias`` holds the sum.
    """

    def __init__(self, d_input: int, d_hidden: int) -> None:
        super().__init__()
        self.weight_ih = nn.Parameter(torch.empty(3 * d_hidden, d_input))
        self.weight_hh = nn.Parameter(torch.empty(3 * d_hidden, d_hidden))
        self.bias = nn.Parameter(torch.empty(3 * d_hidden))
        self.recurrent_bias = nn.Parameter(torch.empty(d_hidden))


def gru_layer_reference(
    x_TBE: Tensor,
    h_BH: Tensor,
    weight_ih_GE: Tensor,
    weight_hh_GH: Tensor,
    bias_G: Tensor,
    recurrent_bias_H: Tensor,
    mask_BH: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    r"""Compute one GRU layer step by step, as the equations are written.

    .. math::
        r &= \sigma(W_r x_t + R_r (m \odot h_{t-1}) + b_r) \\
        z &= \sigma(W_z x_t + R_z (m \odot h_{t-1}) + b_z) \\
        n &= \tanh(W_n x_t + b_n + r \odot (R_n (m \odot h_{t-1}) + b_{hn})) \\
        h_t &= (1 - z) \odot n + z \odot h_{t-1}

    Args:
        x_TBE: inputs, already masked.
        h_BH: hidden state before the first step, unmasked.
        weight_ih_GE: ``W_r`` above ``W_z`` above ``W_n``; G = 3H.
        weight_hh_GH: ``R_r`` above ``R_z`` above ``R_n``.
        bias_G: ``b_r``, ``b_z`` and ``b_n``.
        recurrent_bias_H: ``b_hn``.
        mask_BH: ``m``, or None for no dropout.

    Returns:
        ``(output_TBH, h_BH)``: the masked hidden states, and the last one unmasked.

    Source: Cho et al. (2014), in the form of ``torch.nn.GRU``.
    """
    H = h_BH.shape[-1]
    inputs_TBG = nn.functional.linear(x_TBE, weight_ih_GE, bias_G)  # of all steps at once
    recurrent_bias_G = torch.cat([recurrent_bias_H.new_zeros(2 * H), recurrent_bias_H])
    outputs, recurrent_BH = [], masked(h_BH, mask_BH)
    for input_BG in inputs_TBG.unbind(0):
        hidden_BG = nn.functional.linear(recurrent_BH, weight_hh_GH, recurrent_bias_G)
        gates_B2H = (input_BG[:, : 2 * H] + hidden_BG[:, : 2 * H]).sigmoid()
        r_BH, z_BH = gates_B2H.chunk(2, dim=-1)
        n_BH = torch.addcmul(input_BG[:, 2 * H :], r_BH, hidden_BG[:, 2 * H :]).tanh()
        h_BH = n_BH + z_BH * (h_BH - n_BH)
        recurrent_BH = masked(h_BH, mask_BH)
        outputs.append(recurrent_BH)
    return torch.stack(outputs), h_BH


@register("gru", about="gated recurrent units")
class GRU(RecurrentNetwork):
    """A stack of GRU layers in which a dropout mask lasts for the whole window.

    Args:
        config: widths, number of layers and dropout.
        fast: use the layer with the hand-written gradient; False uses the readable layer. Both give
            the same numbers.

    Source: Cho et al. (2014); Inan et al. (2017) for the dropout.
    """

    def __init__(self, config: ModelConfig, fast: bool = True) -> None:
        widths = [config.d_embed] + [config.d_hidden] * (config.n_layers - 1)
        super().__init__(config, [GRULayer(width, config.d_hidden) for width in widths])
        self.fast = fast

    def run_layer(
        self, layer: nn.Module, x_TBE: Tensor, h_BH: Tensor, mask_BH: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Run the fast layer, or the readable one where a hand-written gradient cannot work."""
        assert isinstance(layer, GRULayer)
        weights = (layer.weight_ih, layer.weight_hh, layer.bias, layer.recurrent_bias)
        is_fast = self.fast and not needs_plain_operations(x_TBE)
        run = gru_layer if is_fast else gru_layer_reference
        return run(x_TBE, h_BH, *weights, mask_BH)
