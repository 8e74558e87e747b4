"""Rank n-best lists with a language model's scores, and tune the weights on references.

Shape letters: U utterances, K hypotheses of the longest list.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tiedlm.data import Vocabulary
from tiedlm.data.pieces import PieceVocabulary
from tiedlm.errors import UserError
from tiedlm.model import LanguageModel
from tiedlm.scoring.nbest import NBest
from tiedlm.scoring.piece_lines import piece_sentences, word_numbers
from tiedlm.scoring.piece_words import score_words
from tiedlm.scoring.prefixes import mixed_log_probs
from tiedlm.scoring.wer import word_errors

Floats = npt.NDArray[np.float64]

BLOCK = 2000  # hypotheses that are scored together, so that common prefixes are read once

WEIGHTS = np.linspace(0, 1, 21)
PENALTIES = np.linspace(-5, 5, 21)
# Small for end-to-end recognisers, whose scores are log-probabilities; about 10 for Kaldi.
LM_SCALES = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, *map(float, range(1, 21)))


class Weights(NamedTuple):
    r"""The weights that combine the scores of a hypothesis of n words.

    .. math:: score + scale (graph + (1 - w) \, lm + w \, new - penalty \cdot n)

    ``lm`` is the score of the recogniser's own language model, or 0 if the list does not separate
    it. ``new`` is this model's log-probability.

    Args:
        weight: w.
        penalty: subtracted for every word; a positive penalty favours shorter hypotheses.
        lm_scale: scale; Kaldi's LMWT.
    """

    weight: float = 0.5
    penalty: float = 0.0
    lm_scale: float = 1.0


class Tuning(NamedTuple):
    """The result of tuning; rates are errors per reference word, on the tuned list.

    Args:
        weights: the best weights.
        words: number of words in the references.
        first: rate of the recogniser's first hypotheses.
        without: rate without this model: weight 0, the best penalty and scale.
        best: rate with ``weights``.
        oracle: rate of the best possible choices; impossible hypotheses are excluded.
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
    unk_penalty: float = 0.0,
    others: Sequence[tuple[LanguageModel, float]] = (),
) -> tuple[Floats, float]:
    r"""Return the log-probability of every hypothesis, and the share of unknown words.

    If the model reads pieces, the log-probability of a text is the sum over its pieces. A word is
    unknown if a piece of it is, which only pieces of a file can be.

    An unknown word has the probability :math:`p(\langle unk \rangle) \, e^{-penalty}`. With a
    penalty of log m, m unknown words share the probability of ``<unk>`` equally.

    Args:
        model: the model, in evaluation mode.
        vocabulary: the model's words.
        nbest: lists with N hypotheses in all.
        split: turns a text into the words that the model reads.
        mix: takes a sentence's words and the log-probabilities of its words and its end, and
            returns the log-probabilities to use instead.
        unk_penalty: subtracted from the log-probability of every unknown word before ``mix``, in
            nats. A negative one is a bonus.
        others: further models of a mixture with their weights; ``model`` gets the rest of 1. All
            have the same vocabulary.

    Returns:
        The log-probabilities ``(N,)`` in nats, and the share.
    """
    texts = [hypothesis.text for hypotheses in nbest.values() for hypothesis in hypotheses]
    totals: list[float] = []
    unknown = words = 0
    for first in range(0, len(texts), BLOCK):
        block = [split(text) for text in texts[first : first + BLOCK]]
        if isinstance(vocabulary, PieceVocabulary):
            words += sum(len(text) for text in block)
            for total, count in _log_probs_of_pieces(
                model, vocabulary, block, mix, unk_penalty, others
            ):
                totals.append(total)
                unknown += count
            continue
        ids = [vocabulary.encode(text) for text in block]
        words += sum(len(text) for text in block)
        is_unknown = [row == vocabulary.unk_id for row in ids]
        unknown += sum(int(row.sum()) for row in is_unknown)
        found = mixed_log_probs(model, others, ids, vocabulary.eos_id)
        if unk_penalty:
            found = [
                values - unk_penalty * np.append(row, False)
                for values, row in zip(found, is_unknown, strict=True)
            ]
        if mix is not None:
            found = [mix(text, values) for text, values in zip(block, found, strict=True)]
        totals += [float(values.sum()) for values in found]
    return np.array(totals), unknown / max(words, 1)


def _log_probs_of_pieces(
    model: LanguageModel,
    vocabulary: PieceVocabulary,
    texts: Sequence[Sequence[str]],
    mix: Callable[[Sequence[str], Floats], Floats] | None,
    unk_penalty: float,
    others: Sequence[tuple[LanguageModel, float]],
) -> Iterator[tuple[float, int]]:
    """Yield the log-probability of each text, and how many of its words are unknown.

    The log-probability is of its pieces, or of its words with ``mix``.
    """
    lines = [" ".join(words) for words in texts]
    if mix is None:
        ids = [vocabulary.split(line).ids for line in lines]
        found = mixed_log_probs(model, others, ids, vocabulary.eos_id)
        for values, row in zip(found, ids, strict=True):
            numbers = np.array(word_numbers(row.tolist(), vocabulary))
            unknown = len(set(numbers[row == vocabulary.unk_id].tolist()))
            yield float(values.sum()) - unk_penalty * unknown, unknown
        return
    read = piece_sentences(lines, vocabulary, blank_lines=True)
    for words, one in zip(texts, score_words(model, vocabulary, read, others), strict=True):
        if len(one.surprisal) != len(words) + 1:
            raise UserError(
                f"the pieces split {' '.join(words)[:80]!r} into {len(one.surprisal) - 1} words, "
                f"and spaces into {len(words)}: an n-gram model cannot be mixed in word by word; "
                "leave --arpa out"
            )
        is_unknown = one.sentence.ids == vocabulary.unk_id
        values = -one.surprisal - unk_penalty * is_unknown
        yield float(mix(words, values).sum()), int(is_unknown.sum())


def check_references(
    utterances: Iterable[str], references: Mapping[str, str], source: str = "the references"
) -> None:
    """Refuse references that do not fit an n-best list.

    Args:
        utterances: the names in the list.
        references: utterance -> its correct transcript.
        source: what the message calls the references, such as their file.

    Raises:
        UserError: if an utterance has no reference, or no reference has a word.
    """
    has_words = False
    for utterance in utterances:
        if utterance not in references:
            first = next(iter(references), None)
            lines = "it is empty" if first is None else f"its first line is for {first!r}"
            raise UserError(
                f"{source}: utterance {utterance!r} of the n-best list has no reference; {lines}"
            )
        has_words = has_words or bool(references[utterance].split())
    if not has_words:
        raise UserError(f"{source}: the references of the list's utterances have no words")


class ScoredLists:
    """N-best lists with all the scores that make up a total.

    Args:
        nbest: the lists.
        new: ``(N,)`` log-probability of each hypothesis, list after list.
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
        scores_N3[~self._possible_N] = 0.0  # their total is set to minus infinity later
        self._score_N, self._graph_N, self._lm_N = scores_N3.T
        self._new_N = new

    def new(self) -> Floats:
        """Return this model's log-probabilities ``(U, K)``, NaN beyond the end of a list."""
        return self._matrix(self._new_N, np.nan)

    def totals(self, weights: Weights) -> Floats:
        """Return the total score of each hypothesis, ``(U, K)``.

        Impossible hypotheses, and places beyond the end of a list, have minus infinity.
        """
        w, penalty, scale = weights
        lm_N = self._graph_N + (1 - w) * self._lm_N + w * self._new_N - penalty * self._words_N
        totals_N = np.where(self._possible_N, self._score_N + scale * lm_N, -np.inf)
        return self._matrix(totals_N, -np.inf)

    def impossible(self) -> list[str]:
        """Return the utterances whose hypotheses are all impossible; the first is used."""
        possible_UK = self._possible() > 0
        return [key for key, row in zip(self.nbest, possible_UK, strict=True) if not row.any()]

    def _possible(self) -> Floats:
        return self._matrix(self._possible_N.astype(np.float64), 0.0)

    def _matrix(self, values_N: Floats, fill: float) -> Floats:
        matrix_UK = np.full(self._shape, fill)
        matrix_UK[self._places] = values_N
        return matrix_UK

    def best(self, weights: Weights) -> npt.NDArray[np.int64]:
        """Return the index of the best hypothesis of each list; the first of equal ones."""
        best_U: npt.NDArray[np.int64] = self.totals(weights).argmax(axis=1)
        return best_U

    def tune(self, references: Mapping[str, str]) -> Tuning:
        """Find the weights with the fewest word errors on a grid.

        The grid has weights from 0 to 1 in steps of 0.05, penalties from -5 to 5 in steps of 0.5,
        and scales from 0.05 to 20. Ties go to the smallest penalty, then to the scale nearest to 1,
        then to the smallest weight.

        Args:
            references: utterance -> its correct transcript.

        Raises:
            UserError: if an utterance has no reference, or no reference has a word.
        """
        check_references(self.nbest, references)
        words = sum(len(references[utterance].split()) for utterance in self.nbest)
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
