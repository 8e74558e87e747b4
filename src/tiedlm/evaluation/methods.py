r"""Evaluate a model with dynamic evaluation, a temperature and a cache, in this order.

1. The network reads the text: with the trained weights, or with weights that adapt
   (:mod:`tiedlm.evaluation.dynamic`).
2. The logits are divided by the temperature (:mod:`tiedlm.evaluation.temperature`). The adaptation
   itself learns at temperature 1.
3. The cache of the hidden states is mixed in (:mod:`tiedlm.evaluation.cache`).

A mixture of models (:mod:`tiedlm.evaluation.mixture`) comes after all three: it mixes the
probabilities that each model has in its own way. Each word's probability depends on the words
before it and on nothing else of the text.

Shape letters: N words, T words of a window, H hidden width, G temperatures or values of theta.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tiedlm.evaluation.cache import Cache, CacheMemory, mixed_losses
from tiedlm.evaluation.dynamic import Adapter, Dynamic, DynamicReader
from tiedlm.evaluation.perplexity import SCORED, target_losses
from tiedlm.evaluation.segments import Block, read_block
from tiedlm.evaluation.temperature import with_temperature
from tiedlm.evaluation.unfinished import Unfinished, saved_state, state_tensors
from tiedlm.model import LanguageModel
from tiedlm.networks.state import State


@dataclass(frozen=True, kw_only=True)
class Methods:
    """What is done on top of a trained model.

    Args:
        dynamic: adapt the weights to the text; None keeps the trained ones.
        temperature: the logits are divided by it.
        cache: mix in a cache; None for no cache.
    """

    dynamic: Dynamic | None = None
    temperature: float = 1.0
    cache: Cache | None = None


class Part(NamedTuple):
    """Consecutive words of a text and their losses.

    Args:
        nll_GT: ``-log p`` of each word at each temperature, before the cache.
        log_cache_GT: ``log p_cache`` for each theta; None without a cache.
    """

    nll_GT: Tensor
    log_cache_GT: Tensor | None


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
        """Return what :meth:`restore` needs: the state at the start of this block."""
        place = torch.tensor([self.position, self.start])
        return state_tensors(self.before) | {"place": place}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on where :meth:`tensors` was called; the block is read again."""
        self.position, self.start = tensors["place"].tolist()
        self.before, self.block = saved_state(self.model, tensors), None


def read_parts(reader: Reader, memory: CacheMemory | None, length: int) -> Iterator[Part]:
    """Yield the words of a text in order, with their losses.

    Args:
        reader: of the text.
        memory: of the cache, if there is one.
        length: number of words to predict.
    """
    while reader.position < length:
        hidden_TH, targets_T, nll_GT = reader.read()
        if memory is None:
            yield Part(nll_GT, None)
        else:
            yield Part(nll_GT, memory.log_probs(hidden_TH, targets_T, -nll_GT[0]))


def reader_of(
    model: LanguageModel,
    ids: npt.NDArray[np.integer],
    dynamic: Dynamic | None,
    temperatures: tuple[float, ...],
    rms: Mapping[str, Tensor] | None,
) -> Reader:
    """Return the reader of a text."""
    if dynamic is None:
        return PlainReader(model, ids, temperatures)
    return DynamicReader(Adapter(model, dynamic, rms), ids, temperatures)


def method_losses(
    model: LanguageModel,
    ids: npt.NDArray[np.integer],
    methods: Methods,
    *,
    rms: Mapping[str, Tensor] | None = None,
    unfinished: Unfinished | None = None,
    on_tokens: Callable[[int], None] = lambda count: None,
) -> npt.NDArray[np.float32]:
    """Return the negative log-likelihood, in nats, of every token but the first.

    :func:`tiedlm.evaluation.perplexity.summarize` makes a perplexity of them.

    Args:
        model: the model; its mode is restored, and its weights never change.
        ids: ``(N,)`` word ids, at least two.
        methods: what is done on top of the model.
        rms: from :func:`tiedlm.evaluation.gradients.gradient_rms`; dynamic evaluation with the rule
            "rms" needs it.
        unfinished: where an interrupted evaluation goes on.
        on_tokens: called with the number of words done since the last call.

    Returns:
        ``(N - 1,)`` float32.

    Raises:
        ValueError: for fewer than two tokens.
        Diverged: if the adaptation diverges.
        Interrupted: if ``unfinished`` was asked to stop; the evaluation is saved.
    """
    if len(ids) < 2:
        raise ValueError(f"ids: expected at least 2 tokens to predict one, got {len(ids)}")
    length, cache = len(ids) - 1, methods.cache
    reader = reader_of(model, ids, methods.dynamic, (methods.temperature,), rms)
    memory = None
    if cache is not None:
        memory = CacheMemory(cache.words, (cache.theta,), model.decoder.weight)
    losses = np.empty(length, dtype=np.float32)
    saved = None if unfinished is None else unfinished.restore()
    if saved is not None:
        losses[: len(saved["losses"])] = saved["losses"].numpy()
        reader.restore(saved)
        if memory is not None:
            memory.restore(saved)
        on_tokens(reader.position)
    done = reader.position
    for part in read_parts(reader, memory, length):
        nll_T = part.nll_GT[0]
        if cache is not None:
            assert part.log_cache_GT is not None
            nll_T = mixed_losses(nll_T, part.log_cache_GT[0], cache.weight)
        losses[done : reader.position] = nll_T.float().cpu().numpy()
        on_tokens(reader.position - done)
        done = reader.position
        if unfinished is not None:
            unfinished.checkpoint(lambda: _tensors(reader, memory, losses))
    if unfinished is not None:
        unfinished.finish()
    return losses


def _tensors(
    reader: Reader, memory: CacheMemory | None, losses: npt.NDArray[np.float32]
) -> dict[str, Tensor]:
    done = {"losses": torch.from_numpy(losses[: reader.position].copy())}
    return reader.tensors() | done | ({} if memory is None else memory.tensors())
