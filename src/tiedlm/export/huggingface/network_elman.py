"""The Elman network of a tiedlm model. This file does not need tiedlm.

Shape letters: B sequences, T steps, E embedding width, H hidden width, L layers.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .recurrent_stack import RecurrentStack


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


class Network(RecurrentStack):
    """A stack of Elman layers."""

    unsplittable = ("ElmanLayer",)  # modules that stay on one device

    def __init__(self, config: Any) -> None:
        activation = config.network_options["activation"]
        super().__init__(config, lambda width: ElmanLayer(width, config.d_hidden, activation))
