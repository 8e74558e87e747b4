"""Predict with a model: probabilities over a text, next words, generated text.

Shape letters: T tokens of a window, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tiedlm.evaluation.perplexity import WINDOW, hidden_windows
from tiedlm.model import LanguageModel
from tiedlm.networks.state import State


class Prediction(NamedTuple):
    """A word and its probability."""

    word: str
    probability: float


def distributions(
    model: LanguageModel, ids: npt.NDArray[np.integer], window: int = WINDOW
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield ``(probabilities_TV, targets_T)`` for each window of a text, read as one stream."""
    for hidden_TH, targets_T in hidden_windows(model, ids, window):
        with torch.no_grad():
            logits_TV = torch.nn.functional.linear(
                hidden_TH, model.decoder.weight, model.decoder.bias
            )
            yield logits_TV.float().softmax(-1), targets_T


def mean_probability(model: LanguageModel, ids: npt.NDArray[np.integer], word_id: int) -> float:
    """Return the mean probability of a word over all positions of a text but the first."""
    total, count = 0.0, 0
    for probabilities_TV, _ in distributions(model, ids):
        total += float(probabilities_TV[:, word_id].double().sum())
        count += len(probabilities_TV)
    return total / count


def next_words(
    model: LanguageModel, context: npt.NDArray[np.integer], top: int = 10
) -> list[Prediction]:
    """Return the most probable words after a context, most probable first.

    Args:
        model: a loaded model, with its vocabulary.
        context: ``(T,)`` word ids, at least one.
        top: number of words.
    """
    assert model.vocabulary is not None
    probabilities_V = next_distribution(model, context)
    values, indices = probabilities_V.topk(min(top, len(probabilities_V)))
    words = model.vocabulary.decode(indices.tolist())
    return [Prediction(*pair) for pair in zip(words, values.tolist(), strict=True)]


def next_hidden(
    model: LanguageModel, context: npt.NDArray[np.integer], state: State | None = None
) -> tuple[Tensor, Any]:
    """Return the hidden state ``(H,)`` after a context, and the state to read on from.

    Args:
        model: the model.
        context: ``(T,)`` word ids, at least one.
        state: the state after the words before, or None to start afresh.
    """
    tokens = torch.as_tensor(
        np.asarray(context, dtype=np.int64), device=model.embedding.weight.device
    )
    with model.mode(training=False), torch.no_grad():
        hidden, state = model(tokens[None], state)
    return hidden[0, -1], state


def next_distribution(model: LanguageModel, context: npt.NDArray[np.integer]) -> Tensor:
    """Return the probabilities ``(V,)`` of the next word after a context."""
    hidden_H, _ = next_hidden(model, context)
    with torch.no_grad():
        return model.decode(hidden_H).float().softmax(-1)


def jensen_shannon(first_V: Tensor, second_V: Tensor) -> float:
    r"""Return how far two distributions over the same words are apart, in bits.

    .. math:: \frac{1}{2} KL(p \| m) + \frac{1}{2} KL(q \| m), \qquad m = (p + q) / 2

    Args:
        first_V: p, ``(V,)`` probabilities.
        second_V: q, with as many words.

    Returns:
        0 if they are equal, 1 if no word has a probability above 0 in both.

    Source: Lin (1991), "Divergence measures based on the Shannon entropy".
    """
    p_V, q_V = first_V.double(), second_V.double()
    middle_V = (p_V + q_V) / 2
    nats = (torch.xlogy(p_V, p_V) + torch.xlogy(q_V, q_V)).sum() / 2
    nats -= torch.xlogy(middle_V, middle_V).sum()
    return max(0.0, float(nats) / math.log(2))


def generate(
    model: LanguageModel,
    context: npt.NDArray[np.integer],
    length: int,
    *,
    temperature: float = 1.0,
    seed: int = 1,
    banned: tuple[int, ...] = (),
) -> Iterator[int]:
    """Yield words sampled one after another.

    Args:
        model: the model.
        context: ``(T,)`` word ids to start from, at least one.
        length: number of words to sample.
        temperature: divides the logits. At 0 the most probable word is taken.
        seed: seed of the sampling.
        banned: ids that are never sampled, such as the id of ``<unk>``.

    Yields:
        Word ids.
    """
    device = model.embedding.weight.device
    generator = torch.Generator(device).manual_seed(seed)
    tokens = torch.as_tensor(np.asarray(context, dtype=np.int64), device=device)[None]
    state = None
    for _ in range(length):
        with model.mode(training=False), torch.no_grad():
            hidden, state = model(tokens, state)
            logits_V = model.decode(hidden[0, -1]).float()
        logits_V[list(banned)] = -torch.inf
        choice = draw(logits_V, temperature, generator)
        yield choice
        tokens = torch.tensor([[choice]], device=device)


def draw(logits_V: Tensor, temperature: float, generator: torch.Generator) -> int:
    """Return an id drawn from a distribution; at temperature 0 the most probable one."""
    if temperature == 0:
        return int(logits_V.argmax())
    probabilities_V = (logits_V / temperature).softmax(-1)
    return int(torch.multinomial(probabilities_V, 1, generator=generator))
