"""The simple recurrent network of Elman, with variational dropout.

Shape letters: B streams, T steps, E input width, H hidden width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from tiedlm.arithmetic import from_autocast, without_autocast
from tiedlm.networks.network import register
from tiedlm.networks.options import option
from tiedlm.networks.recurrent import RecurrentNetwork, masked

if TYPE_CHECKING:
    from tiedlm.model import ModelConfig


@dataclass(frozen=True, kw_only=True)
class ElmanOptions:
    """The options of the network ``elman``."""

    activation: Literal["tanh", "relu"] = option("tanh", "Activation of a step: tanh or relu.")


class ElmanLayer(nn.Module):
    """The parameters of one layer."""

    def __init__(self, d_input: int, d_hidden: int) -> None:
        super().__init__()
        self.weight_ih = nn.Parameter(torch.empty(d_hidden, d_input))
        self.weight_hh = nn.Parameter(torch.empty(d_hidden, d_hidden))
        self.bias = nn.Parameter(torch.empty(d_hidden))


def elman_layer(
    x_TBE: Tensor,
    h_BH: Tensor,
    layer: ElmanLayer,
    activation: Callable[[Tensor], Tensor],
    mask_BH: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    r"""Compute ``h_t = f(W x_t + R (m \odot h_{t-1}) + b)`` for all steps.

    Args:
        x_TBE: inputs, already masked.
        h_BH: hidden state before the first step, unmasked.
        layer: its parameters.
        activation: ``f``.
        mask_BH: ``m``, or None for no dropout.

    Returns:
        ``(output_TBH, h_BH)``: the masked hidden states, and the last one unmasked.

    Source: Elman (1990); ``torch.nn.RNN``.
    """
    inputs_TBH = nn.functional.linear(x_TBE, layer.weight_ih, layer.bias)  # of all steps at once
    outputs, recurrent_BH, weight_HH = [], masked(h_BH, mask_BH), layer.weight_hh.t()
    for input_BH in inputs_TBH.unbind(0):
        h_BH = activation(input_BH + recurrent_BH @ weight_HH)
        recurrent_BH = masked(h_BH, mask_BH)
        outputs.append(recurrent_BH)
    return torch.stack(outputs), h_BH


@register("elman", options=ElmanOptions, about="a simple recurrent network, tanh or relu")
class Elman(RecurrentNetwork):
    """A stack of simple recurrent layers in which a dropout mask lasts for the whole window.

    Args:
        config: widths, number of layers, dropout and :class:`ElmanOptions`.
    """

    def __init__(self, config: ModelConfig) -> None:
        widths = [config.d_embed] + [config.d_hidden] * (config.n_layers - 1)
        super().__init__(config, [ElmanLayer(width, config.d_hidden) for width in widths])
        self.activation = config.network_options.activation

    def run_layer(
        self, layer: nn.Module, x_TBE: Tensor, h_BH: Tensor, mask_BH: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Run :func:`elman_layer`."""
        assert isinstance(layer, ElmanLayer)
        activation = torch.tanh if self.activation == "tanh" else torch.relu
        if self.training or torch.is_grad_enabled():
            return elman_layer(x_TBE, h_BH, layer, activation, mask_BH)
        x_TBE, h_BH = from_autocast(layer.bias.dtype, x_TBE, h_BH)
        with without_autocast(x_TBE):
            return elman_layer(x_TBE, h_BH, layer, activation, mask_BH)
