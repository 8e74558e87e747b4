"""Compute perplexity. This is the only module that does.

Perplexity is ``exp(total nll / predicted tokens)``. The text is one stream: the state is carried
from the first word to the last, and every token except the very first is predicted. The number of
tokens read at a time changes only rounding, and there is no batch size.

Shape letters: N tokens, T tokens of a window, H hidden width, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tiedlm.data.streams import release
from tiedlm.evaluation.segments import block_length, segment_windows, segments_for
from tiedlm.loss import augmented_cross_entropy
from tiedlm.model import LanguageModel

WINDOW = 512  # tokens read at a time
SPAN = 1 << 23  # tokens whose losses are held and summed at a time
SCORED = 2048  # tokens read and scored at a time: larger matrix products are faster


class Evaluation(NamedTuple):
    """The perplexity of a text and the counts behind it.

    Args:
        perplexity: ``exp(nll / tokens)``.
        bits_per_word: ``nll / tokens / ln 2``.
        nll: total negative log-likelihood, in nats.
        tokens: number of predicted tokens, including ``<eos>`` and ``<unk>``.
        unk_tokens: number of predicted tokens that are ``<unk>``.
        unk_share: ``unk_tokens / tokens``.
        perplexity_without_unk: perplexity over the predicted tokens that are not ``<unk>``.
    """

    perplexity: float
    bits_per_word: float
    nll: float
    tokens: int
    unk_tokens: int
    unk_share: float
    perplexity_without_unk: float


def hidden_windows(
    model: LanguageModel, ids: npt.NDArray[np.integer], window: int = WINDOW
) -> Iterator[tuple[Tensor, Tensor]]:
    """Read a text as one stream, in evaluation mode and without gradients.

    Args:
        model: the model; its mode is restored at the end.
        ids: ``(N,)`` word ids.
        window: tokens read at a time.

    Yields:
        ``(hidden_TH, targets_T)``: the classifier's input, after any projection, and the next
        words. Together the windows cover every token but the first.
    """
    device = model.embedding.weight.device
    with model.mode(training=False):
        state = None
        for start in range(0, len(ids) - 1, window):
            window_ids = np.asarray(ids[start : start + window + 1], dtype=np.int64)
            tokens = torch.from_numpy(window_ids).to(device)
            with torch.no_grad():
                hidden, state = model(tokens[None, :-1], state)
                hidden_TH = model.decoder.project(hidden)[0]
            yield hidden_TH, tokens[1:]


def token_losses(
    model: LanguageModel, ids: npt.NDArray[np.integer], window: int = SCORED
) -> npt.NDArray[np.float32]:
    """Return the negative log-likelihood, in nats, of every token but the first.

    Args:
        model: the model.
        ids: ``(N,)`` word ids, at least two.
        window: tokens read at a time; changes only rounding.

    Returns:
        ``(N - 1,)`` float32.
    """
    losses = np.empty(max(len(ids) - 1, 0), dtype=np.float32)
    first = 0
    for span in _loss_spans(model, ids, window):
        losses[first : first + len(span)] = span
        first += len(span)
        release(ids)
    return losses


def _loss_spans(
    model: LanguageModel, ids: npt.NDArray[np.integer], window: int
) -> Iterator[npt.NDArray[np.float32]]:
    """Yield the losses of :func:`token_losses` in spans, so that a long text needs little memory.

    A span consists of whole blocks of :func:`segment_windows`. No part of a finished block is read
    again, so the losses of a span are final.
    """
    count = segments_for(model, len(ids))
    length = block_length(count) * max(1, SPAN // block_length(count))
    first, left = 0, len(ids) - 1
    losses = np.empty(min(length, left), dtype=np.float32)
    for hidden_BTH, targets_BT, positions_BT in segment_windows(model, ids, window, count):
        if positions_BT.min() >= first + length:
            yield losses
            first += length
            losses = np.empty(min(length, left - first), dtype=np.float32)
        nll_BT = target_losses(model, hidden_BTH, targets_BT)
        losses[positions_BT - first] = nll_BT.float().cpu().numpy()
    yield losses


def target_losses(model: LanguageModel, hidden: Tensor, targets: Tensor) -> Tensor:
    """Return the negative log-likelihood of each target, in nats.

    Shape:
        hidden ``(..., E)``, after any projection; targets ``(...)`` int64; the result ``(...)``.
    """
    with torch.no_grad():
        return augmented_cross_entropy(
            hidden,
            model.decoder.weight,
            targets,
            bias=model.decoder.bias,
            alpha=0.0,
            reduction="none",
        ).loss


def summarize(
    losses: npt.NDArray[np.float32],
    targets: npt.NDArray[np.integer],
    unk_id: int | None,
) -> Evaluation:
    """Return the :class:`Evaluation` for the losses of the predicted tokens.

    Args:
        losses: ``(N,)`` in nats, as from :func:`token_losses`.
        targets: ``(N,)`` ids of the predicted tokens.
        unk_id: the id of ``<unk>``, to count it; None counts no token as unknown.
    """
    totals = _Totals()
    totals.add(losses, targets, unk_id)
    return totals.evaluation()


@dataclass
class _Totals:
    """Sums over the predicted tokens so far, from which a perplexity is computed."""

    nll: float = 0.0
    tokens: int = 0
    known_nll: float = 0.0
    unk_tokens: int = 0

    def add(
        self,
        losses: npt.NDArray[np.float32],
        targets: npt.NDArray[np.integer],
        unk_id: int | None,
    ) -> None:
        """Add the losses of some predicted tokens."""
        is_unk = targets == unk_id if unk_id is not None else np.zeros(len(losses), dtype=bool)
        self.nll += float(losses.sum(dtype=np.float64))
        self.tokens += len(losses)
        self.known_nll += float(losses[~is_unk].sum(dtype=np.float64))
        self.unk_tokens += int(is_unk.sum())

    def evaluation(self) -> Evaluation:
        """Return the :class:`Evaluation` of all tokens added so far."""
        return Evaluation(
            perplexity=perplexity(self.nll, self.tokens),
            bits_per_word=self.nll / self.tokens / math.log(2),
            nll=self.nll,
            tokens=self.tokens,
            unk_tokens=self.unk_tokens,
            unk_share=self.unk_tokens / self.tokens,
            perplexity_without_unk=perplexity(
                self.known_nll, max(self.tokens - self.unk_tokens, 1)
            ),
        )


def perplexity(nll: float, tokens: int) -> float:
    """Return ``exp(nll / tokens)``, or infinity if that exceeds a float.

    Args:
        nll: total negative log-likelihood, in nats.
        tokens: number of predicted tokens, at least 1.
    """
    nats = nll / tokens
    return math.exp(nats) if nats < 700 else math.inf


def evaluate(
    model: LanguageModel,
    ids: npt.NDArray[np.integer],
    *,
    unk_id: int | None = None,
    window: int = SCORED,
) -> Evaluation:
    """Compute the perplexity of a text.

    Args:
        model: the model.
        ids: ``(N,)`` word ids, at least two.
        unk_id: the id of ``<unk>``, to count it.
        window: tokens read at a time; changes only rounding.

    Raises:
        ValueError: for fewer than two tokens.
    """
    if len(ids) < 2:
        raise ValueError(f"ids: expected at least 2 tokens to predict one, got {len(ids)}")
    totals = _Totals()
    for losses in _loss_spans(model, ids, window):
        first = totals.tokens + 1
        totals.add(losses, np.asarray(ids[first : first + len(losses)]), unk_id)
        release(ids)
    return totals.evaluation()
