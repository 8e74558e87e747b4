"""Compute perplexity; no other module does.

Perplexity is ``exp(total nll / predicted tokens)``. The text is one stream: the state is carried
from the first word to the last, and every token except the very first is predicted. The number of
tokens read at a time changes only rounding, and there is no batch size.

Shape letters: N tokens, T tokens of a window, H hidden width, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tiedlm.evaluation.segments import segment_windows, segments_for
from tiedlm.loss import augmented_cross_entropy
from tiedlm.model import LanguageModel

WINDOW = 512  # tokens read at a time
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
            piece = np.asarray(ids[start : start + window + 1], dtype=np.int64)
            tokens = torch.from_numpy(piece).to(device)
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
    losses = np.empty(len(ids) - 1, dtype=np.float32)
    count = segments_for(model, len(ids))
    for hidden_BTH, targets_BT, positions_BT in segment_windows(model, ids, window, count):
        nll_BT = target_losses(model, hidden_BTH, targets_BT)
        losses[positions_BT] = nll_BT.float().cpu().numpy()
    return losses


def target_losses(model: LanguageModel, hidden: Tensor, targets: Tensor) -> Tensor:
    """Return the negative log-likelihood of each target, given projected hidden states."""
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
    """Return the :class:`Evaluation` for the losses of the predicted tokens."""
    total = float(losses.sum(dtype=np.float64))
    count = len(losses)
    is_unk = targets == unk_id if unk_id is not None else np.zeros(count, dtype=bool)
    unk_tokens = int(is_unk.sum())
    known_total = float(losses[~is_unk].sum(dtype=np.float64))
    return Evaluation(
        perplexity=perplexity(total, count),
        bits_per_word=total / count / math.log(2),
        nll=total,
        tokens=count,
        unk_tokens=unk_tokens,
        unk_share=unk_tokens / count,
        perplexity_without_unk=perplexity(known_total, max(count - unk_tokens, 1)),
    )


def perplexity(nll: float, tokens: int) -> float:
    """Return ``exp(nll / tokens)``, or infinity if that exceeds a float."""
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
    return summarize(token_losses(model, ids, window), np.asarray(ids[1:]), unk_id)
