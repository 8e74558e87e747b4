"""Corpora: sources, tokenization, vocabularies and batches of token ids."""

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
