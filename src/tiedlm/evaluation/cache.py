r"""Mix a model with a cache of the words that it has just read.

.. math::
    p(w) &= (1 - \lambda) \, p_{model}(w) + \lambda \, p_{cache}(w) \\
    p_{cache}(w) &= \frac{\sum_i [w_{i+1} = w] \, e^{\theta h_t \cdot h_i}}
        {\sum_i e^{\theta h_t \cdot h_i}}, \qquad t - n \le i < t

The model has read :math:`w_0 \ldots w_t` and predicts :math:`w_{t+1}`. The vector h is the input of
the classifier, after any projection. An entry of the cache is such a vector and the word that
followed it. The cache holds the last n entries, or fewer at the beginning of a text. While it is
empty, the model predicts alone. Nothing is trained.

Source: Grave et al. (2017), "Improving Neural Language Models with a Continuous Cache", section 3.

Shape letters: T words of a window, K entries that a window can see, H width of h, G values of
theta.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

QUERIES = 256  # words whose cache probabilities are computed at once
MOST_WORDS = 2**31
MOST_THETA = 1e30  # a 32-bit float holds its product with a similarity


@dataclass(frozen=True, kw_only=True)
class Cache:
    """The settings of a cache.

    The defaults are the published ones for the LSTM of 1,024 units on Penn Treebank; ``--tune``
    finds better ones for a model.

    Args:
        words: n, the number of entries.
        theta: how much the similarity of two hidden states counts. With 0 only the counts of the
            words matter.
        weight: lambda, the share of the cache.

    Raises:
        ValueError: naming the setting that is out of range.

    Source: Grave et al. (2017), section 5.1: n = 500, theta = 0.3, lambda = 0.1.
    """

    words: int = 500
    theta: float = 0.3
    weight: float = 0.1

    def __post_init__(self) -> None:
        if not 1 <= self.words <= MOST_WORDS:
            raise ValueError(f"words: expected 1 to {MOST_WORDS}, got {self.words}")
        if not 0 <= self.theta <= MOST_THETA:
            raise ValueError(f"theta: expected 0 <= theta <= {MOST_THETA:g}, got {self.theta}")
        if not 0 <= self.weight < 1:
            raise ValueError(f"weight: expected 0 <= lambda < 1, got {self.weight}")


class CacheMemory:
    """The entries of a cache while a text is read.

    Args:
        words: n.
        thetas: values of theta to compute side by side.
        like: a tensor of the width, type and device of the hidden states.
    """

    def __init__(self, words: int, thetas: tuple[float, ...], like: Tensor) -> None:
        self.words, self.thetas = words, thetas
        self.hidden_MH = like.new_empty(0, like.shape[-1])
        self.words_M = torch.empty(0, dtype=torch.int64, device=like.device)

    def log_probs(self, hidden_TH: Tensor, targets_T: Tensor, fallback_T: Tensor) -> Tensor:
        """Return ``log p_cache`` of each next word, and add the words to the cache.

        A word enters the cache after its own probability has been computed.

        Args:
            hidden_TH: h of consecutive words of the text.
            targets_T: the words that follow them.
            fallback_T: what to return where the cache is empty, such as ``-nll`` of the model.

        Returns:
            ``(G, T)``; minus infinity for words that are not in the cache.
        """
        parts = []
        for first in range(0, len(targets_T), QUERIES):
            rows = slice(first, first + QUERIES)
            parts.append(self._log_probs(hidden_TH[rows], targets_T[rows], fallback_T[rows]))
        return torch.cat(parts, dim=1)

    @torch.no_grad()
    def _log_probs(self, hidden_TH: Tensor, targets_T: Tensor, fallback_T: Tensor) -> Tensor:
        """Do the work of :meth:`log_probs` for at most ``QUERIES`` words."""
        entries = len(self.words_M)
        keys_KH = torch.cat([self.hidden_MH, hidden_TH])
        words_K = torch.cat([self.words_M, targets_T])
        scores_TK = hidden_TH @ keys_KH.t()
        visible_TK = visible(len(targets_T), len(words_K), entries, self.words, words_K.device)
        scores_TK.masked_fill_(~visible_TK, -math.inf)
        scores_TK -= scores_TK.amax(dim=1, keepdim=True).clamp(min=torch.finfo(keys_KH.dtype).min)
        other_TK = words_K != targets_T[:, None]
        found = []
        for theta in self.thetas:
            e_TK = torch.exp(scores_TK * theta) if theta else visible_TK.to(scores_TK.dtype)
            total_T = e_TK.sum(dim=1)
            found.append((e_TK.masked_fill_(other_TK, 0).sum(dim=1) / total_T).log())
        self.hidden_MH = keys_KH[-self.words :].clone()
        self.words_M = words_K[-self.words :].clone()
        result_GT = torch.stack(found)
        if entries == 0:
            result_GT[:, 0] = fallback_T[0]
        return result_GT

    def tensors(self, number: int) -> dict[str, Tensor]:
        """Return the entries to save, with names that contain the number of this cache."""
        return {f"cache.{number}.hidden": self.hidden_MH, f"cache.{number}.words": self.words_M}

    def restore(self, tensors: Mapping[str, Tensor], number: int) -> None:
        """Restore the entries that :meth:`tensors` returned for the same number."""
        self.hidden_MH = tensors[f"cache.{number}.hidden"].to(self.hidden_MH)
        self.words_M = tensors[f"cache.{number}.words"].to(self.words_M)


def visible(queries: int, keys: int, entries: int, words: int, device: torch.device) -> Tensor:
    """Return which keys each query sees, the last ``words`` before it, as a boolean ``(T, K)``.

    Args:
        queries: T, the number of words to predict.
        keys: K = entries + T: the entries of the cache, then the entries of the queries themselves.
        entries: entries of the cache before these words.
        words: n, the largest number of entries that a word sees.
        device: of the result.
    """
    own_T1 = entries + torch.arange(queries, device=device)[:, None]
    key_K = torch.arange(keys, device=device)
    return (key_K < own_T1) & (key_K >= own_T1 - words)


def mixed_losses(nll_T: Tensor, log_cache_T: Tensor, weight: float) -> Tensor:
    """Return ``-log((1 - lambda) p_model + lambda p_cache)`` of each word.

    Args:
        nll_T: ``-log p_model``.
        log_cache_T: ``log p_cache``; a leading axis for several values of theta is allowed.
        weight: lambda.
    """
    if weight == 0:
        return nll_T.expand_as(log_cache_T)
    return -torch.logaddexp(math.log1p(-weight) - nll_T, math.log(weight) + log_cache_T)
