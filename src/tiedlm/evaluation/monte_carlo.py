r"""Average a word's probability over sampled dropout masks (Monte-Carlo dropout).

.. math:: p(w_t \mid w_{<t}) \approx \frac{1}{K} \sum_{k=1}^K p(w_t \mid w_{<t}, m_k)

The m_k are dropout masks as in training: a new one is drawn for each window of text. The K samples
read the text as a batch, and each carries its own state. The streams of a batch share the masks of
DropConnect, so with it the samples are read one after another.

Source: Gal and Ghahramani (2016), section 5, the rows "MC" quoted in Table 3 of Inan et al. (2017).

Shape letters: N tokens, K samples, T tokens of a window.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tiedlm.data.streams import release
from tiedlm.evaluation.perplexity import Evaluation, summarize, target_losses
from tiedlm.evaluation.unfinished import Unfinished, saved_state, state_tensors
from tiedlm.model import LanguageModel
from tiedlm.networks.state import State, join, split


def monte_carlo_losses(
    model: LanguageModel,
    ids: npt.NDArray[np.integer],
    samples: int,
    *,
    window: int = 35,
    seed: int = 1,
    unfinished: Unfinished | None = None,
    on_tokens: Callable[[int], None] = lambda count: None,
) -> npt.NDArray[np.float32]:
    """Return ``-log`` of the averaged probability of every token but the first, in nats.

    Args:
        model: the model; its mode is restored at the end.
        ids: ``(N,)`` word ids, at least two.
        samples: K.
        window: number of tokens that share a mask; in training, the steps of back-propagation.
        seed: seed for the masks; the global random state does not change.
        unfinished: where the progress is saved, so that an interrupted evaluation can continue.
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
    losses = np.empty(len(ids) - 1, dtype=np.float32)
    first, state = 0, None
    saved = None if unfinished is None else unfinished.restore()
    own_random = torch.random.fork_rng([device] if device.type == "cuda" else [])
    with torch.no_grad(), own_random, model.mode(training=True):
        _seed(seed, device)
        if saved is not None:
            first, state = len(saved["losses"]), saved_state(model, saved)
            losses[:first] = saved["losses"].numpy()
            _set_random_state(saved, device)
            on_tokens(first)
        for start in range(first, len(ids) - 1, window):
            window_ids = np.asarray(ids[start : start + window + 1], dtype=np.int64)
            tokens_KT = torch.from_numpy(window_ids).to(device).expand(samples, -1)
            hidden, state = _read(model, tokens_KT[:, :-1], state)
            nll_KT = target_losses(model, model.decoder.project(hidden), tokens_KT[:, 1:])
            mean_T = math.log(samples) - torch.logsumexp(-nll_KT.double(), dim=0)
            end = start + len(window_ids) - 1
            losses[start:end] = mean_T.float().cpu().numpy()
            release(ids)
            on_tokens(end - start)
            if unfinished is not None:
                unfinished.checkpoint(partial(_tensors, losses[:end], state, device))
    if unfinished is not None:
        unfinished.finish()
    return losses


def _seed(seed: int, device: torch.device) -> None:
    """Seed the generators that masks on this device use. ``torch.manual_seed`` seeds all GPUs."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


def _read(model: LanguageModel, tokens_KT: Tensor, state: State | None) -> tuple[Tensor, State]:
    """Read a window with masks of its own for each sample, as ``model`` does."""
    if not getattr(model.network, "shares_masks", False):
        together: tuple[Tensor, State] = model(tokens_KT, state)
        return together
    before: State = model.initial_state(len(tokens_KT)) if state is None else state
    states = split(before, len(tokens_KT))
    found = [model(tokens_KT[k : k + 1], one) for k, one in enumerate(states)]
    hidden, after = zip(*found, strict=True)
    return torch.cat(hidden), join(after)


def _tensors(
    losses: npt.NDArray[np.float32], state: State, device: torch.device
) -> dict[str, Tensor]:
    """Return the tensors to save: losses, state and random generators."""
    found = {"losses": torch.from_numpy(losses), "rng.cpu": torch.get_rng_state()}
    if device.type == "cuda":
        found["rng.cuda"] = torch.cuda.get_rng_state(device)
    return found | state_tensors(state)


def _set_random_state(saved: Mapping[str, Tensor], device: torch.device) -> None:
    torch.set_rng_state(saved["rng.cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(saved["rng.cuda"], device)


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
