"""The RHN of a tiedlm model. This file is self-contained and does not need tiedlm.

Shape letters: B sequences, T steps, E embedding width, H hidden width, L layers.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class HiddenState(NamedTuple):
    """The hidden states, ``(L, B, H)``."""

    h: Tensor


class RHNLayer(nn.Module):
    """One recurrent highway layer: rows H and T of each weight; the first axis is the depth."""

    def __init__(self, d_input: int, d_hidden: int, depth: int) -> None:
        super().__init__()
        self.weight_ih = nn.Parameter(torch.empty(2 * d_hidden, d_input))
        self.weight_hh = nn.Parameter(torch.empty(depth, 2 * d_hidden, d_hidden))
        self.bias = nn.Parameter(torch.empty(depth, 2 * d_hidden))

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


class Network(nn.Module):
    """A stack of recurrent highway layers."""

    unsplittable = ("RHNLayer",)  # modules that stay on one device

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.n_layers, self.d_hidden = config.n_layers, config.d_hidden
        widths = [config.d_embed] + [config.d_hidden] * (config.n_layers - 1)
        self.layers = nn.ModuleList(
            RHNLayer(width, config.d_hidden, config.network_options["depth"]) for width in widths
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
            assert isinstance(layer, RHNLayer)
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
