"""Compute surprisal, entropy and rank of every word of a text.

:func:`score_sentences` reads independent sentences in batches, which is fast.
:func:`score_in_order` reads one sentence after the other, and can carry the state or adapt the
model. It is also the simple reference: for independent sentences both give the same numbers.

Shape letters: B sentences, T words read at a time, N words, H hidden width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tiedlm.model import LanguageModel
from tiedlm.networks.state import State, detach, select
from tiedlm.scoring.distributions import Distributions, Shared, describe, padded
from tiedlm.scoring.sentence import Sentence

Floats = npt.NDArray[np.float64]

BLOCK_SENTENCES = 512  # read from the text at a time, to be batched by length
BLOCK_WORDS = 20_000
BATCH = 96  # sentences read side by side
WINDOW_WORDS = 8192  # read at a time, over all sentences of a batch
ADAPT_WORDS = 512  # most words in one update
ADAPT_CLIP = 0.25


class Scored(NamedTuple):
    """A sentence of N words and the model's measures of them, in nats.

    If nothing was read before a word, its surprisal and entropy are NaN and its rank is 0.

    Args:
        sentence: the sentence, with its ``<eos>``.
        surprisal: ``(N,)`` surprisal of each word.
        entropy: ``(N,)`` entropy of the distribution before the word.
        entropy_after: ``(N,)`` entropy of the distribution after the word.
        rank: ``(N,)`` rank of the word; 1 is the most probable.
        boundary: ``(N + 1,)``, only for pieces: the surprisal of the event that the next piece
            begins a word, before each piece and after the last.
    """

    sentence: Sentence
    surprisal: Floats
    entropy: Floats
    entropy_after: Floats
    rank: npt.NDArray[np.int64]
    boundary: Floats | None


class _Carry(NamedTuple):
    """The last hidden state and the network state, which sentences carry from window to window."""

    hidden_BH: Tensor
    state: State

    def first(self, batch_size: int) -> _Carry:
        """Return the states of the first ``batch_size`` sentences."""
        return _Carry(self.hidden_BH[:batch_size], select(self.state, torch.arange(batch_size)))

    def expand(self, batch_size: int) -> _Carry:
        copies = torch.zeros(batch_size, dtype=torch.int64)
        return _Carry(self.hidden_BH.expand(batch_size, -1), select(self.state, copies))


def _begin(model: LanguageModel, start: int | None, learns: bool = False) -> _Carry:
    """Return the states after reading the word ``start``.

    If ``start`` is None, nothing is read and no distribution precedes the first word. With
    ``learns``, gradients also reach the reading of ``start``.
    """
    state = model.initial_state(1)
    if start is None:
        unknown_BH = model.embedding.weight.new_full((1, model.network.d_hidden), torch.nan)
        return _Carry(unknown_BH, state)
    token_BT = torch.tensor([[start]], device=model.embedding.weight.device)
    with torch.set_grad_enabled(learns):
        hidden_BTH, state = model(token_BT, state)
    return _Carry(hidden_BTH[:, 0], state)


class Beginning(NamedTuple):
    """The beginning of every sentence: the states after ``start``, and the distribution there."""

    carry: _Carry
    shared: Shared


@torch.no_grad()
def beginning(model: LanguageModel, start: int | None, starts_V: Tensor | None = None) -> Beginning:
    """Read the word before every sentence; the arguments are as in :func:`score_sentences`."""
    carry = _begin(model, start)
    return Beginning(carry, Shared(model, carry.hidden_BH[0], starts_V))


@torch.no_grad()
def score_sentences(
    model: LanguageModel,
    sentences: Iterable[Sentence],
    *,
    start: int | None,
    starts_V: Tensor | None = None,
    begun: Beginning | None = None,
) -> Iterator[Scored]:
    """Score independent sentences in batches, and yield them in order.

    The batch changes only rounding, about 1e-13 with a model in float64.

    Args:
        model: the model, in evaluation mode.
        sentences: any number; a few hundred are held at a time.
        start: id of the word read before each sentence. If None, first words are not predicted.
        starts_V: see :func:`tiedlm.scoring.distributions.describe`.
        begun: the result of :func:`beginning` for the same arguments, to save time in many calls.
    """
    carry, shared = begun or beginning(model, start, starts_V)
    for block in _blocks(sentences):
        by_length = sorted(range(len(block)), key=lambda index: len(block[index].ids))
        scored: dict[int, Scored] = {}
        for first in range(0, len(block), BATCH):
            group = by_length[first : first + BATCH]
            results = _score_batch(
                model, [block[index] for index in group], carry, shared, starts_V
            )
            scored.update(zip(group, results, strict=True))
        for index in range(len(block)):
            yield scored.pop(index)


def _blocks(sentences: Iterable[Sentence]) -> Iterator[list[Sentence]]:
    block: list[Sentence] = []
    words = 0
    for sentence in sentences:
        block.append(sentence)
        words += len(sentence.ids)
        if len(block) == BLOCK_SENTENCES or words >= BLOCK_WORDS:
            yield block
            block, words = [], 0
    if block:
        yield block


def _score_batch(
    model: LanguageModel,
    batch: Sequence[Sentence],
    carry: _Carry,
    shared: Shared,
    starts_V: Tensor | None,
) -> Iterator[Scored]:
    """Score sentences as one batch, longest first; padding does not change the results.

    A sentence leaves the batch at its end, unless its row is needed as padding.
    """
    order = sorted(range(len(batch)), key=lambda index: -len(batch[index].ids))
    stretches: list[list[_Stretch]] = [[] for _ in batch]
    carry, first = carry.expand(padded(len(batch))), 0
    while order:
        B = padded(len(order))
        carry = carry.first(B)
        step = max(4, WINDOW_WORDS // B // 4 * 4)
        lengths = [min(len(batch[index].ids) - first, step) for index in order]
        window_BT = np.zeros((B, padded(lengths[0], 4)), dtype=np.int64)
        for row, (index, length) in enumerate(zip(order, lengths, strict=True)):
            window_BT[row, :length] = batch[index].ids[first : first + length]
        tokens_BT = torch.from_numpy(window_BT).to(carry.hidden_BH.device)
        hidden_BTH, state = model(tokens_BT, carry.state)
        before = carry.hidden_BH if first else shared
        described = _describe(model, before, hidden_BTH, tokens_BT, lengths, starts_V)
        for index, stretch in zip(order, described, strict=True):
            stretches[index].append(stretch)
        carry, first = _Carry(hidden_BTH[:, -1], state), first + step
        order = [index for index in order if len(batch[index].ids) > first]
    for sentence, found in zip(batch, stretches, strict=True):
        yield join(sentence, found)


def score_in_order(
    model: LanguageModel,
    sentences: Iterable[Sentence],
    *,
    start: int | None,
    carry_state: bool,
    adapt_lr: float | None = None,
    starts_V: Tensor | None = None,
) -> Iterator[Scored]:
    """Score sentences one after the other.

    With ``adapt_lr`` the model learns while it reads. After each sentence is scored, it takes one
    SGD step on the mean surprisal, with the gradient's norm clipped at 0.25. A sentence of more
    than 512 words is learnt in parts of 512. The parameters of ``model`` change in place.

    Args:
        model: the model, in evaluation mode.
        sentences: any number; one is held at a time.
        start: id of the word read before the first word. If None, that word is not predicted.
        carry_state: whether a sentence starts from the state after the previous one. Otherwise
            each starts like the first.
        adapt_lr: learning rate of the adaptation; None for no adaptation.
        starts_V: see :func:`tiedlm.scoring.distributions.describe`.

    Source: adaptation as in van Schijndel and Linzen (2018), "A neural model of adaptation in
    reading".
    """
    learns = adapt_lr is not None
    carry = _begin(model, start, learns)
    for sentence in sentences:
        stretches: list[_Stretch] = []
        for ids in np.split(sentence.ids, range(ADAPT_WORDS, len(sentence.ids), ADAPT_WORDS)):
            tokens_BT = torch.from_numpy(ids.astype(np.int64))[None].to(carry.hidden_BH.device)
            with torch.set_grad_enabled(learns):
                hidden_BTH, state = model(tokens_BT, carry.state)
            stretches += _describe(
                model, carry.hidden_BH, hidden_BTH, tokens_BT, [len(ids)], starts_V
            )
            if adapt_lr is not None:
                _adapt(model, carry.hidden_BH, hidden_BTH, tokens_BT, adapt_lr)
            carry = _Carry(hidden_BTH[:, -1].detach(), detach(state))
        yield join(sentence, stretches)
        if not carry_state:
            carry = _begin(model, start, learns)


def _adapt(
    model: LanguageModel, before_BH: Tensor, hidden_BTH: Tensor, tokens_BT: Tensor, lr: float
) -> None:
    """Take one SGD step on the mean surprisal of the predicted words."""
    hidden_BTH = torch.cat([before_BH[:, None], hidden_BTH[:, :-1]], dim=1)
    if before_BH.isnan().any():
        hidden_BTH, tokens_BT = hidden_BTH[:, 1:], tokens_BT[:, 1:]
    if tokens_BT.shape[1] == 0:
        return
    parameters = list(model.parameters())
    loss = model.loss(hidden_BTH, tokens_BT).loss
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    with torch.no_grad():
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        nn.utils.clip_grad_norm_(parameters, ADAPT_CLIP)
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.sub_(parameter.grad, alpha=lr)
                parameter.grad = None


class _Stretch(NamedTuple):
    """Measures of a stretch of one sentence, as in :class:`Scored`."""

    surprisal: Floats
    entropy: Floats
    entropy_after: Floats
    rank: npt.NDArray[np.int64]
    boundary: Floats | None


class _Columns(NamedTuple):
    """:class:`Distributions` as NumPy arrays."""

    surprisal: Floats
    entropy: Floats
    rank: npt.NDArray[np.int64]
    boundary: Floats | None

    @classmethod
    def of(cls, found: Distributions) -> _Columns:
        surprisal, entropy = (x.double().cpu().numpy() for x in (found.surprisal, found.entropy))
        boundary = None if found.boundary is None else found.boundary.double().cpu().numpy()
        return cls(surprisal, entropy, found.rank.cpu().numpy(), boundary)

    def rows(self, first: int, count: int) -> _Columns:
        rows = slice(first, first + count)
        boundary = None if self.boundary is None else self.boundary[rows]
        return _Columns(self.surprisal[rows], self.entropy[rows], self.rank[rows], boundary)

    def then(self, other: _Columns) -> _Columns:
        boundary = None
        if self.boundary is not None and other.boundary is not None:
            boundary = np.concatenate([self.boundary, other.boundary])
        return _Columns(
            np.concatenate([self.surprisal, other.surprisal]),
            np.concatenate([self.entropy, other.entropy]),
            np.concatenate([self.rank, other.rank]),
            boundary,
        )


def _describe(
    model: LanguageModel,
    before: Tensor | Shared,
    hidden_BTH: Tensor,
    tokens_BT: Tensor,
    lengths: Sequence[int],
    starts_V: Tensor | None,
) -> list[_Stretch]:
    """Return the measures of the first ``lengths[b]`` words of each row.

    ``before`` predicts the first words: hidden states ``(B, H)``, or one distribution for all.
    """
    hidden_BSH = hidden_BTH.detach()  # S is T, or T + 1
    targets_BS = torch.cat([tokens_BT, torch.zeros_like(tokens_BT[:, :1])], dim=1)
    shared = None
    if isinstance(before, Shared):
        shared = _Columns.of(before.describe(tokens_BT[:, 0]))
        targets_BS = targets_BS[:, 1:]
    else:
        hidden_BSH = torch.cat([before[:, None], hidden_BSH], dim=1)
    counts = [n + (shared is None) for n in lengths]
    rows_NH = torch.cat([hidden_BSH[b, :count] for b, count in enumerate(counts)])
    targets_N = torch.cat([targets_BS[b, :count] for b, count in enumerate(counts)])
    found = _Columns.of(describe(model, rows_NH, targets_N, starts_V))
    stretches, first = [], 0
    for row, count in enumerate(counts):
        own = found.rows(first, count)
        if shared is not None:
            own = shared.rows(row, 1).then(own)
        surprisal, entropy, rank, boundary = own
        stretches.append(_Stretch(surprisal[:-1], entropy[:-1], entropy[1:], rank[:-1], boundary))
        first += count
    return stretches


def join(sentence: Sentence, parts: Sequence[Scored | _Stretch]) -> Scored:
    """Return one sentence from its parts; adjacent parts share a boundary value."""
    boundaries = [part.boundary for part in parts if part.boundary is not None]
    boundary = None
    if boundaries:
        boundary = np.concatenate([*(b[:-1] for b in boundaries), boundaries[-1][-1:]])
    return Scored(
        sentence,
        np.concatenate([part.surprisal for part in parts]),
        np.concatenate([part.entropy for part in parts]),
        np.concatenate([part.entropy_after for part in parts]),
        np.concatenate([part.rank for part in parts]),
        boundary,
    )
