"""The RHN of a tiedlm model. This file does not need tiedlm.

Shape letters: B sequences, T steps, E embedding width, H hidden width, L layers.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .recurrent_stack import RecurrentStack


class RHNLayer(nn.Module):
    """One recurrent highway layer: rows H and T of each weight; the first axis is the depth."""

    def __init__(self, d_input: int, d_hidden: int, depth: int, transform_bias: float) -> None:
        super().__init__()
        self.transform_bias = transform_bias
        self.weight_ih = nn.Parameter(torch.empty(2 * d_hidden, d_input))
        self.weight_hh = nn.Parameter(torch.empty(depth, 2 * d_hidden, d_hidden))
        self.bias = nn.Parameter(torch.empty(depth, 2 * d_hidden))

    def set_own_start(self) -> None:
        """Set the bias of the transform gates of a new model."""
        nn.init.constant_(self.bias[:, self.bias.shape[1] // 2 :], self.transform_bias)

    def project(self, x_BTE: Tensor) -> Tensor:
        """Return what the inputs add to the gates of the first depth."""
        return nn.functional.linear(x_BTE, self.weight_ih)

    def forward(self, input_BG: Tensor, s_BH: Tensor) -> Tensor:
        """Return the states after a step of all depths."""
        for depth, (weight_GH, bias_G) in enumerate(zip(self.weight_hh, self.bias, strict=True)):
            gates_BG = nn.functional.linear(s_BH, weight_GH, bias_G)
            if depth == 0:
                gates_BG = gates_BG + input_BG
            h_BH, t_BH = gates_BG.chunk(2, dim=-1)
            s_BH = torch.lerp(s_BH, h_BH.tanh(), t_BH.sigmoid())
        return s_BH


class Network(RecurrentStack):
    """A stack of recurrent highway layers."""

    unsplittable = ("RHNLayer",)  # modules that stay on one device

    def __init__(self, config: Any) -> None:
        options = config.network_options
        depth, bias = options["depth"], options["transform_bias"]
        super().__init__(config, lambda width: RHNLayer(width, config.d_hidden, depth, bias))
