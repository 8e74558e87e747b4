"""Read one stream of text as parallel segments, with the results of reading it word by word.

Read as one stream, a text needs a matrix-vector product per word, and most of the time goes into
reading the recurrent weights from memory. Read as B segments side by side, it needs one matrix
product for B words. But what state does a segment begin with? A network that forgets helps: if it
starts from two different states, they become equal after enough of the same words. So:

1. Every segment is read from the initial state.
2. Every segment but the first is read again from the end state of the previous segment, until its
   state equals the state of the first reading at the same word. From there on the first reading is
   correct.
3. If the two states of a segment never become equal, all text after its start is read again as one
   stream.

Scoring a word costs more than reading it. So windows that may be read again are held back, as far
as memory allows, and most words are scored once. A long text is read in blocks, one after another.

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

SEGMENTS = 12  # more segments are not faster, because more of the text is read twice
WIDE = 1000  # from this hidden width on, every step reads the recurrent weights from memory
WIDE_SEGMENTS = 16  # the segments of such a network: more of them share the cost of reading
LEAST_LENGTH = 2048  # fewest tokens of a segment: too much of a shorter one is read twice
MOST_LENGTH = 8192  # longer segments are not faster, and more states are kept to compare
LEAST_STEP = 32  # fewest tokens of a segment read at a time; the state after them is kept
KEPT_BACK = 2**24  # most elements in the windows that are held back
BLOCK_NUMBERS = 2**25  # most elements in the hidden states of an ordered block
STREAM_WORDS = 2048  # tokens of an ordered block that is read as one stream
SAME = 1e-5  # two states count as equal below this difference, relative to max(1, their size)


class SegmentWindow(NamedTuple):
    """A window of some segments: hidden states, next words, and the positions of these words."""

    hidden_BTH: Tensor
    targets_BT: Tensor
    positions_BT: npt.NDArray[np.intp]


def segments_for(model: LanguageModel, tokens: int) -> int:
    """Return the number of segments in which a text is read fastest; 1 means one stream."""
    if not model.network.forgets or not model.initial_state(1):  # or carries nothing
        return 1
    count = WIDE_SEGMENTS if model.config.d_hidden >= WIDE else SEGMENTS
    return count if tokens >= count * LEAST_LENGTH else 1


def block_length(segments: int) -> int:
    """Return the number of words in a block; a block is finished before the next one begins."""
    return segments * MOST_LENGTH


def segment_windows(
    model: LanguageModel, ids: npt.NDArray[np.integer], window: int, segments: int
) -> Iterator[SegmentWindow]:
    """Read a text in segments, in evaluation mode and without gradients.

    Args:
        model: the model; its mode is restored at the end.
        ids: ``(N,)`` word ids.
        window: tokens read at a time, over all segments.
        segments: number of segments; 1 means one stream.

    Yields:
        ``(hidden_BTH, targets_BT, positions_BT)``: the classifier's input, the next words, and
        their positions in ``ids[1:]``. A position may be yielded twice; the last time counts.
    """
    state, block, end = model.initial_state(1), block_length(segments), len(ids) - 1
    with model.mode(training=False), torch.no_grad():
        for start in range(0, end, block):
            stop = min(start + block, end)
            reader = _Reader(model, ids[start : stop + 1], window, start)
            length = (stop - start) // segments if segments > 1 else 0
            if length:
                state = yield from reader.segments(0, length, segments, state)
            # The rest of a block is read as one stream.
            state = yield from reader.stream(length * segments, stop - start, state)


class Block(NamedTuple):
    """Consecutive words of a text in order: hidden states, next words, and the state after."""

    hidden_NH: Tensor
    targets_N: Tensor
    state: State


def read_block(
    model: LanguageModel, ids: npt.NDArray[np.integer], start: int, state: State | None
) -> Block:
    """Read the next block of a text, in segments where that is faster.

    The length of a block depends on the model and the text alone, not on ``start``.

    Args:
        model: the model; its mode is restored at the end.
        ids: ``(N,)`` word ids of the whole text.
        start: number of words read before.
        state: the state after them; None at the beginning of the text.

    Returns:
        The block: the classifier's input after each word, and the word that follows it.
    """
    count, width = segments_for(model, len(ids)), model.decoder.weight.shape[1]
    length = min(MOST_LENGTH, max(LEAST_LENGTH, BLOCK_NUMBERS // (count * width)))
    stop = min(start + (count * length if count > 1 else STREAM_WORDS), len(ids) - 1)
    reader = _Reader(model, ids[start : stop + 1], STREAM_WORDS)
    hidden_NH = model.decoder.weight.new_empty(stop - start, width)
    length = (stop - start) // count if count > 1 else 0

    def windows(state: State) -> Generator[SegmentWindow, None, State]:
        if length:
            state = yield from reader.segments(0, length, count, state)
        return (yield from reader.stream(length * count, stop - start, state))

    with model.mode(training=False), torch.no_grad():
        found = windows(model.initial_state(1) if state is None else state)
        while True:
            try:
                window = next(found)
            except StopIteration as end:
                return Block(hidden_NH, reader.text[1:], end.value)
            at_BT = torch.from_numpy(window.positions_BT).to(hidden_NH.device)
            hidden_NH[at_BT] = window.hidden_BTH


class _Reader:
    """Reads a text with a model, as one stream or in segments.

    Args:
        model: the model, in evaluation mode.
        ids: ``(N,)`` word ids.
        window: tokens read at a time, over all segments.
        before: number of words before ``ids`` in a longer text; added to the positions.
    """

    def __init__(
        self, model: LanguageModel, ids: npt.NDArray[np.integer], window: int, before: int = 0
    ) -> None:
        self.model, self.window, self.before = model, window, before
        self.device = model.embedding.weight.device
        self.text = torch.from_numpy(np.asarray(ids, dtype=np.int64)).to(self.device)

    def read(self, firsts: Tensor, steps: range, state: State) -> tuple[State, SegmentWindow]:
        """Read a window of some segments, and return the state after it with the window.

        Args:
            firsts: ``(B,)`` int64 positions at which the segments begin.
            steps: the steps of each segment to read, counted from its beginning.
            state: the state of each segment before the first step.
        """
        positions_BT = firsts[:, None] + torch.arange(steps.start, steps.stop)
        at = positions_BT.to(self.device)
        hidden_BTH, state = self.model(self.text[at], state)
        projected_BTH = self.model.decoder.project(hidden_BTH)
        positions = positions_BT.numpy() + self.before
        return state, SegmentWindow(projected_BTH, self.text[at + 1], positions)

    def stream(self, start: int, stop: int, state: State) -> Generator[SegmentWindow, None, State]:
        """Read words ``start .. stop`` as one stream; return the state after them."""
        for first in range(start, stop, self.window):
            steps = range(first, min(first + self.window, stop))
            state, found = self.read(torch.tensor([0]), steps, state)
            yield found
        return state

    def segments(
        self, start: int, length: int, count: int, state: State
    ) -> Generator[SegmentWindow, None, State]:
        """Read segments of equal length, the first from ``state``; return the final state."""
        step = max(LEAST_STEP, self.window // count)
        windows = [range(t, min(t + step, length)) for t in range(0, length, step)]
        rows = torch.arange(count)
        firsts = start + rows * length
        before = join((state, self.model.initial_state(count - 1)))
        ends: list[State] = []  # the state of every segment after every window
        kept: list[SegmentWindow] = []  # the windows held back
        numbers = 0
        # The first reading: all segments but the first begin from the initial state.
        for steps in windows:
            before, found = self.read(firsts, steps, before)
            ends.append(before)
            numbers += found.hidden_BTH.numel()
            if numbers <= KEPT_BACK:
                # A copy, because the hidden states may be a view of a larger tensor.
                kept.append(found._replace(hidden_BTH=found.hidden_BTH.clone()))
            else:
                yield found

        # The second reading: the segments whose two states are not equal yet.
        rows = rows[1:]
        before = select(ends[-1], rows - 1)
        for index, steps in enumerate(windows):
            if not len(rows):
                yield from kept[index:]
                break
            before, found = self.read(firsts[rows], steps, before)
            if index < len(kept):
                kept[index].hidden_BTH[rows.to(self.device)] = found.hidden_BTH
                found = kept[index]
            yield found
            apart = _apart(before, select(ends[index], rows))
            rows, before = rows[apart], select(before, torch.nonzero(apart)[:, 0])

        if not len(rows):
            return select(ends[-1], torch.tensor([count - 1]))
        # The states of segment rows[0] never became equal, so all later text is read as one stream.
        state = select(before, torch.tensor([0]))
        first = start + (int(rows[0]) + 1) * length
        return (yield from self.stream(first, start + count * length, state))


def _apart(state: State, other: State) -> Tensor:
    """Return, for each stream, whether its two states differ."""
    differs = [
        (a - b).abs() > SAME * torch.maximum(a.abs(), b.abs()).clamp(min=1.0)
        for a, b in zip(state, other, strict=True)
    ]
    return torch.stack([part.transpose(0, 1).flatten(1).any(1) for part in differs]).any(0).cpu()
