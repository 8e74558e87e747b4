"""One stream of text read in segments at once, with the numbers of reading it word by word.

One stream is a matrix-vector product a word, bound by reading the recurrent weights; B segments of
it are a matrix product a step. A network that forgets comes, word by word, from two different
states to the same one. So every segment is first read from the all-zero state; then each is read
again from the state in which the one before it ended, until its state is that of the first reading.
From there on the first reading was right. Nothing is assumed of the model: if a segment's states
never meet, everything after it is read once more, as one stream.

Reading is cheap beside scoring: what may have to be read again is kept back, as far as memory is
set aside for it, and most words are scored once. A long text is read in blocks, one after another.

Shape letters: N tokens, B segments, T tokens of a window, H hidden width.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tiedlm.model import LanguageModel
from tiedlm.networks.state import State, join, select

SEGMENTS = 12  # more are not faster, and more of the text is then read twice
WIDE = 1000  # recurrent weights from this width on are read from memory at every step:
WIDE_SEGMENTS = 16  # more streams share that
LEAST_LENGTH = 2048  # tokens of a segment: below, too much of it is read twice
MOST_LENGTH = 8192  # above, the states that are kept for comparison take memory for nothing
LEAST_STEP = 32  # tokens of a segment read at a time: of each the state is kept
KEPT_BACK = 2**24  # numbers
SAME = 1e-5  # states that differ by less, relative to the larger of 1 and their size, have met


class Piece(NamedTuple):
    """What was read of some segments: hidden_BTH, the words that come next, where these stand."""

    hidden_BTH: Tensor
    targets_BT: Tensor
    positions_BT: npt.NDArray[np.intp]


def segments_for(model: LanguageModel, tokens: int) -> int:
    """Return in how many segments a text is best read; 1 is one stream."""
    if not model.network.forgets:
        return 1
    count = WIDE_SEGMENTS if model.config.d_hidden >= WIDE else SEGMENTS
    return count if tokens >= count * LEAST_LENGTH else 1


def segment_windows(
    model: LanguageModel, ids: npt.NDArray[np.integer], window: int, segments: int
) -> Iterator[Piece]:
    """Read a text in segments, in evaluation mode and without gradients.

    Args:
        model: is put back into the mode it was in.
        ids: ``(N,)`` word ids.
        window: tokens read at a time, of all segments together.
        segments: how many there are; 1 is one stream.

    Yields:
        ``(hidden_BTH, targets_BT, positions_BT)``: what the classifier reads, the words that come
        next, and where these stand in ``ids[1:]``. A position may come again: the last time counts.
    """
    reader = _Reader(model, ids, window)
    state, block, end = model.initial_state(1), segments * MOST_LENGTH, len(ids) - 1
    with model.mode(training=False), torch.no_grad():
        for start in range(0, end, block):
            stop = min(start + block, end)
            length = (stop - start) // segments if segments > 1 else 0
            if length:
                state = yield from reader.segments(start, length, segments, state)
            # What is left is one stream.
            state = yield from reader.stream(start + length * segments, stop, state)


class _Reader:
    """Reads words of a text."""

    def __init__(self, model: LanguageModel, ids: npt.NDArray[np.integer], window: int) -> None:
        self.model, self.window = model, window
        self.device = model.embedding.weight.device
        self.text = torch.from_numpy(np.asarray(ids, dtype=np.int64)).to(self.device)

    def read(self, firsts: Tensor, steps: range, state: State) -> tuple[State, Piece]:
        """Read the words at ``first + step`` for each first."""
        positions_BT = firsts[:, None] + torch.arange(steps.start, steps.stop)
        at = positions_BT.to(self.device)
        hidden_BTH, state = self.model(self.text[at], state)
        projected_BTH = self.model.decoder.project(hidden_BTH)
        return state, Piece(projected_BTH, self.text[at + 1], positions_BT.numpy())

    def stream(self, start: int, stop: int, state: State) -> Generator[Piece, None, State]:
        """Read one stream; return the state after it."""
        for first in range(start, stop, self.window):
            steps = range(first, min(first + self.window, stop))
            state, piece = self.read(torch.tensor([0]), steps, state)
            yield piece
        return state

    def segments(
        self, start: int, length: int, count: int, state: State
    ) -> Generator[Piece, None, State]:
        """Read segments of one length, the first from this state; return the last one's state."""
        step = max(LEAST_STEP, self.window // count)
        windows = [range(t, min(t + step, length)) for t in range(0, length, step)]
        rows = torch.arange(count)
        firsts = start + rows * length
        before = join((state, self.model.initial_state(count - 1)))
        ends: list[State] = []  # the state of every segment after every window
        kept: list[Piece] = []
        numbers = 0
        for steps in windows:
            before, piece = self.read(firsts, steps, before)
            ends.append(before)
            numbers += piece.hidden_BTH.numel()
            if numbers <= KEPT_BACK:
                # Without the rest of the memory that it is a view of.
                kept.append(piece._replace(hidden_BTH=piece.hidden_BTH.clone()))
            else:
                yield piece

        rows = rows[1:]
        before = select(ends[-1], rows - 1)
        for index, steps in enumerate(windows):
            if not len(rows):
                yield from kept[index:]
                break
            before, piece = self.read(firsts[rows], steps, before)
            if index < len(kept):
                kept[index].hidden_BTH[rows.to(self.device)] = piece.hidden_BTH
                piece = kept[index]
            yield piece
            apart = _apart(before, select(ends[index], rows))
            rows, before = rows[apart], select(before, torch.nonzero(apart)[:, 0])

        if not len(rows):
            return select(ends[-1], torch.tensor([count - 1]))
        # The states of this segment never met: all after it is one stream.
        state = select(before, torch.tensor([0]))
        first = start + (int(rows[0]) + 1) * length
        return (yield from self.stream(first, start + count * length, state))


def _apart(state: State, other: State) -> Tensor:
    """Tell for each stream whether its two states are not the same."""
    differs = [
        (a - b).abs() > SAME * torch.maximum(a.abs(), b.abs()).clamp(min=1.0)
        for a, b in zip(state, other, strict=True)
    ]
    return torch.stack([part.transpose(0, 1).flatten(1).any(1) for part in differs]).any(0).cpu()
