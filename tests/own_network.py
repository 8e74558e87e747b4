"""Register an Elman network as an example of a custom network, for every command of tiedlm.

    python tests/own_network.py train small-real --network own --data my.txt

Shape letters: B streams, T steps, E width of the word vectors, H hidden width.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from tiedlm.dropout import stream_mask
from tiedlm.networks import register


class OwnState(NamedTuple):
    """The hidden states ``(1, B, H)`` before any mask."""

    h: Tensor


@register("own")
class OwnNetwork(nn.Module):
    r"""One layer: ``h_t = tanh(W_x x_t + W_h (m \odot h_{t-1}) + b)``."""

    forgets = True

    def __init__(self, config):
        super().__init__()
        self.d_hidden, self.dropout, self.share = config.d_hidden, config.dropout_hidden, (0, 1)
        self.weight_ih = nn.Parameter(torch.empty(config.d_hidden, config.d_embed))
        self.weight_hh = nn.Parameter(torch.empty(config.d_hidden, config.d_hidden))
        self.bias = nn.Parameter(torch.empty(config.d_hidden))

    def initial_state(self, batch_size):
        return OwnState(self.bias.new_zeros(1, batch_size, self.d_hidden))

    def share_masks(self, rank, world):
        self.share = (rank, world)

    def forward_time_major(self, x_TBE, state):
        (h_BH,) = self.initial_state(x_TBE.shape[1]).h if state is None else state.h
        dropout = self.dropout if self.training else 0.0
        mask_BH = stream_mask(len(h_BH), self.d_hidden, dropout, h_BH, *self.share)
        outputs, keep_BH = [], torch.ones_like(h_BH) if mask_BH is None else mask_BH
        for x_BE in x_TBE:
            recurrent_BH = (keep_BH * h_BH) @ self.weight_hh.t()
            h_BH = torch.tanh(x_BE @ self.weight_ih.t() + recurrent_BH + self.bias)
            outputs.append(keep_BH * h_BH)
        return torch.stack(outputs), OwnState(h_BH[None])


if __name__ == "__main__":
    from tiedlm.cli import main

    main()
