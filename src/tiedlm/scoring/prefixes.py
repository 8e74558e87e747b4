"""Compute log-probabilities of many word sequences, reading each shared prefix once.

The sequences form a tree of prefixes (a trie). Its nodes of one depth are read as a batch, each
from the state of its parent. So every distinct prefix costs one step of the network and one
softmax.

Shape letters: M nodes of a depth, E requested words, H hidden width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tiedlm.data.vocabulary import Ids
from tiedlm.model import LanguageModel
from tiedlm.networks.state import select
from tiedlm.scoring.distributions import CELLS

Floats = npt.NDArray[np.float64]

STATES = 1 << 24  # numbers in the states that are held at a time; 2000 states of a wide LSTM fit


class Trie:
    """The distinct prefixes of some sequences; node 0 is the empty prefix.

    Args:
        sequences: word ids.

    Attributes:
        levels: the nodes of each depth, starting with depth 1.
        parents: node -> the prefix that is one word shorter.
        tokens: node -> its last word; -1 for node 0.
        paths: for each sequence, its nodes, starting with node 0.
    """

    def __init__(self, sequences: Sequence[Ids]) -> None:
        self.levels: list[list[int]] = []
        self.parents, self.tokens = [0], [-1]
        self.paths: list[list[int]] = []
        children: dict[tuple[int, int], int] = {}
        for sequence in sequences:
            path = [0]
            for depth, token in enumerate(sequence.tolist()):
                node = children.setdefault((path[-1], token), len(self.parents))
                if node == len(self.parents):
                    if depth == len(self.levels):
                        self.levels.append([])
                    self.levels[depth].append(node)
                    self.parents.append(path[-1])
                    self.tokens.append(token)
                path.append(node)
            self.paths.append(path)


def sequence_log_probs(model: LanguageModel, sequences: Sequence[Ids], eos_id: int) -> list[Floats]:
    """Return the log-probability of each word of each sequence and of its final ``<eos>``.

    The model reads one ``<eos>`` before every sequence. If its states are large, as a Transformer's
    are, a few sequences are read at a time, and prefixes are shared among these only.

    Args:
        model: the model, in evaluation mode.
        sequences: word ids, without ``<eos>``; a sequence may be empty.
        eos_id: the id of ``<eos>``.

    Returns:
        An array ``(n + 1,)``, in nats, for each sequence of n words.
    """
    numbers = sum(part.numel() for part in model.initial_state(1))
    most = max(1, STATES // max(1, numbers))
    found: list[Floats] = []
    for first in range(0, len(sequences), most):
        found += _read_together(model, sequences[first : first + most], eos_id)
    return found


@torch.no_grad()
def _read_together(model: LanguageModel, sequences: Sequence[Ids], eos_id: int) -> list[Floats]:
    """Do the work of :func:`sequence_log_probs` for sequences whose states fit into memory."""
    trie = Trie(sequences)
    device = model.embedding.weight.device
    parents, tokens = np.array(trie.parents), np.array(trie.tokens)
    ends = sorted({path[-1] for path in trie.paths})
    word_log_probs = np.zeros(len(parents))
    end_log_probs = np.zeros(len(parents))
    waiting: list[_Level] = []  # decoded together: each product reads the whole classifier

    def decode() -> None:
        for level, log_probs in zip(waiting, _log_probs(model, waiting), strict=True):
            word_log_probs[level.children] = log_probs[: len(level.children)]
            end_log_probs[level.finished] = log_probs[len(level.children) :]
        waiting.clear()

    nodes, state = np.array([0]), model.initial_state(1)
    for next_level in [*trie.levels, []]:
        inputs_M1 = torch.from_numpy(np.where(tokens[nodes] < 0, eos_id, tokens[nodes]))[:, None]
        hidden_M1H, state = model(inputs_M1.to(device), state)
        # Each node predicts its children's words, and <eos> if a sequence ends there.
        children = np.array(next_level, dtype=np.int64)
        finished = np.intersect1d(nodes, ends)
        rows = np.searchsorted(nodes, np.concatenate([parents[children], finished]))
        words = np.concatenate([tokens[children], np.full(len(finished), eos_id)])
        waiting.append(_Level(hidden_M1H[:, 0], rows, words, children, finished))
        if sum(len(level.hidden_MH) for level in waiting) >= _rows_at_a_time(model):
            decode()
        from_parents = torch.from_numpy(rows[: len(children)]).to(device)
        state = select(state, from_parents)
        nodes = children
    decode()
    return [np.append(word_log_probs[path[1:]], end_log_probs[path[-1]]) for path in trie.paths]


def mixed_log_probs(
    model: LanguageModel,
    others: Sequence[tuple[LanguageModel, float]],
    sequences: Sequence[Ids],
    eos_id: int,
) -> list[Floats]:
    """Return the log-probabilities of :func:`sequence_log_probs` under a mixture of models.

    Args:
        model: the first model; it gets the weight that the others leave of 1.
        others: further models of the same vocabulary, and their weights.
        sequences: word ids, without ``<eos>``.
        eos_id: the id of ``<eos>``.
    """
    if not others:
        return sequence_log_probs(model, sequences, eos_id)
    models = [model, *(other for other, _ in others)]
    weights = np.array([1 - sum(weight for _, weight in others), *(weight for _, weight in others)])
    found = [sequence_log_probs(one, sequences, eos_id) for one in models]
    with np.errstate(divide="ignore"):
        logs = np.log(weights.clip(min=0))
    return [
        np.logaddexp.reduce([log + one for log, one in zip(logs, parts, strict=True)], axis=0)
        for parts in zip(*found, strict=True)
    ]


class _Level(NamedTuple):
    """The nodes of one depth: their hidden states, and the words to predict from each."""

    hidden_MH: Tensor
    rows: npt.NDArray[np.int64]
    words: npt.NDArray[np.int64]
    children: npt.NDArray[np.int64]
    finished: npt.NDArray[np.int64]


def _rows_at_a_time(model: LanguageModel) -> int:
    return max(1, CELLS // model.config.vocab_size)


def _log_probs(model: LanguageModel, levels: Sequence[_Level]) -> list[Floats]:
    """Return ``log p(words[e] | hidden_MH[rows[e]])`` for each level."""
    if not levels:
        return []
    hidden_MH = torch.cat([level.hidden_MH for level in levels])
    firsts = np.cumsum([0, *(len(level.hidden_MH) for level in levels)])
    rows = np.concatenate([n + level.rows for n, level in zip(firsts, levels, strict=False)])
    words = np.concatenate([level.words for level in levels])
    rows_E, words_E = (torch.from_numpy(x).to(hidden_MH.device) for x in (rows, words))
    step = _rows_at_a_time(model)
    log_norm_M = torch.cat(
        [
            model.decode(hidden_MH[i : i + step]).logsumexp(dim=-1)
            for i in range(0, len(hidden_MH), step)
        ]
    )
    weight_VD, bias_V = model.decoder.weight, model.decoder.bias
    projected_ED = model.decoder.project(hidden_MH)[rows_E]
    logits_E = (projected_ED * weight_VD[words_E]).sum(dim=-1)
    if bias_V is not None:
        logits_E += bias_V[words_E]
    found: Floats = (logits_E - log_norm_M[rows_E]).double().cpu().numpy()
    return np.split(found, np.cumsum([len(level.words) for level in levels])[:-1])
