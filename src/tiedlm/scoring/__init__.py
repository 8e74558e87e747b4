"""Surprisal of every word of a text, and rescoring of n-best lists."""

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
