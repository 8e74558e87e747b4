"""Join scored pieces into the words of a line as written, and count both."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from tiedlm.data.piece_form import BLANKS
from tiedlm.data.pieces import PieceVocabulary, count_words
from tiedlm.data.tokenizer import EOS
from tiedlm.data.vocabulary import Vocabulary
from tiedlm.evaluation.per_word import per_word
from tiedlm.evaluation.perplexity import perplexity
from tiedlm.model import LanguageModel
from tiedlm.scoring.methods import Member, score_with_methods
from tiedlm.scoring.pieces import join_pieces, sum_pieces, word_starts
from tiedlm.scoring.sentence import Sentence
from tiedlm.scoring.surprisal import Scored, score_sentences


def joiner(vocabulary: Vocabulary) -> Callable[[Scored], Scored]:
    """Return the function that joins scored pieces into words."""
    if isinstance(vocabulary, PieceVocabulary):
        return lambda one: sum_to_words(one, vocabulary)
    return lambda one: sum_pieces(one, vocabulary.unk_id)


def sum_to_words(scored: Scored, vocabulary: PieceVocabulary) -> Scored:
    """Join the scored pieces of a line into its words as written.

    Args:
        scored: scored pieces of :func:`tiedlm.scoring.piece_lines.piece_sentences`, with their
            ``boundary``.
        vocabulary: the pieces.

    Raises:
        ValueError: if ``scored`` has no ``boundary``.
    """
    if scored.boundary is None:
        raise ValueError("scored.boundary: expected (N + 1,), got None: score with starts_V")
    regions = np.array(scored.sentence.regions)
    firsts = np.flatnonzero(np.diff(regions, prepend=-1))
    names = [scored.sentence.parts[n - 1] if n else EOS for n in regions[firsts]]
    # A word that is written <eos> in the text does not end a sentence.
    words = [
        f"\\{name}" if n and name == EOS else name
        for name, n in zip(names, regions[firsts], strict=True)
    ]
    begins = vocabulary.begins[scored.sentence.ids[firsts]]
    return join_pieces(
        scored,
        firsts.tolist(),
        words,
        scored.boundary[firsts] * begins,  # pieces of a file may have none before the first word
        vocabulary.unk_id,
        regions[firsts].tolist(),
        scored.sentence.parts,
    )


def score_words(
    model: LanguageModel,
    vocabulary: PieceVocabulary,
    lines: Iterable[Sentence],
    others: Sequence[tuple[LanguageModel, float]] = (),
) -> Iterator[Scored]:
    """Score lines, each read after an ``<eos>``, and join their pieces into words.

    Args:
        model: the model, in evaluation mode.
        vocabulary: its pieces.
        lines: of :func:`tiedlm.scoring.piece_lines.piece_sentences`.
        others: further models of a mixture with their weights; ``model`` gets the rest of 1. All
            have the same pieces.
    """
    starts_V = word_starts(vocabulary).to(model.embedding.weight)
    if others:
        rest = max(0.0, 1 - sum(weight for _, weight in others))  # below 0 by rounding only
        members = [Member(model, weight=rest)]
        members += [Member(other, weight=weight) for other, weight in others]
        scored = score_with_methods(
            members, lines, start=vocabulary.eos_id, carry_state=False, starts_V=starts_V
        )
    else:
        scored = score_sentences(model, lines, start=vocabulary.eos_id, starts_V=starts_V)
    return (sum_to_words(one, vocabulary) for one in scored)


def word_sums(
    model: LanguageModel,
    vocabulary: PieceVocabulary,
    lines: Iterable[Sentence],
    others: Sequence[tuple[LanguageModel, float]] = (),
) -> list[float]:
    """Return the surprisal of the words of each line in nats, without its ``<eos>``."""
    scored = score_words(model, vocabulary, lines, others)
    return [float(one.surprisal[np.array(one.sentence.regions) > 0].sum()) for one in scored]


class PieceTotals:
    """Count the words, bytes and pieces that the perplexities of a text are averaged over.

    Args:
        tokenized: how words are counted, as in :func:`tiedlm.data.pieces.count_words`.
        blank_lines: whether lines without words count.
    """

    def __init__(self, tokenized: bool, blank_lines: bool) -> None:
        self._tokenized = tokenized
        self._blank_lines = blank_lines
        self.words = self.bytes = self.lines = self.pieces = self.without = 0
        self.nll = 0.0

    def read(self, lines: Iterable[str]) -> Iterator[str]:
        """Yield lines, and count their words and bytes."""
        for line in lines:
            if self._blank_lines or line.strip(BLANKS):
                self.words += count_words(line, self._tokenized)
                self.bytes += len(line.encode()) + 1
                self.lines += 1
            yield line

    def score(self, scored: Iterable[Scored]) -> Iterator[Scored]:
        """Yield scored pieces, and sum their surprisals."""
        for one in scored:
            predicted = ~np.isnan(one.surprisal)
            self.nll += float(one.surprisal[predicted].sum())
            self.pieces += int(predicted.sum())
            self.without += int(not predicted[0])
            yield one

    def line(self, written: str) -> str:
        """Return the summary in one line of text; ``written`` says how much was scored."""
        words = max(self.words - self.without, 1)
        found = per_word(self.nll, words, max(self.bytes, 1))
        return (
            f"{written}; perplexity {found.word_perplexity:.4f} per word ({words:,} words, {EOS} "
            f"included), {found.bits_per_byte:.4f} bits per byte ({self.bytes:,} bytes), "
            f"perplexity {perplexity(self.nll, max(self.pieces, 1)):.4f} per piece "
            f"({self.pieces:,} pieces)"
        )
