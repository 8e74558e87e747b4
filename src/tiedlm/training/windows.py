"""Cut the training text of a process into windows.

Shape letters: B streams, S tokens of a stream, T steps of a window.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tiedlm.data import Corpus
from tiedlm.data.streams import batch_streams
from tiedlm.training.distributed import Ranks
from tiedlm.training.settings import Settings

FEW_UPDATES = 10  # an epoch: fewer hardly move a model
SHORTEST = 5  # steps of a window whose length varies
SPREAD = 5.0  # standard deviation of that length
USUAL = 0.95  # probability of a window of about bptt steps; the others have about half of it


def window_starts(settings: Settings, length: int, epoch: int) -> list[int]:
    """Return where the windows of an epoch begin, and the end of the last one.

    With ``settings.bptt_jitter`` a window has about ``bptt`` steps with probability 0.95, else
    about half as many; the length is normal with a standard deviation of 5 steps. It depends on the
    seed and the epoch only.

    Args:
        settings: of the run.
        length: steps of a stream.
        epoch: counted from 1.

    Source: Merity et al. (2018), section 5.
    """
    if not settings.bptt_jitter:
        return [*range(0, length, settings.bptt), length]
    draw = np.random.default_rng([settings.seed % 2**64, epoch])
    starts = [0]
    while starts[-1] < length:
        mean = settings.bptt if draw.random() < USUAL else settings.bptt / 2
        steps = min(max(SHORTEST, int(draw.normal(mean, SPREAD))), 2 * settings.bptt)
        starts.append(starts[-1] + steps)
    return [*starts[:-1], length]


class Windows:
    """The training text of a rank, cut into the windows of an epoch."""

    def __init__(
        self, corpus: Corpus, settings: Settings, ranks: Ranks, device: torch.device
    ) -> None:
        streams = torch.from_numpy(batch_streams(corpus.train, settings.batch_size))
        self.epoch_tokens = streams[:, 1:].numel()
        self.words = len(corpus.train)
        self.settings = settings
        self.streams_BS = ranks.own(streams).to(device)
        self.length = self.streams_BS.shape[1] - 1
        self.begin(1)

    def begin(self, epoch: int) -> None:
        """Cut the text into the windows of an epoch, counted from 1."""
        self.starts = window_starts(self.settings, self.length, epoch)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Return the words of a window and the words that follow them."""
        start, end = self.starts[index : index + 2]
        piece_BT = self.streams_BS[:, start : end + 1]
        return piece_BT[:, :-1], piece_BT[:, 1:]

    def share(self, index: int) -> float:
        """Return which share of the text comes before a window."""
        return self.starts[index] / self.length

    def warnings(self) -> list[str]:
        """Warn about a text that is too short for its batch."""
        if len(self) >= FEW_UPDATES:
            return []
        return [
            f"a short text: {self.words:,} words are {len(self)} updates an epoch, "
            f"{self.settings.batch_size} streams at a time; a smaller --batch-size makes more"
        ]
