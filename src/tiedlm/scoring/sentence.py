"""The unit of text that is scored: a sentence with its words, their ids and its place."""

from __future__ import annotations

from typing import NamedTuple

from tiedlm.data.vocabulary import Ids


class Sentence(NamedTuple):
    """The unit that is scored; its last word is ``<eos>``.

    Args:
        number: its number, from 1.
        line: the number of its line in the text, from 1.
        words: the words as written or tokenized, with ``<eos>``.
        ids: the ids of the words; ``<unk>``'s id for words that the model does not know.
        regions: for each word, the number of the part of the line that it belongs to, from 1;
            0 for an ``<eos>`` that was added.
        parts: the parts of the line, separated by spaces, as written.
    """

    number: int
    line: int
    words: tuple[str, ...]
    ids: Ids
    regions: tuple[int, ...] = ()
    parts: tuple[str, ...] = ()
