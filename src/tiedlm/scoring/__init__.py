"""Score texts: surprisal of every word, minimal pairs, and n-best lists of recognisers.

- ``text.py`` and ``columns.py`` read the text into sentences (``sentence.py``), and
  ``surprisal.py`` scores them, with the measures of ``distributions.py``. ``methods.py`` does so
  with evaluation methods. ``table.py`` writes the result. ``pieces.py`` and the other
  ``piece_*.py`` join pieces into words.
- ``pairs.py`` scores minimal pairs from ``pair_files.py``.
- ``rescore.py`` ranks the n-best lists of ``nbest.py``. ``arpa.py`` mixes in an n-gram model, and
  ``wer.py`` counts word errors.
- ``prefixes.py`` reads each prefix of several sentences only once, for pairs and n-best lists.
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
