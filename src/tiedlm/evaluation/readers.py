"""Read a text from the first word to the last, with trained weights or with weights that adapt.

A reader returns hidden states, next words and losses for one part of the text after another. Its
progress can be saved after any part and restored later.

Shape letters: N words of the text, T words of a part, G temperatures, H hidden width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tiedlm.evaluation.dynamic import Adapter, Segment
from tiedlm.evaluation.perplexity import SCORED, target_losses
from tiedlm.evaluation.segments import Block, read_block
from tiedlm.evaluation.temperature import with_temperature
from tiedlm.evaluation.unfinished import saved_state, state_tensors
from tiedlm.model import LanguageModel
from tiedlm.networks.state import State

PART_WORDS = 256  # words that a DynamicReader collects, in whole segments


class Reader(Protocol):
    """Reads a text from the first word to the last."""

    position: int  # words predicted so far

    def read(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return ``(hidden_TH, targets_T, nll_GT)`` of the next words."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """Return what :meth:`restore` needs."""
        ...

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on where :meth:`tensors` was called."""
        ...


class PlainReader:
    """Read a text with the trained weights, a block at a time.

    Args:
        model: the model.
        ids: ``(N,)`` word ids.
        temperatures: of the probabilities.
    """

    def __init__(
        self, model: LanguageModel, ids: npt.NDArray[np.integer], temperatures: tuple[float, ...]
    ) -> None:
        self.model, self.ids = model, ids
        self.tempered = [with_temperature(model, one) for one in temperatures]
        self.temperatures = temperatures
        self.position = self.start = 0
        self.before: State | None = None  # the state at the start of the block
        self.block: Block | None = None

    def read(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return ``(hidden_TH, targets_T, nll_GT)`` of the next words."""
        if self.block is None:
            self.block = read_block(self.model, self.ids, self.start, self.before)
        first = self.position - self.start
        hidden_TH = self.block.hidden_NH[first : first + SCORED]
        targets_T = self.block.targets_N[first : first + SCORED]
        self.position += len(targets_T)
        if first + len(targets_T) == len(self.block.targets_N):
            self.before, self.start, self.block = self.block.state, self.position, None
        nll = [
            target_losses(model, hidden_TH / temperature, targets_T)
            for model, temperature in zip(self.tempered, self.temperatures, strict=True)
        ]
        return hidden_TH, targets_T, torch.stack(nll)

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors for :meth:`restore`: the state at the start of this block."""
        place = torch.tensor([self.position, self.start])
        return state_tensors(self.before) | {"place": place}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on where :meth:`tensors` was called; the block is read again."""
        self.position, self.start = tensors["place"].tolist()
        self.before, self.block = saved_state(self.model, tensors), None


class DynamicReader:
    """Read a text segment by segment with weights that adapt.

    Args:
        adapter: the model that adapts.
        ids: ``(N,)`` word ids.
        temperatures: of the probabilities behind the returned losses; learning always uses 1.
    """

    def __init__(
        self, adapter: Adapter, ids: npt.NDArray[np.integer], temperatures: tuple[float, ...]
    ) -> None:
        self.adapter, self.temperatures = adapter, temperatures
        self.text = torch.from_numpy(np.asarray(ids, dtype=np.int64))
        self.text = self.text.to(adapter.model.embedding.weight.device)
        self.position = 0

    def read(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return ``(hidden_TH, targets_T, nll_GT)`` of the next segments, G temperatures."""
        length = self.adapter.settings.segment
        hidden, targets, nll = [], [], []
        for _ in range(max(1, PART_WORDS // length)):
            stop = min(self.position + length, len(self.text) - 1)
            if stop == self.position:
                break
            rows = slice(self.position, stop)
            segment = self.adapter.read(self.text[rows], self.text[1:][rows])
            nll.append(_tempered_losses(segment, self.temperatures))
            # The probabilities (T, V) are not kept: they would take most of the memory.
            hidden.append(segment.hidden_TH)
            targets.append(segment.targets_T)
            self.position = stop
        return torch.cat(hidden), torch.cat(targets), torch.cat(nll, dim=1)

    def tensors(self) -> dict[str, Tensor]:
        """Return what :meth:`restore` needs."""
        return self.adapter.tensors() | {"position": torch.tensor(self.position)}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on where :meth:`tensors` was called."""
        self.adapter.restore(tensors)
        self.position = int(tensors["position"])


def _tempered_losses(segment: Segment, temperatures: tuple[float, ...]) -> Tensor:
    """Return ``-log p`` of each next word at each temperature, ``(G, T)``."""
    log_p_GTV = (
        segment.log_p_TV if one == 1 else (segment.log_p_TV / one).log_softmax(dim=-1)
        for one in temperatures
    )
    targets_T1 = segment.targets_T[:, None]
    return torch.stack([-log_p_TV.gather(1, targets_T1)[:, 0] for log_p_TV in log_p_GTV])
