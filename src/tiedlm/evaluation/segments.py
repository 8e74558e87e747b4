"""One stream of text read in segments at once, with the numbers of reading it word by word.

One stream is a matrix-vector product a word, bound by reading the recurrent weights; B segments of
it are a matrix product a step. A trained LSTM forgets: from two different states it comes, word by
word, to the same one. So every segment is first read from the all-zero state; then each is read
again from the state in which the one before it ended, until its state is that of the first reading.
From there on the first reading was right. Nothing is assumed of the model: if a segment's states
never meet, everything after it is read once more, as one stream.

Shape letters: N tokens, B segments, T tokens of a window, H hidden width.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tiedlm.model import LanguageModel
from tiedlm.recurrent import LSTMState

SEGMENTS = 12  # more are not faster, and more of the text is then read twice
LEAST_LENGTH = 2048  # tokens of a segment: below, too much of it is read twice
LEAST_WIDTH = 400  # narrower recurrent weights stay in the cache: one stream is as fast
SAME = 1e-5  # states that differ by less, relative to the larger of 1 and their size, have met


def is_worthwhile(model: LanguageModel, tokens: int) -> bool:
    """Tell whether reading in segments is faster than reading one stream."""
    return model.config.d_hidden >= LEAST_WIDTH and tokens >= SEGMENTS * LEAST_LENGTH


def segment_windows(
    model: LanguageModel, ids: npt.NDArray[np.integer], window: int, segments: int = SEGMENTS
) -> Iterator[tuple[Tensor, Tensor, npt.NDArray[np.intp]]]:
    """Read a text in segments, in evaluation mode and without gradients.

    Args:
        model: is put back into the mode it was in.
        ids: ``(N,)`` word ids, ``N > segments``.
        window: tokens read at a time, of all segments together.
        segments: how many there are.

    Yields:
        ``(hidden_BTH, targets_BT, positions_BT)``: what the classifier reads, the words that come
        next, and where these stand in ``ids[1:]``. A position may come again: the last time counts.
    """
    with model.mode(training=False), torch.no_grad():
        yield from _windows(model, ids, max(1, window // segments), segments)


def _windows(
    model: LanguageModel, ids: npt.NDArray[np.integer], step: int, segments: int
) -> Iterator[tuple[Tensor, Tensor, npt.NDArray[np.intp]]]:
    device = model.embedding.weight.device
    text = torch.from_numpy(np.asarray(ids, dtype=np.int64)).to(device)
    length = (len(text) - 1) // segments
    starts = range(0, length, step)

    def read(
        rows: Tensor, start: int, stop: int, state: LSTMState | None
    ) -> tuple[LSTMState, tuple[Tensor, Tensor, npt.NDArray[np.intp]]]:
        positions_BT = rows[:, None] * length + torch.arange(start, stop)
        at = positions_BT.to(device)
        hidden_BTH, state = model(text[at], state)
        return state, (model.decoder.project(hidden_BTH), text[at + 1], positions_BT.numpy())

    rows, state = torch.arange(segments), None
    ends: list[LSTMState] = []  # the state of every segment after every window
    for start in starts:
        state, piece = read(rows, start, min(start + step, length), state)
        ends.append(state)
        yield piece

    rows = rows[1:]
    state = _select(ends[-1], rows - 1)
    for index, start in enumerate(starts):
        state, piece = read(rows, start, min(start + step, length), state)
        yield piece
        apart = _apart(state, _select(ends[index], rows))
        rows, state = rows[apart], _select(state, torch.nonzero(apart)[:, 0])
        if not len(rows):
            break
    unmet = state

    # What is left is one stream: the tokens after the last segment, or after one that never met.
    end = len(text) - 1
    first, state = segments, _select(ends[-1], torch.tensor([segments - 1]))
    if len(rows):
        first, state = int(rows[0]) + 1, _select(unmet, torch.tensor([0]))
    for start in range(first * length, end, step * segments):
        state, piece = read(torch.tensor([0]), start, min(start + step * segments, end), state)
        yield piece


def _select(state: LSTMState, rows: Tensor) -> LSTMState:
    return LSTMState(*(part[:, rows.to(part.device)] for part in state))


def _apart(state: LSTMState, other: LSTMState) -> Tensor:
    """Tell for each stream whether its two states are not the same."""
    differs = [
        (a - b).abs() > SAME * torch.maximum(a.abs(), b.abs()).clamp(min=1.0)
        for a, b in zip(state, other, strict=True)
    ]
    return torch.stack([part.flatten(2).any(2).any(0) for part in differs]).any(0).cpu()
