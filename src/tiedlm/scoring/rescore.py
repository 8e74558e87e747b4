"""N-best lists with a language model's scores: ranked, and their weights tuned on references.

Shape letters: U utterances, K hypotheses of the longest list.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tiedlm.data import Vocabulary
from tiedlm.errors import UserError
from tiedlm.model import LanguageModel
from tiedlm.scoring.nbest import NBest
from tiedlm.scoring.prefixes import sequence_log_probs
from tiedlm.scoring.wer import word_errors

Floats = npt.NDArray[np.float64]

BLOCK = 2000  # hypotheses whose prefixes are shared and held at a time

WEIGHTS = np.linspace(0, 1, 21)
PENALTIES = np.linspace(-5, 5, 21)
# From end-to-end recognisers, whose scores are log-probabilities, to Kaldi's.
LM_SCALES = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, *map(float, range(1, 21)))


class Weights(NamedTuple):
    r"""How the scores of a hypothesis of n words are put together.

    .. math:: score + scale (graph + (1 - w) \, lm + w \, new - penalty \cdot n)

    ``lm`` is the score of the recogniser's own language model where the list tells it apart, else
    0; ``new`` is this model's log-probability.

    Args:
        weight: w.
        penalty: taken off for every word: a positive one makes hypotheses shorter.
        lm_scale: scale; Kaldi's LMWT.
    """

    weight: float = 0.5
    penalty: float = 0.0
    lm_scale: float = 1.0


class Tuning(NamedTuple):
    """What tuning found; the rates are errors per word of the references, on the tuned list.

    Args:
        weights: the best ones.
        words: of the references.
        first: of the recogniser's first hypotheses.
        without: with the best penalty and scale, but weight 0: without this model.
        best: with ``weights``.
        oracle: of the best hypotheses that the lists hold, impossible ones apart.
    """

    weights: Weights
    words: int
    first: float
    without: float
    best: float
    oracle: float


def log_probs(
    model: LanguageModel,
    vocabulary: Vocabulary,
    nbest: NBest,
    split: Callable[[str], list[str]],
    mix: Callable[[Sequence[str], Floats], Floats] | None = None,
) -> tuple[Floats, float]:
    """Return the log-probability of every hypothesis, and the share of words not known.

    Args:
        model: in evaluation mode.
        vocabulary: its words.
        nbest: N hypotheses in all.
        split: text -> the words that the model reads.
        mix: the words and their log-probabilities, that of the end included -> others in their
            place.

    Returns:
        ``(N,)`` in nats, and the share.
    """
    texts = [hypothesis.text for hypotheses in nbest.values() for hypothesis in hypotheses]
    totals: list[float] = []
    unknown = words = 0
    for first in range(0, len(texts), BLOCK):
        block = [split(text) for text in texts[first : first + BLOCK]]
        ids = [vocabulary.encode(text) for text in block]
        words += sum(len(text) for text in block)
        unknown += sum(int((row == vocabulary.unk_id).sum()) for row in ids)
        found = sequence_log_probs(model, ids, vocabulary.eos_id)
        if mix is not None:
            found = [mix(text, values) for text, values in zip(block, found, strict=True)]
        totals += [float(values.sum()) for values in found]
    return np.array(totals), unknown / max(words, 1)


class ScoredLists:
    """Lists whose hypotheses have every score that is put together.

    Args:
        nbest: the lists.
        new: ``(N,)``: the log-probability of each hypothesis, list after list.
    """

    def __init__(self, nbest: NBest, new: Floats) -> None:
        self.nbest = nbest
        lengths = [len(hypotheses) for hypotheses in nbest.values()]
        self._shape = len(lengths), max(lengths)
        utterance_N = np.repeat(np.arange(len(lengths)), lengths)
        place_N = np.concatenate([np.arange(length) for length in lengths])
        self._places = utterance_N, place_N
        flat = [hypothesis for hypotheses in nbest.values() for hypothesis in hypotheses]
        self._words_N = np.array([len(hypothesis.text.split()) for hypothesis in flat])
        scores_N3 = np.array([(h.score, h.graph_score, h.lm_score) for h in flat])
        self._possible_N = np.isfinite(scores_N3).all(axis=1)
        scores_N3[~self._possible_N] = 0.0  # whose total is not made of them
        self._score_N, self._graph_N, self._lm_N = scores_N3.T
        self._new_N = new

    def new(self) -> Floats:
        """Return this model's log-probabilities, ``(U, K)``, NaN beyond a list's end."""
        return self._matrix(self._new_N, np.nan)

    def totals(self, weights: Weights) -> Floats:
        """Put the scores together: ``(U, K)``.

        Minus infinity for a hypothesis that is impossible, and beyond a list's end.
        """
        w, penalty, scale = weights
        lm_N = self._graph_N + (1 - w) * self._lm_N + w * self._new_N - penalty * self._words_N
        totals_N = np.where(self._possible_N, self._score_N + scale * lm_N, -np.inf)
        return self._matrix(totals_N, -np.inf)

    def impossible(self) -> list[str]:
        """Name the utterances of which every hypothesis is impossible: the first one is kept."""
        possible_UK = self._possible() > 0
        return [key for key, row in zip(self.nbest, possible_UK, strict=True) if not row.any()]

    def _possible(self) -> Floats:
        return self._matrix(self._possible_N.astype(np.float64), 0.0)

    def _matrix(self, values_N: Floats, fill: float) -> Floats:
        matrix_UK = np.full(self._shape, fill)
        matrix_UK[self._places] = values_N
        return matrix_UK

    def best(self, weights: Weights) -> npt.NDArray[np.int64]:
        """Return the best hypothesis of each list; of equal ones the recogniser's first."""
        best_U: npt.NDArray[np.int64] = self.totals(weights).argmax(axis=1)
        return best_U

    def tune(self, references: Mapping[str, str]) -> Tuning:
        """Find the weights with the fewest errors, on a grid.

        Weight 0 to 1 in steps of 0.05, penalty -5 to 5 in steps of 0.5 and scale 0.05 to 20. Of
        equally good weights the smallest penalty, the scale nearest to 1 and the smallest weight,
        in this order.

        Args:
            references: utterance -> what was said.

        Raises:
            UserError: if an utterance has no reference, or none has a word.
        """
        for utterance in self.nbest:
            if utterance not in references:
                raise UserError(f"utterance {utterance!r} of the list has no reference")
        words = sum(len(references[utterance].split()) for utterance in self.nbest)
        if words == 0:
            raise UserError("the references of the list's utterances have no words")
        errors_UK = self._matrix(
            np.array(
                [
                    word_errors(references[utterance].split(), hypothesis.text.split())
                    for utterance, hypotheses in self.nbest.items()
                    for hypothesis in hypotheses
                ],
                dtype=np.float64,
            ),
            np.inf,
        )
        rows = np.arange(len(errors_UK))
        can_be_chosen_UK = self._possible() > 0
        can_be_chosen_UK[~can_be_chosen_UK.any(axis=1), 0] = True

        def rate(weights: Weights) -> float:
            return float(errors_UK[rows, self.best(weights)].sum()) / words

        scales = sorted(LM_SCALES, key=lambda scale: abs(math.log(scale)))
        grid = [
            Weights(float(weight), float(penalty), scale)
            for penalty, scale, weight in itertools.product(
                sorted(PENALTIES, key=abs), scales, WEIGHTS
            )
        ]
        rates = {weights: rate(weights) for weights in grid}
        best = min(grid, key=rates.__getitem__)
        return Tuning(
            best,
            words=words,
            first=float(errors_UK[:, 0].sum()) / words,
            without=min(rates[weights] for weights in grid if weights.weight == 0),
            best=rates[best],
            oracle=float(errors_UK.min(axis=1, initial=np.inf, where=can_be_chosen_UK).sum())
            / words,
        )
