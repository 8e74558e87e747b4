"""The Elman network of a tiedlm model. This file is self-contained and does not need tiedlm.

Shape letters: B sequences, T steps, E embedding width, H hidden width, L layers.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class HiddenState(NamedTuple):
    """The hidden states, ``(L, B, H)``."""

    h: Tensor


class ElmanLayer(nn.Module):
    """One simple recurrent layer."""

    def __init__(self, d_input: int, d_hidden: int, activation: str) -> None:
        super().__init__()
        self.weight_ih = nn.Parameter(torch.empty(d_hidden, d_input))
        self.weight_hh = nn.Parameter(torch.empty(d_hidden, d_hidden))
        self.bias = nn.Parameter(torch.empty(d_hidden))
        self.activation = activation

    def project(self, x_BTE: Tensor) -> Tensor:
        """Return what the inputs add to a step."""
        return nn.functional.linear(x_BTE, self.weight_ih, self.bias)

    def forward(self, input_BH: Tensor, h_BH: Tensor) -> Tensor:
        """Return the hidden states after a step."""
        sum_BH = input_BH + h_BH @ self.weight_hh.t()
        return sum_BH.tanh() if self.activation == "tanh" else sum_BH.relu()


class Network(nn.Module):
    """A stack of Elman layers."""

    unsplittable = ("ElmanLayer",)  # modules that stay on one device

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.n_layers, self.d_hidden = config.n_layers, config.d_hidden
        widths = [config.d_embed] + [config.d_hidden] * (config.n_layers - 1)
        self.layers = nn.ModuleList(
            ElmanLayer(width, config.d_hidden, config.network_options["activation"])
            for width in widths
        )

    def initial_state(self, batch: int, like: Tensor) -> HiddenState:
        """Return the state before the first word."""
        return HiddenState(like.new_zeros(self.n_layers, batch, self.d_hidden))

    def forward(
        self, x_BTE: Tensor, state: HiddenState, mask_BT: Tensor | None
    ) -> tuple[list[Tensor], HiddenState]:
        """Return the outputs of every layer for a sequence, and the state after it.

        A masked position is skipped, and its output repeats the previous one.

        Args:
            x_BTE: word vectors.
            state: the state before the first step.
            mask_BT: true at the positions to read; None reads all.
        """
        outputs, last, out_BT = [], [], x_BTE
        for layer, h_BH in zip(self.layers, state.h, strict=True):
            assert isinstance(layer, ElmanLayer)
            steps = []
            for t, input_BG in enumerate(layer.project(out_BT).unbind(1)):
                new_BH = layer(input_BG, h_BH)
                if mask_BT is not None:
                    new_BH = torch.where(mask_BT[:, t, None], new_BH, h_BH)
                h_BH = new_BH
                steps.append(h_BH)
            out_BT = torch.stack(steps, dim=1)
            outputs.append(out_BT)
            last.append(h_BH)
        return outputs, HiddenState(torch.stack(last))
