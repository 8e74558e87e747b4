"""Measure what the augmented loss does to a trained model, on its validation text.

Shape letters: T tokens, V vocabulary, E width of the word vectors.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from tiedlm import LanguageModel, load
from tiedlm.arithmetic import arithmetic
from tiedlm.evaluation.perplexity import hidden_windows
from tiedlm.evaluation.subspace import subspace_distance
from tiedlm.experiments.parallel import Job
from tiedlm.loss.reference import log_softened

TOKENS = 8_000  # of validation


class Inside(NamedTuple):
    """Numbers of one model, or means of the same numbers over seeds.

    Args:
        vectors: mean norm of a word vector.
        rows: mean norm of a row of the classifier.
        distance: subspace distance of L^T and W; 0 if tied.
        choices: how many words a soft target is spread over, as a share of the vocabulary:
            ``exp(H) / V``, with H the mean entropy of the soft targets in nats. 1 is uniform.
        push: the size of the augmented loss's gradient with respect to the scores, divided by that
            of cross-entropy. The size is the sum of absolute values over words and tokens.
    """

    vectors: float
    rows: float
    distance: float
    choices: float
    push: float


@arithmetic(kernels=True)
def measure(job: Job) -> Inside:
    """Measure the model of a finished run that still has its weights."""
    model, settings = load(job.out), job.settings
    ids = settings.load_corpus(progress=False).valid[:TOKENS]
    gamma, temperature = settings.alpha / settings.temperature, settings.temperature
    windows = (sums(model, *one, temperature) for one in hidden_windows(model, ids))
    entropy, by_ce, by_aug = torch.stack(list(windows)).sum(0).tolist()
    vectors_VE, rows_VE = model.embedding.weight.detach(), model.decoder.weight.detach()
    return Inside(
        vectors=float(vectors_VE.norm(dim=1).mean()),
        rows=float(rows_VE.norm(dim=1).mean()),
        distance=0.0 if settings.tied else subspace_distance(rows_VE, vectors_VE),
        choices=float(torch.tensor(entropy / (len(ids) - 1)).exp()) / len(vectors_VE),
        push=gamma * by_aug / by_ce,
    )


class Scores(NamedTuple):
    """What a model says of the words after some tokens.

    Args:
        scores_TV: W h, without the bias.
        logits_TV: the same with the bias.
        similar_TV: L^T u, the similarities of each word to the next one.
    """

    scores_TV: Tensor
    logits_TV: Tensor
    similar_TV: Tensor


def scores(model: LanguageModel, hidden_TE: Tensor, targets_T: Tensor) -> Scores:
    """Return the scores and the similarities of some tokens, without gradients."""
    vectors_VE = model.embedding.weight.detach()
    scores_TV = hidden_TE @ model.decoder.weight.detach().t()
    bias = model.decoder.bias
    logits_TV = scores_TV if bias is None else scores_TV + bias.detach()
    return Scores(scores_TV, logits_TV, vectors_VE[targets_T] @ vectors_VE.t())


def sums(model: LanguageModel, hidden_TE: Tensor, targets_T: Tensor, temperature: float) -> Tensor:
    """Return sums over tokens: entropies of the soft targets, and both gradients for gamma 1."""
    scores_TV, logits_TV, similar_TV = scores(model, hidden_TE, targets_T)
    log_soft_TV = log_softened(similar_TV, temperature)
    soft_TV = log_soft_TV.exp()
    both = gradients(scores_TV, logits_TV, soft_TV, targets_T, temperature)
    entropy = -(soft_TV * log_soft_TV).sum(dtype=torch.float64)
    return torch.stack([entropy, *(part_TV.abs().sum(dtype=torch.float64) for part_TV in both)])


def gradients(
    scores_TV: Tensor, logits_TV: Tensor, soft_TV: Tensor, targets_T: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """Return the gradients of cross-entropy and of AL with gamma 1 with respect to the scores.

    Args:
        scores_TV: W h, without the bias.
        logits_TV: the same with the bias.
        soft_TV: the soft targets.
        targets_T: ids of the next words.
        temperature: of the augmented loss.
    """
    by_ce_TV = logits_TV.softmax(-1) - functional.one_hot(targets_T, scores_TV.shape[-1])
    return by_ce_TV, log_softened(scores_TV, temperature).exp() - soft_TV
