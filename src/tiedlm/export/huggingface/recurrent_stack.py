"""The base of the recurrent networks whose state is one hidden vector for each layer.

This file does not need tiedlm.

Shape letters: B sequences, T steps, E embedding width, H hidden width, L layers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class HiddenState(NamedTuple):
    """The hidden states, ``(L, B, H)``."""

    h: Tensor


class RecurrentStack(nn.Module):
    """A stack of layers that read one step after another.

    Args:
        config: widths and the number of layers.
        layer: makes a layer of an input width. The layer's ``project`` returns what the inputs of
            all steps add; called with a step of that and the hidden states, it returns the next.
    """

    def __init__(self, config: Any, layer: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.n_layers, self.d_hidden = config.n_layers, config.d_hidden
        widths = [config.d_embed] + [config.d_hidden] * (config.n_layers - 1)
        self.layers = nn.ModuleList(map(layer, widths))

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
        layer: Any
        for layer, h_BH in zip(self.layers, state.h, strict=True):
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
