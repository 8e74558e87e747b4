"""Score text with evaluation methods: dynamic evaluation, temperature, cache and mixtures.

Entropy and rank need the probabilities of all words. So each model of a mixture returns its whole
distribution here. Surprisal, entropy and rank are then computed from the mixed distribution, as for
a single model.

Shape letters: T words read at a time, N words, V vocabulary, H width that the classifier reads, K
entries of a cache.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tiedlm.evaluation.cache import Cache, visible
from tiedlm.evaluation.dynamic import Adapter
from tiedlm.evaluation.methods import Methods
from tiedlm.model import LanguageModel
from tiedlm.networks.state import State
from tiedlm.scoring.distributions import CELLS, describe_logits
from tiedlm.scoring.sentence import Sentence
from tiedlm.scoring.surprisal import Scored

PART_WORDS = 256


class Member(NamedTuple):
    """One model of a mixture, with its methods.

    Args:
        model: the model, in evaluation mode.
        methods: the methods on top of the model.
        weight: its share; the weights of all members sum to 1.
        rms: gradient statistics, for dynamic evaluation with the rule "rms".
    """

    model: LanguageModel
    methods: Methods = Methods()
    weight: float = 1.0
    rms: Mapping[str, Tensor] | None = None


class _Stream:
    """A member that reads a text word by word, with its state and its cache."""

    def __init__(self, member: Member) -> None:
        self.model, self.methods = member.model, member.methods
        self.adapter = None
        if member.methods.dynamic is not None:
            self.adapter = Adapter(member.model, member.methods.dynamic, member.rms)
        self.state: State | None = None
        like = member.model.decoder.weight
        self.hidden_MH = like.new_empty(0, like.shape[1]).detach()
        self.words_M = torch.empty(0, dtype=torch.int64, device=like.device)

    @torch.no_grad()
    def read(self, tokens_T: Tensor, targets_S: Tensor) -> Tensor:
        """Return the log-distributions after each of T words, ``(T, V)``.

        Args:
            tokens_T: the words.
            targets_S: the words that follow them: T words, or one less at the end of the text.
        """
        hidden_TH, z_TV = self._logits(tokens_T, targets_S)
        log_p_TV = (z_TV / self.methods.temperature).log_softmax(dim=-1)
        cache = self.methods.cache
        return log_p_TV if cache is None else self._cached(cache, log_p_TV, hidden_TH, targets_S)

    def _logits(self, tokens_T: Tensor, targets_S: Tensor) -> tuple[Tensor, Tensor]:
        if self.adapter is None:
            hidden_BTH, self.state = self.model(tokens_T[None], self.state)
            hidden_TH = self.model.decoder.project(hidden_BTH)[0]
            return hidden_TH, self.model.decode(hidden_BTH)[0]
        length, found = self.adapter.settings.segment, []
        for first in range(0, len(targets_S), length):
            targets_T = targets_S[first : first + length]
            segment = self.adapter.read(tokens_T[first : first + len(targets_T)], targets_T)
            found.append((segment.hidden_TH, segment.log_p_TV))
        if len(targets_S) < len(tokens_T):
            found.append(self.adapter.predict(tokens_T[-1:]))
        hidden, logits = zip(*found, strict=True)
        return torch.cat(hidden), torch.cat(logits)

    def _cached(
        self, cache: Cache, log_p_TV: Tensor, hidden_TH: Tensor, targets_S: Tensor
    ) -> Tensor:
        """Mix the cache in, and add to it the words that followed."""
        entries, T = len(self.words_M), len(hidden_TH)
        keys_KH = torch.cat([self.hidden_MH, hidden_TH[: len(targets_S)]])
        words_K = torch.cat([self.words_M, targets_S])
        visible_TK = visible(T, len(words_K), entries, cache.words, words_K.device)
        scores_TK = (cache.theta * (hidden_TH @ keys_KH.t())).masked_fill(~visible_TK, -math.inf)
        p_TK = scores_TK.softmax(dim=-1)
        p_TV = torch.zeros_like(log_p_TV).index_add_(1, words_K, p_TK)
        self.hidden_MH, self.words_M = keys_KH[-cache.words :], words_K[-cache.words :]
        if cache.weight == 0:
            return log_p_TV
        # In logarithms: the probability of an improbable word may be too small for a float.
        mixed_TV = torch.logaddexp(
            math.log1p(-cache.weight) + log_p_TV, math.log(cache.weight) + p_TV.log()
        )
        first = int(entries == 0)  # the cache is still empty
        return torch.cat([log_p_TV[:first], mixed_TV[first:]])


def score_with_methods(
    members: Sequence[Member],
    sentences: Iterable[Sentence],
    *,
    start: int | None,
    carry_state: bool,
    starts_V: Tensor | None = None,
) -> Iterator[Scored]:
    """Score sentences one after the other under a mixture of models with methods.

    Args:
        members: the models, with the same vocabulary; a single model is allowed.
        sentences: any number. With ``carry_state`` all are held at a time.
        start: id of the word read before the first word. If None, that word is not predicted.
        carry_state: whether state, cache and adaptation are carried from one sentence to the next.
            Otherwise each starts like the first.
        starts_V: see :func:`tiedlm.scoring.distributions.describe`.
    """
    groups = [list(sentences)] if carry_state else ([one] for one in sentences)
    for group in groups:
        if group:
            yield from _score_group(members, group, start, starts_V)


def _score_group(
    members: Sequence[Member], group: list[Sentence], start: int | None, starts_V: Tensor | None
) -> Iterator[Scored]:
    """Score sentences that form one text."""
    before = [] if start is None else [start]
    ids = np.concatenate([np.array(before, dtype=np.int64), *(one.ids for one in group)])
    rows = _described(members, ids, starts_V)
    if start is None:  # no distribution precedes the first word
        rows = [np.concatenate([[0 if row.dtype.kind == "i" else np.nan], row]) for row in rows]
    surprisal, entropy, rank, *boundaries = rows
    first = 0
    for sentence in group:
        stop = first + len(sentence.ids)
        yield Scored(
            sentence,
            surprisal[first:stop],
            entropy[first:stop],
            entropy[first + 1 : stop + 1],
            rank[first:stop],
            boundaries[0][first : stop + 1] if boundaries else None,
        )
        first = stop


def _described(
    members: Sequence[Member], ids: np.ndarray, starts_V: Tensor | None
) -> list[np.ndarray]:
    """Return surprisal, entropy, rank (and boundary) after each word of a text."""
    streams = [_Stream(member) for member in members]
    weight = members[0].model.embedding.weight
    text = torch.from_numpy(ids.astype(np.int64)).to(weight.device)
    lengths = [one.methods.dynamic.segment for one in members if one.methods.dynamic is not None]
    common = math.lcm(*lengths) if lengths else 1
    step = max(1, min(PART_WORDS, CELLS // len(weight)) // common) * common
    found = []
    for first in range(0, len(text), step):
        tokens_T, targets_S = text[first : first + step], text[first + 1 : first + step + 1]
        parts = [stream.read(tokens_T, targets_S) for stream in streams]
        z_TV = parts[0]
        if len(parts) > 1:
            logs = [math.log(one.weight) if one.weight else -math.inf for one in members]
            z_TV = torch.stack([p + log for p, log in zip(parts, logs, strict=True)]).logsumexp(0)
        padded_T = torch.cat([targets_S, tokens_T.new_zeros(len(tokens_T) - len(targets_S))])
        found.append(describe_logits(z_TV, padded_T, starts_V))
    columns = [torch.cat([getattr(one, name) for one in found]).cpu()
               for name in ("surprisal", "entropy", "rank")]  # fmt: skip
    if starts_V is not None:
        columns.append(torch.cat([one.boundary for one in found if one.boundary is not None]).cpu())
    return [c.numpy() if c.dtype == torch.int64 else c.double().numpy() for c in columns]
