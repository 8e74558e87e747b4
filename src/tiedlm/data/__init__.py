"""Corpora: find a text, split it into words or pieces, number these, and cut them into batches.

Begin with ``corpus.py``, which loads a corpus. ``find.py`` and ``source.py`` find its text,
``tokenizer.py`` and ``pieces.py`` split it, ``encode.py`` turns it into ids in little memory, and
``streams.py`` makes batches.
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
