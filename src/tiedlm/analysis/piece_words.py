r"""Predict and sample whole words with a model of sub-word pieces.

A word is the pieces from the one with the blank in front to the last before the next blank. Its
probability, after words so far that are complete, is

.. math::
    p(w) = \frac{p(\text{pieces of } w) \; p(\text{a word begins behind them})}
                {p(\text{a word begins here})}

where :math:`p(\text{a word begins})` is the probability that the next piece has a blank in front or
is ``<eos>``. `tiedlm score` gives the same number.

Shape letters: M prefixes, H hidden width, V vocabulary, K children.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from itertools import count
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tiedlm.analysis.predictions import Prediction, draw
from tiedlm.data.piece_form import BLANKS
from tiedlm.data.pieces import PieceVocabulary
from tiedlm.data.tokenizer import EOS
from tiedlm.model import LanguageModel
from tiedlm.networks.state import State, join, select

TOGETHER = 32  # prefixes of one length that are read side by side
CHILDREN = 256  # most continuations of a prefix that are followed
MOST = 4000  # prefixes that are read
LONGEST = 200  # pieces of a sampled word; then it ends


class NextWords(NamedTuple):
    """The most probable next words.

    Args:
        words: the words, most probable first.
        is_complete: whether no other word is more probable than the last of them. Otherwise the
            search was too long and was stopped.
    """

    words: list[Prediction]
    is_complete: bool


class _Prefix(NamedTuple):
    """The first pieces of a word, and the state before the last of them is read."""

    log_prob: float
    pieces: tuple[int, ...]
    state: State


@torch.no_grad()
def next_piece_words(
    model: LanguageModel, context: npt.NDArray[np.integer], top: int = 10, most: int = MOST
) -> NextWords:
    """Return the most probable words after a context of complete words.

    A prefix of a word is at least as probable as the word. So prefixes are read best first, until
    ``top`` words are more probable than every prefix that is left. The probabilities are exact. A
    word counts as the pieces that the tokenizer gives it; other spellings of it do not count.

    Args:
        model: a loaded model of pieces.
        context: ``(T,)`` ids of pieces, at least one; its last word is complete.
        top: number of words.
        most: largest number of prefixes to read.
    """
    vocabulary = model.vocabulary
    assert isinstance(vocabulary, PieceVocabulary)
    begins_V = torch.from_numpy(vocabulary.begins).to(model.embedding.weight.device)
    found: list[Prediction] = []
    read, lost = 0, -math.inf
    order = count()  # breaks ties between equal probabilities
    with model.mode(training=False):
        hidden, state = model(_tokens(model, context)[None])
        log_V = _log_probs(model, hidden[0, -1:])[0]
        log_V = log_V - log_V[begins_V].logsumexp(0)
        found.append(Prediction(EOS, math.exp(float(log_V[vocabulary.eos_id]))))
        log_V[vocabulary.eos_id] = -math.inf
        open_: list[tuple[float, int, _Prefix]] = []
        lost = max(lost, _open(open_, order, log_V, begins_V, (), 0.0, state))
        while open_ and read < most:
            least = _least(found, top)
            batch = _take(open_, least)
            if not batch:
                break
            read += len(batch)
            pieces = np.array([prefix.pieces[-1] for prefix in batch])
            states = join([prefix.state for prefix in batch])
            hidden, states = model(_tokens(model, pieces)[:, None], states)
            for row, (prefix, log_V) in enumerate(
                zip(batch, _log_probs(model, hidden[:, 0]), strict=True)
            ):
                ended = prefix.log_prob + float(log_V[begins_V].logsumexp(0))
                if (word := _word(prefix.pieces, vocabulary)) is not None:
                    found.append(Prediction(word, math.exp(ended)))
                after = select(states, torch.tensor([row]))
                bound = _open(open_, order, log_V, ~begins_V, prefix.pieces, prefix.log_prob, after)
                lost = max(lost, bound)
    found.sort(key=lambda prediction: -prediction.probability)
    left = max([lost, *(prefix.log_prob for _, _, prefix in open_)])
    last = _least(found, top)
    return NextWords(found[:top], is_complete=left <= last)


def _least(found: list[Prediction], top: int) -> float:
    """Return the log-probability of the last of the ``top`` words so far."""
    if len(found) < top:
        return -math.inf
    value = heapq.nlargest(top, (prediction.probability for prediction in found))[-1]
    return math.log(value) if value > 0 else -math.inf


def _take(open_: list[tuple[float, int, _Prefix]], least: float) -> list[_Prefix]:
    """Remove the best prefixes of one length that may lead to a better word than ``least``."""
    batch: list[_Prefix] = []
    others: list[tuple[float, int, _Prefix]] = []
    while open_ and len(batch) < TOGETHER and len(others) < TOGETHER and -open_[0][0] > least:
        item = heapq.heappop(open_)
        if not batch or len(item[2].pieces) == len(batch[0].pieces):
            batch.append(item[2])
        else:
            others.append(item)
    for item in others:
        heapq.heappush(open_, item)
    return batch


def _open(
    open_: list[tuple[float, int, _Prefix]],
    order: Iterator[int],
    log_V: Tensor,
    allowed_V: Tensor,
    pieces: tuple[int, ...],
    log_prob: float,
    state: State,
) -> float:
    """Add the most probable continuations of a prefix; return a bound on those left out."""
    log_V = log_V.masked_fill(~allowed_V, -math.inf)
    log_K, next_K = log_V.topk(min(CHILDREN, len(log_V)))
    for value, piece in zip(log_K.tolist(), next_K.tolist(), strict=True):
        if value == -math.inf:
            return -math.inf
        child = _Prefix(log_prob + value, (*pieces, piece), state)
        heapq.heappush(open_, (-child.log_prob, next(order), child))
    return log_prob + float(log_K[-1]) if len(log_K) < len(log_V) else -math.inf


def _word(pieces: tuple[int, ...], vocabulary: PieceVocabulary) -> str | None:
    """Return the word of some pieces, or None if they are not how the tokenizer spells a word."""
    word = vocabulary.text(pieces).strip(BLANKS)
    if not word or vocabulary.split(word).ids.tolist() != list(pieces):
        return None
    return word


@torch.no_grad()
def generate_words(
    model: LanguageModel,
    context: npt.NDArray[np.integer],
    length: int,
    *,
    temperature: float = 1.0,
    seed: int = 1,
    banned: tuple[int, ...] = (),
) -> Iterator[str]:
    """Yield words sampled one after another; ``<eos>`` is a word, too.

    The context is complete words, so the first piece begins a word. The last word is sampled until
    the next one begins.

    Args:
        model: a loaded model of pieces.
        context: ``(T,)`` ids of pieces, at least one.
        length: number of words to sample.
        temperature: divides the logits of each piece. At 0 the most probable piece is taken.
        seed: seed of the sampling.
        banned: ids of pieces that are never sampled, such as the unknown one.
    """
    vocabulary = model.vocabulary
    assert isinstance(vocabulary, PieceVocabulary)
    device = model.embedding.weight.device
    begins_V = torch.from_numpy(vocabulary.begins).to(device)
    generator = torch.Generator(device).manual_seed(seed)
    tokens, state = _tokens(model, context)[None], None
    pieces: list[int] = []
    must_begin = True
    while length:
        with model.mode(training=False):
            hidden, state = model(tokens, state)
            logits_V = model.decode(hidden[0, -1]).float()
        logits_V[list(banned)] = -torch.inf
        if must_begin or len(pieces) >= LONGEST:
            logits_V = logits_V.masked_fill(~begins_V, -torch.inf)
        choice = draw(logits_V, temperature, generator)
        must_begin = choice == vocabulary.eos_id
        is_word = not vocabulary.blank[pieces].all()
        if (vocabulary.begins[choice] and is_word) or len(pieces) >= LONGEST:
            yield vocabulary.text(pieces).strip(BLANKS)
            pieces, length = [], length - 1
        if must_begin:
            pieces = []
            if length:
                yield EOS
                length -= 1
        else:
            pieces.append(choice)
        tokens = torch.tensor([[choice]], device=device)


def _tokens(model: LanguageModel, ids: npt.NDArray[np.integer]) -> Tensor:
    return torch.as_tensor(np.asarray(ids, dtype=np.int64), device=model.embedding.weight.device)


def _log_probs(model: LanguageModel, hidden_MH: Tensor) -> Tensor:
    log_probs_MV: Tensor = model.decode(hidden_MH).double().log_softmax(-1)
    return log_probs_MV
