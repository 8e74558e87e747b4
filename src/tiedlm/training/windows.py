"""Cut the training text of a process into windows.

Shape letters: B streams, S tokens of a stream, T steps of a window.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tiedlm.data import Corpus
from tiedlm.data.streams import Shuffled, release, stream_length
from tiedlm.errors import UserError
from tiedlm.training.distributed import Ranks
from tiedlm.training.settings import Settings

FEW_UPDATES = 10  # with fewer updates an epoch changes a model too little, so the user is warned
SHORTEST = 5  # steps of a window whose length varies
SPREAD = 5.0  # standard deviation of that length
RELEASE = 1 << 14  # words read between two times that the text's memory is released
_SHUFFLE = 1  # in the seed of the shuffle, so that it differs from the seed of the windows
USUAL = 0.95  # probability of a window of about bptt steps; the others have about half of it


def window_starts(settings: Settings, length: int, epoch: int) -> list[int]:
    """Return the first step of each window of an epoch, and the end of the last window.

    With ``settings.bptt_jitter`` the length of a window is normal with a standard deviation of 5
    steps. Its mean is ``bptt`` with probability 0.95, else half of it. It depends on the seed and
    the epoch only.

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
    """The training text of a rank, cut into the windows of an epoch.

    The text stays on disk, and each window is read when it is needed. With ``--shuffle documents``
    each epoch has its own order of the documents. It depends on the seed and the epoch only, so a
    resumed run reads the same words.

    Args:
        corpus: the text.
        settings: batch size, lengths of windows, shuffle and seed.
        ranks: this process among those that train together.
        device: where the windows go.

    Raises:
        UserError: if documents are to be shuffled and the text is one document.
    """

    def __init__(
        self, corpus: Corpus, settings: Settings, ranks: Ranks, device: torch.device
    ) -> None:
        stream = stream_length(len(corpus.train), settings.batch_size)
        self.corpus, self.settings, self.device = corpus, settings, device
        self.words = len(corpus.train)
        self.length = stream - 1
        self.epoch_tokens = settings.batch_size * self.length
        first_of_stream = torch.arange(settings.batch_size) * stream
        self.firsts_B: list[int] = ranks.own(first_of_stream).tolist()
        if settings.shuffle == "documents" and len(corpus.documents) < 2:
            raise UserError(
                "--shuffle documents: the training text is one document; separate documents by "
                "blank lines, or give JSON lines, Parquet or a folder of ten files or more"
            )
        self.read = 0  # words since memory was given back
        self.begin(1)

    def begin(self, epoch: int) -> None:
        """Cut the text into the windows of an epoch, counted from 1."""
        self.starts = window_starts(self.settings, self.length, epoch)
        self.text: npt.NDArray[np.integer] | Shuffled = self.corpus.train
        if self.settings.shuffle == "documents":
            draw = np.random.default_rng([self.settings.seed % 2**64, epoch, _SHUFFLE])
            order = draw.permutation(len(self.corpus.documents))
            self.text = Shuffled(self.corpus.train, self.corpus.documents, order)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Return the words of a window and the next words, each ``(B, T)`` int64."""
        start, end = self.starts[index : index + 2]
        rows = [self.text[first + start : first + end + 1] for first in self.firsts_B]
        tokens_BT = torch.from_numpy(np.stack(rows).astype(np.int64)).to(self.device)
        self.read += tokens_BT.numel()
        if self.read > RELEASE:
            self.read = 0
            release(self.corpus.train)
        return tokens_BT[:, :-1], tokens_BT[:, 1:]

    def share(self, index: int) -> float:
        """Return which share of the text comes before a window."""
        return self.starts[index] / self.length

    def warnings(self) -> list[str]:
        """Warn about a text that is too short for its batch or for the warm-up."""
        found = []
        if len(self) < FEW_UPDATES:
            found.append(
                f"a short text: {self.words:,} words are {len(self)} updates an epoch, "
                f"{self.settings.batch_size} streams at a time; a smaller --batch-size makes more"
            )
        settings = self.settings
        updates = settings.epochs * len(self)
        if updates <= settings.warmup:
            found.append(
                f"a long warm-up: --epochs {settings.epochs} makes {updates} updates, and the "
                f"learning rate grows during the first {settings.warmup}; a smaller --warmup "
                "reaches it"
            )
        return found
