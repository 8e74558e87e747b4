"""Test the claims of the paper's qualitative tables over the whole test text.

The paper claims that REAL gives more probability to the target and to words near it, and less to
``<unk>``, "a", "an" and "the". It supports this with four phrases. This module reports each claim
as a mean over all predicted tokens with a paired bootstrap interval. It also splits the means by
the frequency of the target in training.

Source: Inan et al. (2017), the qualitative comparison.

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
# Bands of target frequency in training. The paper gives no bounds; these are ours.
BANDS = {"rare, below 100": (0, 100), "100 to 1,000": (100, 1000), "above 1,000": (1000, None)}
RESAMPLES = 1000
BLOCK = 50  # tokens resampled together: neighbours in a text are not independent
FEWEST_BLOCKS = 20  # a short text gets shorter blocks: a single block has no spread

Values = dict[str, npt.NDArray[np.float32]]


def token_values(
    model: LanguageModel,
    ids: npt.NDArray[np.integer],
    near: Mapping[str, Tensor],
    words: Sequence[int],
) -> Values:
    """Return the values to average for every predicted token.

    Args:
        model: a trained model.
        ids: token ids of the text, ``(N + 1,)``.
        near: name of a value -> the K neighbours of each word, ``(V, K)``. The value is the sum of
            the probabilities of the target's neighbours.
        words: ids of the words whose probability to return: ``<unk>`` and the articles.

    Returns:
        ``nll``, ``p_target``, ``rank`` (1 is best), ``entropy`` (nats), ``p_<id>`` for each word,
        and one value for each name in ``near``.
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
    """Return the nearest neighbours of each word by cosine similarity, ``(V, K)``."""
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
    """Return the 95% block-bootstrap interval of the mean of paired differences."""
    count = max(len(differences_N) // BLOCK, min(len(differences_N), FEWEST_BLOCKS))
    blocks = np.array_split(differences_N.astype(np.float64), count)
    sums = np.array([block.sum() for block in blocks])
    sizes = np.array([len(block) for block in blocks])
    chosen = np.random.default_rng(seed).integers(0, count, size=(resamples, count))
    means = sums[chosen].sum(1) / sizes[chosen].sum(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def frequency_masks(corpus: Corpus) -> dict[str, npt.NDArray[np.bool_]]:
    """Return a mask of the test targets, ``(N,)``, for each frequency band and for ``all``."""
    counts_V = np.bincount(corpus.train, minlength=len(corpus.vocabulary))
    frequency_N = counts_V[np.asarray(corpus.test[1:])]
    return {"all": frequency_N >= 0} | {
        name: (frequency_N >= low) & (frequency_N < (high or np.inf))
        for name, (low, high) in BANDS.items()
    }


def compare_predictions(
    base: LanguageModel, other: LanguageModel, corpus: Corpus
) -> dict[str, Any]:
    """Compare two models over the test text of their corpus.

    Both models are compared on the same neighbours of the target: the ten nearest by the word
    vectors of ``base``, and the ten nearest by the word vectors of ``other``. The second choice
    favours a tied ``other``, which also scores words with its word vectors.

    Returns:
        For all targets and for each band: the number of tokens and, for each value, both means and
        the interval of the difference ``other - base``.
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
    """Return each model's next words after the paper's four phrases, starting from a zero state."""
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
