r"""Evaluate a model with dynamic evaluation, a temperature and a cache, applied in this order.

1. The network reads the text: with the trained weights, or with weights that adapt
   (:mod:`tiedlm.evaluation.dynamic`).
2. The logits are divided by the temperature (:mod:`tiedlm.evaluation.temperature`). The adaptation
   itself learns at temperature 1.
3. The cache of the hidden states is mixed in (:mod:`tiedlm.evaluation.cache`).

A mixture of models (:mod:`tiedlm.evaluation.mixture`) comes after all three. It mixes the final
probabilities of each model, which may use methods of its own. In every case the probability of a
word depends on the words before it only.

Shape letters: N words, T words of a part, G temperatures or values of theta.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tiedlm.evaluation.cache import Cache, CacheMemory, mixed_losses
from tiedlm.evaluation.dynamic import Adapter, Diverged, Dynamic
from tiedlm.evaluation.readers import DynamicReader, PlainReader, Reader
from tiedlm.evaluation.unfinished import Unfinished
from tiedlm.model import LanguageModel


@dataclass(frozen=True, kw_only=True)
class Methods:
    """The methods on top of a trained model, with their settings.

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
        nll_GT: ``-log p`` of each word at each temperature, before any cache.
        log_caches: for each cache ``log p_cache`` at each of its values of theta, ``(G, T)``.
    """

    nll_GT: Tensor
    log_caches: tuple[Tensor, ...]


@dataclass(frozen=True)
class Look:
    """What to compute in one reading of a text.

    Args:
        dynamic: as in :class:`Methods`.
        temperatures: of the model's probabilities, before any cache.
        caches: for each cache its number of words and its values of theta.
    """

    dynamic: Dynamic | None = None
    temperatures: tuple[float, ...] = (1.0,)
    caches: tuple[tuple[int, tuple[float, ...]], ...] = ()


def read_losses(
    model: LanguageModel,
    ids: npt.NDArray[np.integer],
    look: Look,
    combine: Callable[[Part], Tensor],
    *,
    rms: Mapping[str, Tensor] | None = None,
    unfinished: Unfinished | None = None,
    on_tokens: Callable[[int], None] = lambda count: None,
) -> npt.NDArray[np.float32]:
    """Read a text once and return R numbers for every token but the first.

    Args:
        model: as in :func:`method_losses`.
        ids: as in :func:`method_losses`.
        look: what to compute.
        combine: turns a :class:`Part` of T words into ``(R, T)`` numbers.
        rms: as in :func:`method_losses`.
        unfinished: as in :func:`method_losses`.
        on_tokens: as in :func:`method_losses`.

    Returns:
        ``(R, N - 1)`` float32.
    """
    if len(ids) < 2:
        raise ValueError(f"ids: expected at least 2 tokens to predict one, got {len(ids)}")
    reader: Reader
    if look.dynamic is None:
        reader = PlainReader(model, ids, look.temperatures)
    else:
        reader = DynamicReader(Adapter(model, look.dynamic, rms), ids, look.temperatures)
    memories = [CacheMemory(*cache, model.decoder.weight) for cache in look.caches]
    parts: list[npt.NDArray[np.float32]] = []
    saved = None if unfinished is None else unfinished.restore()
    if saved is not None:
        parts.append(saved["losses"].numpy())
        reader.restore(saved)
        for number, memory in enumerate(memories):
            memory.restore(saved, number)
        on_tokens(reader.position)

    def tensors() -> dict[str, Tensor]:
        parts[:] = [np.concatenate(parts, axis=1)]
        found = reader.tensors() | {"losses": torch.from_numpy(parts[0])}
        for number, memory in enumerate(memories):
            found |= memory.tensors(number)
        return found

    try:
        while (done := reader.position) < len(ids) - 1:
            hidden_TH, targets_T, nll_GT = reader.read()
            found = tuple(memory.log_probs(hidden_TH, targets_T, -nll_GT[0]) for memory in memories)
            parts.append(combine(Part(nll_GT, found)).float().cpu().numpy())
            on_tokens(reader.position - done)
            if unfinished is not None:
                unfinished.checkpoint(tensors)
    except Diverged:  # the same call would only diverge again
        if unfinished is not None:
            unfinished.finish()
        raise
    if unfinished is not None:
        unfinished.finish()
    return np.concatenate(parts, axis=1)


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

    :func:`tiedlm.evaluation.perplexity.summarize` turns them into a perplexity.

    Args:
        model: the model; its mode is restored, and its weights never change.
        ids: ``(N,)`` word ids, at least two.
        methods: the methods on top of the model.
        rms: from :func:`tiedlm.evaluation.gradients.gradient_rms`; dynamic evaluation with the rule
            "rms" needs it.
        unfinished: where the progress is saved, so that an interrupted evaluation can continue.
        on_tokens: called with the number of words done since the last call.

    Returns:
        ``(N - 1,)`` float32.

    Raises:
        ValueError: for fewer than two tokens.
        Diverged: if the adaptation diverges.
        Interrupted: if ``unfinished`` was asked to stop; the evaluation is saved.
    """
    cache = methods.cache
    caches = () if cache is None else ((cache.words, (cache.theta,)),)

    def combine(part: Part) -> Tensor:
        if cache is None:
            return part.nll_GT
        return mixed_losses(part.nll_GT[0], part.log_caches[0], cache.weight)

    losses_1N = read_losses(
        model,
        ids,
        Look(methods.dynamic, (methods.temperature,), caches),
        combine,
        rms=rms,
        unfinished=unfinished,
        on_tokens=on_tokens,
    )
    losses_N: npt.NDArray[np.float32] = losses_1N[0]
    return losses_N
