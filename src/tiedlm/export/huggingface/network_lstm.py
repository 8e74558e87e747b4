"""The LSTM of a tiedlm model. This file is self-contained and does not need tiedlm.

Shape letters: B sequences, T steps, E embedding width, H hidden width, L layers.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


class LSTMLayer(nn.Module):
    """One LSTM layer, with weight rows in the order input, forget, cell, output."""

    def __init__(self, d_input: int, d_hidden: int) -> None:
        super().__init__()
        self.weight_ih = nn.Parameter(torch.empty(4 * d_hidden, d_input))
        self.weight_hh = nn.Parameter(torch.empty(4 * d_hidden, d_hidden))
        self.bias = nn.Parameter(torch.empty(4 * d_hidden))

    def forward(self, x_BTE: Tensor, h_BH: Tensor, c_BH: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the outputs for a sequence and the state after it."""
        weights = [self.weight_ih, self.weight_hh, self.bias, torch.zeros_like(self.bias)]
        state = (h_BH[None].contiguous(), c_BH[None].contiguous())
        out_BTH, h_1BH, c_1BH = torch.lstm(
            x_BTE,
            state,
            weights,
            has_biases=True,
            num_layers=1,
            dropout=0.0,
            train=self.training,
            bidirectional=False,
            batch_first=True,
        )
        return out_BTH, h_1BH[0], c_1BH[0]

    def forward_masked(
        self, x_BTE: Tensor, h_BH: Tensor, c_BH: Tensor, lengths_B: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the same for the first ``lengths_B`` steps (at least 1) of each sequence."""
        packed = pack_padded_sequence(x_BTE, lengths_B.cpu(), True, enforce_sorted=False)
        weights = [self.weight_ih, self.weight_hh, self.bias, torch.zeros_like(self.bias)]
        order = packed.sorted_indices
        data, h_1BH, c_1BH = torch.lstm(
            packed.data,
            packed.batch_sizes,
            (h_BH[order][None], c_BH[order][None]),
            weights,
            has_biases=True,
            num_layers=1,
            dropout=0.0,
            train=self.training,
            bidirectional=False,
        )
        out_BTH, _ = pad_packed_sequence(
            packed._replace(data=data), batch_first=True, total_length=x_BTE.shape[1]
        )
        back = packed.unsorted_indices
        return out_BTH, h_1BH[0][back], c_1BH[0][back]


class LSTMState(NamedTuple):
    """Hidden and cell states, ``(L, B, H)`` each."""

    h: Tensor
    c: Tensor


class Network(nn.Module):
    """A stack of LSTM layers."""

    unsplittable = ("LSTMLayer",)  # modules that stay on one device

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.n_layers, self.d_hidden = config.n_layers, config.d_hidden
        widths = [config.d_embed] + [config.d_hidden] * (config.n_layers - 1)
        self.layers = nn.ModuleList(LSTMLayer(width, config.d_hidden) for width in widths)

    def initial_state(self, batch: int, like: Tensor) -> LSTMState:
        """Return the state before the first word."""
        zeros_LBH = like.new_zeros(self.n_layers, batch, self.d_hidden)
        return LSTMState(zeros_LBH, zeros_LBH)

    def forward(
        self, x_BTE: Tensor, state: LSTMState, mask_BT: Tensor | None
    ) -> tuple[list[Tensor], LSTMState]:
        """Return the outputs of every layer for a sequence, and the state after it.

        A masked position is skipped, and its output repeats the previous one.

        Args:
            x_BTE: word vectors.
            state: the state before the first step.
            mask_BT: true at the positions to read; None reads all.
        """
        h_LBH, c_LBH = state
        if mask_BT is not None:
            first = mask_BT.to(torch.int8).argsort(dim=1, descending=True, stable=True)
            x_BTE = x_BTE.gather(1, first[..., None].expand_as(x_BTE))
            any_B1 = mask_BT.any(dim=1)[:, None]
            lengths_B = mask_BT.sum(dim=1).clamp(min=1)
            latest_BT1 = mask_BT.cumsum(dim=1).unsqueeze(2) - 1  # -1 before the first word
        outputs, last_h, last_c = [], [], []
        out_BT = x_BTE
        for layer, h_BH, c_BH in zip(self.layers, h_LBH, c_LBH, strict=True):
            assert isinstance(layer, LSTMLayer)
            if mask_BT is None:
                out_BT, new_h_BH, new_c_BH = layer(out_BT, h_BH, c_BH)
                outputs.append(out_BT)
            else:
                out_BT, new_h_BH, new_c_BH = layer.forward_masked(out_BT, h_BH, c_BH, lengths_B)
                new_h_BH = torch.where(any_B1, new_h_BH, h_BH)
                new_c_BH = torch.where(any_B1, new_c_BH, c_BH)
                kept_BTH = out_BT.gather(1, latest_BT1.clamp(min=0).expand_as(out_BT))
                outputs.append(torch.where(latest_BT1 < 0, h_BH[:, None], kept_BTH))
            last_h.append(new_h_BH)
            last_c.append(new_c_BH)
        return outputs, LSTMState(torch.stack(last_h), torch.stack(last_c))
