r"""Mix the distributions of several models.

.. math:: p(w) = \sum_k \pi_k \, p_k(w), \qquad \pi_k \ge 0, \quad \sum_k \pi_k = 1

Each p_k sums to 1 over the vocabulary, and so does p. The weights are fitted on a text by
expectation maximisation. In each step, the new weight of a model is its mean share in the
probability of a word:

.. math:: \pi_k \leftarrow \frac{1}{N} \sum_t \frac{\pi_k \, p_k(w_t)}{\sum_j \pi_j \, p_j(w_t)}

No such step makes the text less probable. To be faster, the share is raised to a power above 1,
which makes the step longer. If a longer step makes the text less probable, it is taken back. The
fit needs only the probabilities of the words of the text.

Source: Jelinek and Mercer (1980), "Interpolated estimation of Markov source parameters from sparse
data".

Shape letters: K models, N words.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

MOST_STEPS = 2000
SAME = 1e-12  # nats per word; the fit ends at a smaller gain


def mixture_losses(losses_KN: npt.NDArray[np.floating], weights: npt.ArrayLike) -> Floats:
    """Return ``-log`` of the mixture's probability of each word, in nats.

    Args:
        losses_KN: ``-log p_k(w_t)``: the losses of N words under each of K models.
        weights: the K weights.

    Returns:
        ``(N,)``.

    Raises:
        ValueError: if the weights are not K numbers of 0 or more that sum to 1.
    """
    weights_K = _checked(weights, len(losses_KN))
    with np.errstate(divide="ignore"):
        terms_KN = np.log(weights_K)[:, None] - losses_KN.astype(np.float64)
    result: Floats = -np.logaddexp.reduce(terms_KN, axis=0)
    return result


def fit_weights(losses_KN: npt.NDArray[np.floating]) -> Floats:
    """Return the weights under which a text is the most probable.

    Args:
        losses_KN: the losses of N words under each of K models.

    Returns:
        ``(K,)``, summing to 1.
    """
    losses_KN = np.asarray(losses_KN, dtype=np.float64)
    least_N = losses_KN.min(axis=0)
    p_KN = np.exp(least_N - losses_KN)  # relative to the best model of each word
    weights_K: Floats = np.full(len(p_KN), 1 / len(p_KN))
    total_N = weights_K @ p_KN
    before, power = np.log(total_N).mean(), 1.0
    for _ in range(MOST_STEPS):
        # Steps grow as long as they gain: models that are nearly equal need long ones.
        found_K = weights_K * ((p_KN / total_N).mean(axis=1)) ** power
        found_K /= found_K.sum()
        found_N = found_K @ p_KN
        now = np.log(found_N).mean()
        if now < before and power > 1:
            power = 1.0
            continue
        gain, before = now - before, now
        weights_K, total_N, power = found_K, found_N, power * 1.5
        if gain < SAME:
            break
    return weights_K


def _checked(weights: npt.ArrayLike, count: int) -> Floats:
    """Return the weights as an array, if they are ``count`` shares that sum to 1."""
    weights_K = np.asarray(weights, dtype=np.float64)
    is_sound = weights_K.shape == (count,) and (weights_K >= 0).all()
    if not is_sound or abs(weights_K.sum() - 1) > 1e-6:
        raise ValueError(
            f"weights: expected {count} numbers of 0 or more that sum to 1, got {weights!r}"
        )
    return weights_K
