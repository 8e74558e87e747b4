"""Convert counts and perplexities per token to counts and perplexities per word."""

from __future__ import annotations

import math

from tiedlm.data import Corpus
from tiedlm.evaluation import per_word
from tiedlm.evaluation.per_word import PerWord


class TextUnits:
    """Converts counts of tokens and perplexities per token of a run; a token may be a piece.

    Args:
        corpus: the text of the run.
    """

    def __init__(self, corpus: Corpus) -> None:
        self.corpus = corpus

    def words(self, tokens: int) -> int:
        """Return the number of words for a number of training tokens: fewer if these are pieces."""
        counts = self.corpus.info["parts"]["train"] if "pieces" in self.corpus.info else None
        return tokens if counts is None else tokens * counts["words"] // counts["tokens"]

    def per_word(self, part: str, ppl: float) -> PerWord | None:
        """Return the measures per word for a perplexity per piece; None for a run of words.

        Args:
            part: valid or test.
            ppl: the perplexity of that text per piece.
        """
        tokens = len(getattr(self.corpus, part)) - 1
        nll = tokens * math.log(ppl) if math.isfinite(ppl) else math.inf
        return per_word.of_part(self.corpus.info, part, nll)

    def ppl_per_word(self, part: str, ppl: float) -> float:
        """Return a perplexity per token of valid or test as one per word."""
        found = self.per_word(part, ppl)
        return ppl if found is None else found.word_perplexity

    def shown(self, valid: float) -> str:
        """Return a validation perplexity as a line of the log shows it."""
        found = self.per_word("valid", valid)
        if found is None:
            return f"valid ppl {valid:8.2f}"
        return (
            f"valid ppl {found.word_perplexity:8.2f} a word, {found.bits_per_byte:.3f} bits a "
            f"byte, {valid:.2f} a piece"
        )
