r"""Score minimal pairs: is the acceptable sentence more probable than the other one?

The model reads ``<eos>``, then the sentence. Every word counts, and so does the ``<eos>`` after the
last word:

.. math::
    s(w_1 \ldots w_n) = -\sum_{i=1}^{n+1} \log p(w_i \mid \langle eos \rangle, w_1 \ldots w_{i-1})

A pair is right if ``s(good) < s(bad)``. Equal sums are a tie. A tie counts as wrong, because the
model cannot tell the two sentences apart.

Source: Warstadt et al. (2020), "BLiMP: The Benchmark of Linguistic Minimal Pairs for English".
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, NamedTuple

import numpy as np
import torch

from tiedlm.data import Vocabulary
from tiedlm.data.marks import Marks
from tiedlm.data.pieces import PieceVocabulary
from tiedlm.errors import UserError
from tiedlm.model import LanguageModel
from tiedlm.scoring.pair_files import Pair
from tiedlm.scoring.piece_words import word_sums
from tiedlm.scoring.prefixes import Floats, mixed_log_probs
from tiedlm.scoring.sentence import Sentence
from tiedlm.scoring.table import Base, units_per_nat
from tiedlm.scoring.text import sentences

BLOCK = 1000  # pairs that are read together, so that common prefixes are read once
TIE = {torch.float64: 1e-9, torch.float32: 1e-4}  # nats: rounding is far below, differences above
Z95 = 1.959963984540054  # the normal distribution's 97.5% quantile
COLUMNS = (
    "pair", "phenomenon", "good", "bad", "difference", "correct", "tie", "words_good", "words_bad",
    "unknown_good", "unknown_bad", "unknown_only", "unknown_one_side", "file", "line",
    "sentence_good", "sentence_bad",
)  # fmt: skip


class ScoredPair(NamedTuple):
    """A pair with the model's scores and the counts of its words.

    Args:
        pair: the pair.
        good: s of the good sentence, in nats.
        bad: s of the bad sentence.
        is_tie: whether the two are equal up to rounding.
        same_words: whether the model reads the same words in both, for example if only capitals
            differ.
        unknown_only: whether they differ, but only in words that are all read as ``<unk>``. Their
            ids are then identical, and so the pair is a tie.
        unknown_one_side: whether, among the words that differ, one sentence has an unknown word and
            the other has none.
        words: number of words in the good and in the bad sentence, without ``<eos>``.
        unknown: how many of them the model does not know. A word of pieces is unknown if a piece
            of it is.
    """

    pair: Pair
    good: float
    bad: float
    is_tie: bool
    same_words: bool
    unknown_only: bool
    unknown_one_side: bool
    words: tuple[int, int]
    unknown: tuple[int, int]

    @property
    def is_correct(self) -> bool:
        """Whether the good sentence is more probable; False for a tie."""
        return self.good < self.bad and not self.is_tie


class Counts(NamedTuple):
    """Counts over pairs; :meth:`plus` adds two of them.

    Args:
        pairs: number of pairs.
        correct: in how many the good sentence is more probable.
        ties: in how many both are equally probable; they are wrong.
        same_words: ties whose sentences are equal as read.
        unknown_only: ties whose sentences differ in unknown words only.
        unknown_one_side: pairs in which, among the words that differ, one sentence only has unknown
            words.
        words: number of words in all sentences, without ``<eos>``.
        unknown: how many of them the model does not know.
    """

    pairs: int = 0
    correct: int = 0
    ties: int = 0
    same_words: int = 0
    unknown_only: int = 0
    unknown_one_side: int = 0
    words: int = 0
    unknown: int = 0

    def plus(self, other: Counts) -> Counts:
        """Return the sums of the counts."""
        return Counts(*(a + b for a, b in zip(self, other, strict=True)))

    @property
    def accuracy(self) -> float:
        """The share of correct pairs."""
        return self.correct / self.pairs


def wilson95(correct: int, pairs: int) -> tuple[float, float]:
    r"""Return Wilson's 95% interval of a share.

    With p the observed share of n pairs and z = 1.96:

    .. math:: \frac{p + z^2 / 2n \pm z \sqrt{p (1 - p) / n + z^2 / 4n^2}}{1 + z^2 / n}

    It treats the pairs as independent, and stays within 0 and 1.

    Args:
        correct: number of correct pairs.
        pairs: number of pairs, at least 1.

    Source: Wilson (1927), "Probable inference, the law of succession, and statistical inference".
    """
    p, zz = correct / pairs, Z95**2 / pairs
    centre = p + zz / 2
    half = math.sqrt(zz * (p * (1 - p) + zz / 4))
    return max(0.0, (centre - half) / (1 + zz)), min(1.0, (centre + half) / (1 + zz))


def score_pairs(
    model: LanguageModel,
    vocabulary: Vocabulary,
    pairs: Sequence[Pair],
    *,
    tokenizer: bool,
    eos: bool = True,
    marks: Marks | None = None,
    others: Sequence[tuple[LanguageModel, float]] = (),
) -> Iterator[ScoredPair]:
    """Score pairs and yield them in order.

    A sentence is the whole text of its field. If the tokenizer cuts it into several, an ``<eos>``
    stands between them, as in a corpus. Sentences do not influence each other. They are read in
    blocks, in which a common prefix is read only once. This changes only rounding, about 1e-13 with
    a model in float64.

    Args:
        model: the model, in evaluation mode.
        vocabulary: its words.
        pairs: any number.
        tokenizer: whether to tokenize the sentences; otherwise words are separated by spaces.
        eos: whether every ``<eos>`` counts. Otherwise only the words are summed. For pieces, the
            sum has the correction of :mod:`tiedlm.scoring.pieces`.
        marks: counts other tools' special tokens in the sentences, if given.
        others: further models of a mixture with their weights; ``model`` gets the rest of 1. All
            have the same vocabulary.

    Raises:
        UserError: if a sentence has no words, or a word is unknown and the vocabulary has no
            ``<unk>``.
    """
    tie = TIE.get(model.embedding.weight.dtype, TIE[torch.float32])
    for first in range(0, len(pairs), BLOCK):
        block = pairs[first : first + BLOCK]
        read = [
            _read(text, pair.where, vocabulary, tokenizer, marks)
            for pair in block
            for text in (pair.good, pair.bad)
        ]
        if eos or not isinstance(vocabulary, PieceVocabulary):
            ids = [one.ids[:-1] for one in read]
            found = mixed_log_probs(model, others, ids, vocabulary.eos_id)
            sums = [
                _sum(values, one, None if eos else vocabulary.eos_id)
                for values, one in zip(found, read, strict=True)
            ]
        else:
            sums = word_sums(model, vocabulary, read, others)
        for place, pair in enumerate(block):
            both = slice(2 * place, 2 * place + 2)
            yield _judge(pair, read[both], sums[both], vocabulary, tie)


def _read(
    text: str, where: str, vocabulary: Vocabulary, tokenizer: bool, marks: Marks | None
) -> Sentence:
    """Return one sentence, split into words as the model's corpus was."""
    try:
        found = list(
            sentences(
                [text],
                vocabulary,
                tokenizer=tokenizer,
                blank_lines=False,
                whole_lines=True,
                marks=marks,
            )
        )
    except UserError as error:  # the message names line 1, but a sentence has only one line
        raise UserError(f"{where}: {str(error).removeprefix('line 1: ')}") from error
    if not found:
        raise UserError(f"{where}: {text!r} has no words")
    return found[0]


def _sum(log_probs: Floats, sentence: Sentence, left_out: int | None) -> float:
    """Return the surprisal of a sentence in nats, without the word ``left_out``."""
    if left_out is not None:
        log_probs = log_probs[sentence.ids != left_out]
    return -float(log_probs.sum())


def _judge(
    pair: Pair,
    read: Sequence[Sentence],
    sums: Sequence[float],
    vocabulary: Vocabulary,
    tie: float,
) -> ScoredPair:
    good, bad = sums
    if not math.isfinite(good + bad):
        raise UserError(f"{pair.where}: the model's probabilities are not finite")
    same_ids = np.array_equal(read[0].ids, read[1].ids)
    words_good, words_bad = (_count_words(one, vocabulary) for one in read)
    unknown_good, unknown_bad = (_unknown_words(one, vocabulary) for one in read)
    same_words = same_ids and unknown_good == unknown_bad
    return ScoredPair(
        pair,
        good,
        bad,
        is_tie=same_ids or abs(good - bad) <= tie,
        same_words=same_words,
        unknown_only=same_ids and not same_words,
        unknown_one_side=_on_one_side(Counter(unknown_good), Counter(unknown_bad)),
        words=(words_good, words_bad),
        unknown=(len(unknown_good), len(unknown_bad)),
    )


def _unknown_words(sentence: Sentence, vocabulary: Vocabulary) -> list[str]:
    """Return the words of a sentence that the model does not know, in order."""
    unknown = np.flatnonzero(sentence.ids == vocabulary.unk_id)
    if isinstance(vocabulary, PieceVocabulary):
        regions = dict.fromkeys(sentence.regions[place] for place in unknown)
        return [sentence.parts[region - 1] for region in regions if region]
    return [sentence.words[place] for place in unknown]


def _on_one_side(good: Counter[str], bad: Counter[str]) -> bool:
    """Tell whether only one of two sentences has unknown words among the words that differ."""
    return bool(good - bad) != bool(bad - good)


def _count_words(sentence: Sentence, vocabulary: Vocabulary) -> int:
    """Count the words of a sentence, without ``<eos>``."""
    if isinstance(vocabulary, PieceVocabulary):
        return len(sentence.parts)
    return int((sentence.ids != vocabulary.eos_id).sum())


def tally(scored: Iterable[ScoredPair]) -> dict[str, Counts]:
    """Return the counts of each phenomenon, in the order of the first pairs."""
    counts: dict[str, Counts] = {}
    for one in scored:
        phenomenon = one.pair.phenomenon
        counts[phenomenon] = counts.get(phenomenon, Counts()).plus(
            Counts(
                1, one.is_correct, one.is_tie, one.same_words, one.unknown_only,
                one.unknown_one_side, sum(one.words), sum(one.unknown),
            )
        )  # fmt: skip
    return counts


def written(file: IO[str], scored: Iterable[ScoredPair], base: Base) -> Iterator[ScoredPair]:
    """Write a tab-separated table with a row per pair, and yield the pairs.

    Args:
        file: the file to write to.
        scored: the pairs.
        base: base of the logarithm of both sums and their difference.
    """
    scale = units_per_nat(base)
    file.write("\t".join(COLUMNS) + "\n")
    for number, one in enumerate(scored, start=1):
        good, bad = one.good * scale, one.bad * scale
        cells = (
            number, one.pair.phenomenon, f"{good:.6f}", f"{bad:.6f}", f"{bad - good:.6f}",
            int(one.is_correct), int(one.is_tie), *one.words, *one.unknown, int(one.unknown_only),
            int(one.unknown_one_side), one.pair.file, one.pair.line, one.pair.good, one.pair.bad,
        )  # fmt: skip
        file.write("\t".join(map(str, cells)) + "\n")
        yield one
