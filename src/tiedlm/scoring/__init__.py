"""Score texts: surprisal of every word, minimal pairs, and n-best lists of recognisers.

``surprisal.py`` scores sentences, and ``table.py`` writes the result. ``pairs.py`` and
``rescore.py`` build on ``prefixes.py``, which reads each prefix of several sentences only once.
"""

from __future__ import annotations

from tiedlm.scoring.pieces import sum_pieces
from tiedlm.scoring.sentence import Sentence
from tiedlm.scoring.surprisal import Scored, score_in_order, score_sentences
from tiedlm.scoring.text import read_lines, sentences

__all__ = [
    "Scored",
    "Sentence",
    "read_lines",
    "score_in_order",
    "score_sentences",
    "sentences",
    "sum_pieces",
]
