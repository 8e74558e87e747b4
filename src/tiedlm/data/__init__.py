"""Corpora: find a text, split it into words or pieces, number these, and cut them into batches.

Begin with ``corpus.py``, which loads a corpus.

- ``find.py`` finds the text that a name or a path stands for, and ``source.py`` its three parts.
  ``catalog.py``, ``standard.py``, ``sotu.py`` and ``download.py`` have the corpora with a name.
  ``deal.py`` splits a text of your own.
- ``text.py``, ``compressed.py`` and ``documents.py`` read files. ``encodings.py`` and ``marks.py``
  detect what is wrong with a text, and ``check.py`` reports it.
- ``tokenizer.py`` splits raw text into words, by the classes of ``characters.py``.
  ``vocabulary.py`` numbers words. ``pieces.py``, the files ``piece_*.py`` and
  ``sentencepiece_model.py`` do the same for sub-word pieces.
- ``encode.py`` turns a text into ids in little memory, with ``encoder.py``, ``number_words.py``,
  ``counts.py`` and ``workers.py``. ``place.py`` and ``facts.py`` keep the result in the cache.
- ``streams.py`` makes batches, and ``prepare.py`` writes a corpus as text.
"""

from __future__ import annotations

from tiedlm.data.catalog import SourceInfo, list_sources
from tiedlm.data.corpus import Corpus, load_corpus
from tiedlm.data.streams import batch_streams, windows
from tiedlm.data.tokenizer import EOS, UNK, split_sentences, tokenize
from tiedlm.data.vocabulary import Vocabulary

__all__ = [
    "EOS",
    "UNK",
    "Corpus",
    "SourceInfo",
    "Vocabulary",
    "batch_streams",
    "list_sources",
    "load_corpus",
    "split_sentences",
    "tokenize",
    "windows",
]
