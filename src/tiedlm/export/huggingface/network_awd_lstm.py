"""The AWD-LSTM of a tiedlm model. This file is self-contained and does not need tiedlm.

Shape letters: B sequences, T steps, E embedding width, H width of a layer, G = 4H gates.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class AWDState(NamedTuple):
    """Hidden and cell states, ``(1, B, sum of the layers' widths)`` each."""

    h: Tensor
    c: Tensor


class Gate(nn.Module):
    """The factor of a round of the Mogrifier: twice the sigmoid of a product."""

    def __init__(self, d_input: int, d_output: int, rank: int | None) -> None:
        super().__init__()
        shapes = [(d_output, d_input)] if rank is None else [(d_output, rank), (rank, d_input)]
        self.factors = nn.ParameterList(nn.Parameter(torch.empty(shape)) for shape in shapes)

    def forward(self, z: Tensor) -> Tensor:
        """Return the factor for an input or a hidden state."""
        for factor in reversed(self.factors):
            z = z @ factor.t()
        return 2 * z.sigmoid()


class AWDLayer(nn.Module):
    """One LSTM layer, with weight rows in the order input, forget, cell, output."""

    def __init__(self, d_input: int, d_hidden: int, rounds: int, rank: int | None) -> None:
        super().__init__()
        self.d_hidden = d_hidden
        self.weight_ih = nn.Parameter(torch.empty(4 * d_hidden, d_input))
        self.weight_hh = nn.Parameter(torch.empty(4 * d_hidden, d_hidden))
        self.bias_ih = nn.Parameter(torch.empty(4 * d_hidden))
        self.bias_hh = nn.Parameter(torch.empty(4 * d_hidden))
        widths = ((d_hidden, d_input), (d_input, d_hidden))
        self.gates = nn.ModuleList(Gate(*widths[index % 2], rank) for index in range(rounds))

    def set_own_start(self) -> None:
        """Draw all parameters of a new model from U(-x, x) with x = 1 / sqrt(H)."""
        bound = self.d_hidden**-0.5
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def project(self, x: Tensor) -> Tensor:
        """Return what inputs add to the gates."""
        return nn.functional.linear(x, self.weight_ih, self.bias_ih + self.bias_hh)

    def step(self, input_BG: Tensor, h_BH: Tensor, c_BH: Tensor) -> tuple[Tensor, Tensor]:
        """Return the state after a step."""
        gates_BG = input_BG + h_BH @ self.weight_hh.t()
        i_BH, f_BH, g_BH, o_BH = gates_BG.chunk(4, dim=-1)
        c_BH = f_BH.sigmoid() * c_BH + i_BH.sigmoid() * g_BH.tanh()
        return o_BH.sigmoid() * c_BH.tanh(), c_BH

    def forward(
        self, x_BTE: Tensor, h_BH: Tensor, c_BH: Tensor, mask_BT: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the outputs for a sequence and the state after it; masked steps change nothing."""
        outputs = []
        inputs_BTG = x_BTE if len(self.gates) else self.project(x_BTE)
        for t, input_BG in enumerate(inputs_BTG.unbind(1)):
            x_BE, gated_BH = input_BG, h_BH
            for index, gate in enumerate(self.gates):
                if index % 2 == 0:
                    x_BE = gate(gated_BH) * x_BE
                else:
                    gated_BH = gate(x_BE) * gated_BH
            projected_BG = self.project(x_BE) if len(self.gates) else x_BE
            new_h_BH, new_c_BH = self.step(projected_BG, gated_BH, c_BH)
            if mask_BT is not None:
                read_B1 = mask_BT[:, t, None]
                new_h_BH = torch.where(read_B1, new_h_BH, h_BH)
                new_c_BH = torch.where(read_B1, new_c_BH, c_BH)
            h_BH, c_BH = new_h_BH, new_c_BH
            outputs.append(h_BH)
        return torch.stack(outputs, dim=1), h_BH, c_BH


class Network(nn.Module):
    """A stack of LSTM layers, of which the last may have another width."""

    unsplittable = ("AWDLayer",)  # modules that stay on one device

    def __init__(self, config: Any) -> None:
        super().__init__()
        options = config.network_options
        d_last = options.get("d_last")
        if d_last is None:
            d_last = config.d_embed if config.tie_word_embeddings else config.d_hidden
        self.widths = [config.d_hidden] * (config.n_layers - 1) + [d_last]
        self.d_hidden = d_last
        rounds, rank = options.get("mogrifier_rounds", 0), options.get("mogrifier_rank")
        inputs = [config.d_embed, *self.widths[:-1]]
        self.layers = nn.ModuleList(
            AWDLayer(d_input, width, rounds, rank)
            for d_input, width in zip(inputs, self.widths, strict=True)
        )

    def initial_state(self, batch: int, like: Tensor) -> AWDState:
        """Return the state before the first word."""
        zeros = like.new_zeros(1, batch, sum(self.widths))
        return AWDState(zeros, zeros)

    def forward(
        self, x_BTE: Tensor, state: AWDState, mask_BT: Tensor | None
    ) -> tuple[list[Tensor], AWDState]:
        """Return the outputs of every layer for a sequence, and the state after it.

        A masked position is skipped, and its output repeats the previous one.

        Args:
            x_BTE: word vectors.
            state: the state before the first step.
            mask_BT: true at the positions to read; None reads all.
        """
        outputs, last_h, last_c, out_BT = [], [], [], x_BTE
        parts = (torch.split(part[0], self.widths, dim=-1) for part in state)
        for layer, h_BH, c_BH in zip(self.layers, *parts, strict=True):
            out_BT, h_BH, c_BH = layer(out_BT, h_BH, c_BH, mask_BT)
            outputs.append(out_BT)
            last_h.append(h_BH)
            last_c.append(c_BH)
        return outputs, AWDState(torch.cat(last_h, -1)[None], torch.cat(last_c, -1)[None])
