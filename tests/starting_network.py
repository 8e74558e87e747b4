"""A custom network whose initial state is not zero, to be registered by a test."""

from typing import NamedTuple

import torch


class OwnState(NamedTuple):
    h: torch.Tensor


class StartingGRU(torch.nn.Module):
    """A GRU that begins with a learned state, or with ones if ``learned`` is false."""

    forgets = True
    learned = True

    def __init__(self, config):
        super().__init__()
        self.d_hidden = config.d_hidden
        self.rnn = torch.nn.GRU(config.d_embed, config.d_hidden)
        self.start = torch.nn.Parameter(torch.empty(1, 1, config.d_hidden))

    def initial_state(self, batch_size):
        start = self.start if self.learned else torch.ones_like(self.start)
        return OwnState(start.expand(1, batch_size, -1).contiguous())

    def forward_time_major(self, x, state):
        output, h = self.rnn(x, (state or self.initial_state(x.shape[1])).h)
        return output, OwnState(h)

    def share_masks(self, rank, world):
        pass
