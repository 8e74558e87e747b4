r"""Average a word's probability over sampled dropout masks (Monte-Carlo dropout).

.. math:: p(w_t \mid w_{<t}) \approx \frac{1}{K} \sum_{k=1}^K p(w_t \mid w_{<t}, m_k)

The m_k are dropout masks as in training: a new one is drawn for each window of text. The K samples
read the text as a batch, and each carries its own state.

Source: Gal and Ghahramani (2016), section 5, the rows "MC" quoted in PAPER Table 3.

Shape letters: N tokens, K samples, T tokens of a window.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

from tiedlm.evaluation.perplexity import Evaluation, summarize, target_losses
from tiedlm.model import LanguageModel


def monte_carlo_losses(
    model: LanguageModel,
    ids: npt.NDArray[np.integer],
    samples: int,
    *,
    window: int = 35,
    seed: int = 1,
    on_tokens: Callable[[int], None] = lambda count: None,
) -> npt.NDArray[np.float32]:
    """Return ``-log`` of the averaged probability of every token but the first, in nats.

    Args:
        model: the model; its mode is restored at the end.
        ids: ``(N,)`` word ids, at least two.
        samples: K.
        window: number of tokens that share a mask; in training, the steps of back-propagation.
        seed: seed for the masks; the global random state does not change.
        on_tokens: called after each window with its number of tokens.

    Returns:
        ``(N - 1,)`` float32.

    Raises:
        ValueError: for fewer than two tokens, or fewer than one sample.
    """
    if len(ids) < 2:
        raise ValueError(f"ids: expected at least 2 tokens to predict one, got {len(ids)}")
    if samples < 1:
        raise ValueError(f"samples: expected at least 1, got {samples}")
    device = model.embedding.weight.device
    pieces = []
    state = None
    own_random = torch.random.fork_rng([device] if device.type == "cuda" else [])
    with torch.no_grad(), own_random, model.mode(training=True):
        torch.manual_seed(seed)
        for start in range(0, len(ids) - 1, window):
            piece = np.asarray(ids[start : start + window + 1], dtype=np.int64)
            tokens_KT = torch.from_numpy(piece).to(device).expand(samples, -1)
            hidden, state = model(tokens_KT[:, :-1], state)
            nll_KT = target_losses(model, model.decoder.project(hidden), tokens_KT[:, 1:])
            mean_T = math.log(samples) - torch.logsumexp(-nll_KT.double(), dim=0)
            pieces.append(mean_T.float().cpu().numpy())
            on_tokens(len(piece) - 1)
    return np.concatenate(pieces)


def monte_carlo_evaluate(
    model: LanguageModel,
    ids: npt.NDArray[np.integer],
    samples: int,
    *,
    window: int = 35,
    seed: int = 1,
    unk_id: int | None = None,
    on_tokens: Callable[[int], None] = lambda count: None,
) -> Evaluation:
    """Compute the perplexity of a text with :func:`monte_carlo_losses`.

    Args:
        model: the model.
        ids: ``(N,)`` word ids, at least two.
        samples: K.
        window: number of tokens that share a mask.
        seed: seed for the masks.
        unk_id: the id of ``<unk>``, to count it.
        on_tokens: called after each window with its number of tokens.
    """
    losses = monte_carlo_losses(model, ids, samples, window=window, seed=seed, on_tokens=on_tokens)
    return summarize(losses, np.asarray(ids[1:]), unk_id)
