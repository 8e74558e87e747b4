"""The GRU of a tiedlm model. This file does not need tiedlm.

Shape letters: B sequences, T steps, E embedding width, H hidden width, L layers.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .recurrent_stack import RecurrentStack


class GRULayer(nn.Module):
    """One GRU layer, with weight rows in the order reset, update, new."""

    def __init__(self, d_input: int, d_hidden: int) -> None:
        super().__init__()
        self.weight_ih = nn.Parameter(torch.empty(3 * d_hidden, d_input))
        self.weight_hh = nn.Parameter(torch.empty(3 * d_hidden, d_hidden))
        self.bias = nn.Parameter(torch.empty(3 * d_hidden))
        self.recurrent_bias = nn.Parameter(torch.empty(d_hidden))

    def project(self, x_BTE: Tensor) -> Tensor:
        """Return what the inputs add to the gates."""
        return nn.functional.linear(x_BTE, self.weight_ih, self.bias)

    def forward(self, input_BG: Tensor, h_BH: Tensor) -> Tensor:
        """Return the hidden states after a step."""
        input_r, input_z, input_n = input_BG.chunk(3, dim=-1)
        hidden_r, hidden_z, hidden_n = (h_BH @ self.weight_hh.t()).chunk(3, dim=-1)
        r_BH, z_BH = (input_r + hidden_r).sigmoid(), (input_z + hidden_z).sigmoid()
        n_BH = (input_n + r_BH * (hidden_n + self.recurrent_bias)).tanh()
        return (1 - z_BH) * n_BH + z_BH * h_BH


class Network(RecurrentStack):
    """A stack of GRU layers."""

    unsplittable = ("GRULayer",)  # modules that stay on one device

    def __init__(self, config: Any) -> None:
        super().__init__(config, lambda width: GRULayer(width, config.d_hidden))
