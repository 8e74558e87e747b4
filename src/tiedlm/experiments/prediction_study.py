"""The qualitative tables, and the claims behind them as statistics over the whole test text.

The paper says that REAL gives the target more mass, gives words near the target more mass, and
``<unk>``, "a", "an" and "the" less; it shows four phrases. Here each claim is a mean over every
predicted token with a paired bootstrap interval, by the frequency of the target in training.

Source: PAPER section 5.

Shape letters: N predicted tokens, T tokens of a window, V vocabulary, K neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tiedlm.analysis.predictions import distributions, next_words
from tiedlm.data import Corpus
from tiedlm.data.tokenizer import UNK
from tiedlm.experiments.paper import PHRASES
from tiedlm.model import LanguageModel

NEIGHBOURS = 10
# Targets by how often they occur in training; the bounds are ours.
BANDS = {"rare, below 100": (0, 100), "100 to 1,000": (100, 1000), "above 1,000": (1000, None)}
RESAMPLES = 1000
BLOCK = 50  # tokens that are drawn together: neighbours in a text are not independent
FEWEST_BLOCKS = 20  # of a short text the blocks are shorter: one block alone has no spread

Values = dict[str, npt.NDArray[np.float32]]


def token_values(
    model: LanguageModel,
    ids: npt.NDArray[np.integer],
    near: Mapping[str, Tensor],
    words: Sequence[int],
) -> Values:
    """Return what is averaged, for every predicted token.

    Args:
        model: a trained model.
        ids: ``(N + 1,)`` of the text.
        near: ``(V, K)``, by the name of a value: of each word those whose mass counts as near it.
        words: ids whose mass is wanted: of ``<unk>`` and of the articles.

    Returns:
        ``nll``, ``p_target``, ``rank`` (1 is best), ``entropy`` (nats), ``p_<id>`` of each word and
        the values of ``near``.
    """
    parts: dict[str, list[Tensor]] = {}
    for p_TV, targets_T in distributions(model, ids):
        p_target_T = p_TV.gather(1, targets_T[:, None])[:, 0]
        found = {
            "nll": -p_target_T.log(),
            "p_target": p_target_T,
            "rank": 1.0 + (p_TV > p_target_T[:, None]).sum(1),
            "entropy": torch.special.entr(p_TV).sum(1),
            **{name: p_TV.gather(1, near_VK[targets_T]).sum(1) for name, near_VK in near.items()},
            **{f"p_{word}": p_TV[:, word] for word in words},
        }
        for name, value in found.items():
            parts.setdefault(name, []).append(value.float())
    return {name: torch.cat(values).numpy() for name, values in parts.items()}


def neighbours(model: LanguageModel, count: int = NEIGHBOURS) -> Tensor:
    """Return the nearest words of each word by the cosine of word vectors, ``(V, K)``."""
    count = min(count, len(model.embedding.weight) - 1)
    with torch.no_grad():
        vectors_VE = torch.nn.functional.normalize(model.embedding.weight.float(), dim=1)
        rows = []
        for start in range(0, len(vectors_VE), 1024):
            cosines_RV = vectors_VE[start : start + 1024] @ vectors_VE.t()
            own = torch.arange(start, start + len(cosines_RV))
            cosines_RV[torch.arange(len(own)), own] = -torch.inf
            rows.append(cosines_RV.topk(count, dim=1).indices)
    return torch.cat(rows)


def bootstrap_interval(
    differences_N: npt.NDArray[np.floating], seed: int = 0, resamples: int = RESAMPLES
) -> tuple[float, float]:
    """Return the 95% interval of the mean of paired differences, by blocks of the text."""
    count = max(len(differences_N) // BLOCK, min(len(differences_N), FEWEST_BLOCKS))
    blocks = np.array_split(differences_N.astype(np.float64), count)
    sums = np.array([block.sum() for block in blocks])
    sizes = np.array([len(block) for block in blocks])
    chosen = np.random.default_rng(seed).integers(0, count, size=(resamples, count))
    means = sums[chosen].sum(1) / sizes[chosen].sum(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def frequency_masks(corpus: Corpus) -> dict[str, npt.NDArray[np.bool_]]:
    """Return which of the test text's targets are in each band, and ``all``: ``(N,)`` each."""
    counts_V = np.bincount(corpus.train, minlength=len(corpus.vocabulary))
    frequency_N = counts_V[np.asarray(corpus.test[1:])]
    return {"all": frequency_N >= 0} | {
        name: (frequency_N >= low) & (frequency_N < (high or np.inf))
        for name, (low, high) in BANDS.items()
    }


def compare_predictions(
    base: LanguageModel, other: LanguageModel, corpus: Corpus
) -> dict[str, Any]:
    """Compare two models of a corpus over its test text.

    Both are asked for the same words: the ten nearest of the target, once by ``base``'s word
    vectors, once by ``other``'s. If one of them is tied, its own are also what it scores with.

    Returns:
        For all targets and for each band: how many, and of each value the means of both and the
        interval of the difference, ``other - base``.
    """
    vocabulary = corpus.vocabulary
    names = [word for word in ("<unk>", "a", "an", "the") if word in vocabulary]
    words = [int(i) for i in vocabulary.encode(names)]
    near = {"near_base": neighbours(base), "near_other": neighbours(other)}
    values = [token_values(model, corpus.test, near, words) for model in (base, other)]
    labels = {f"p_{word}": f"P({name})" for word, name in zip(words, names, strict=True)}
    labels |= {
        "nll": "nll, nats", "p_target": "P(target)", "rank": "rank of the target",
        "entropy": "entropy, nats",
        "near_base": f"P of the target's {NEIGHBOURS} nearest, by the first's vectors",
        "near_other": f"P of the target's {NEIGHBOURS} nearest, by the second's vectors",
    }  # fmt: skip
    return {
        band: _compare(values, chosen_N, labels)
        for band, chosen_N in frequency_masks(corpus).items()
    }


def _compare(
    values: Sequence[Values], chosen_N: npt.NDArray[np.bool_], labels: Mapping[str, str]
) -> dict[str, Any]:
    if not chosen_N.any():
        return {"tokens": 0}
    base, other = ({name: v[chosen_N] for name, v in one.items()} for one in values)
    return {
        "tokens": int(chosen_N.sum()),
        **{
            labels[name]: {
                "base": float(base[name].mean(dtype=np.float64)),
                "other": float(other[name].mean(dtype=np.float64)),
                "difference95": bootstrap_interval(other[name] - base[name]),
            }
            for name in base
        },
    }


def phrases(models: Mapping[str, LanguageModel], top: int = 10) -> list[dict[str, Any]]:
    """Return the next words of each model after the paper's four phrases, each read on its own."""
    found = []
    for context, following in PHRASES:
        row: dict[str, Any] = {"context": context, "next": following, "top": {}, "p_next": {}}
        for name, model in models.items():
            assert model.vocabulary is not None
            ids = model.vocabulary.encode(["<eos>", *context.split()])
            every = next_words(model, ids, len(model.vocabulary))
            row["top"][name] = [p._asdict() for p in every[:top]]
            word = following if following in model.vocabulary else UNK
            row["p_next"][name] = next(p.probability for p in every if p.word == word)
        found.append(row)
    return found
