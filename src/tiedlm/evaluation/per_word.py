r"""Convert a perplexity per sub-word piece to perplexity per word and bits per byte.

A perplexity per piece depends on how the text is split into pieces. So it cannot be compared
between runs with different pieces. These two measures can:

.. math::
    \text{word perplexity} = \exp\left(\frac{\text{nll}}{W - 1}\right), \qquad
    \text{bits per byte} = \frac{\text{nll}}{B \ln 2}

W is the number of words that the text has in a corpus of words, ``<eos>`` included. The first word
is not predicted. B is the number of bytes of the text in UTF-8, newlines included. ``nll`` is the
total over all pieces but the first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from tiedlm.evaluation.perplexity import perplexity


class PerWord(NamedTuple):
    """Measures that can be compared between runs with different pieces.

    Args:
        word_perplexity: ``exp(nll / words)``.
        bits_per_byte: ``nll / bytes / ln 2``.
        words: words predicted, ``<eos>`` included: all but the first.
        bytes: bytes of the text.
    """

    word_perplexity: float
    bits_per_byte: float
    words: int
    bytes: int

    def numbers(self, prefix: str = "") -> dict[str, float]:
        """Return the two measures by name, for metrics.jsonl and result.json."""
        names = ("word_perplexity", "bits_per_byte")
        return {prefix + name: getattr(self, name) for name in names}


def per_word(nll: float, words: int, size: int) -> PerWord:
    """Return the numbers of a text.

    Args:
        nll: total negative log-likelihood in nats.
        words: words predicted, ``<eos>`` included, at least 1.
        size: bytes of the text, at least 1.
    """
    return PerWord(perplexity(nll, words), nll / size / math.log(2), words, size)


def of_part(info: Mapping[str, Any], part: str, nll: float) -> PerWord | None:
    """Return the numbers of a part of a corpus of pieces, or None for a corpus of words.

    Args:
        info: the facts of the corpus.
        part: train, valid or test.
        nll: total negative log-likelihood in nats of all its pieces but the first.
    """
    if "pieces" not in info:
        return None
    counts = info["parts"][part]
    return per_word(nll, max(counts["words"] - 1, 1), counts["bytes"])
