"""Read typed text as a run's corpus was read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from tiedlm.data import EOS
from tiedlm.data.piece_form import BLANK
from tiedlm.data.vocabulary import Ids
from tiedlm.errors import UserError
from tiedlm.scoring import Sentence, sentences
from tiedlm.web.runs import Loaded

MOST_WORDS = 200  # of a context: earlier words have little influence, and an answer should be quick
STEP = 50  # words left out at a time, so that typing rarely moves the start of the context
_SUGGESTIONS = 8


class Context(NamedTuple):
    """A typed text, split and cut as the model will read it.

    Args:
        ids: the words before the next one, the first is ``<eos>``.
        words: how many words were read, without ``<eos>``.
        unknown: the words that were read as ``<unk>``.
        unfinished: a last word that the model does not know and no space follows; it is not read.
        left_out: how many words at the beginning were not read.
    """

    ids: Ids
    words: int
    unknown: list[str]
    unfinished: str
    left_out: int

    def summary(self) -> dict[str, Any]:
        """Return the facts that the page shows about it."""
        return {
            "read": self.words, "unknown": self.unknown, "unfinished": self.unfinished,
            "left_out": self.left_out,
        }  # fmt: skip


def read_context(loaded: Loaded, text: str) -> Context:
    """Read a text up to where the next word is to be predicted.

    Raises:
        UserError: if a word is unknown and the vocabulary has no ``<unk>``.
    """
    parts = text.split()
    unfinished = ""
    if parts and not text[-1].isspace() and not _knows(loaded, parts[-1]):
        unfinished = parts.pop()
    used = parts[_left_out(parts) :]
    words: list[str] = []
    for one in _sentences(loaded, " ".join(used)):
        words += one.words
    if words and words[-1] == EOS:
        words.pop()  # without the <eos> at the end, because the next word is to be predicted
    read = words[_left_out(words) :]
    left_out = len(parts) - len(used) + len(words) - len(read)
    if not left_out:
        read = [EOS, *read]
    known = [word for word in read if word != EOS]
    return Context(
        loaded.vocabulary.encode(read),
        len(known),
        list(dict.fromkeys(word for word in known if word not in loaded.vocabulary)),
        unfinished,
        left_out,
    )


def _left_out(words: Sequence[str]) -> int:
    """Return how many of the first words are not read."""
    return max(0, -(-(len(words) - MOST_WORDS) // STEP) * STEP)


def _knows(loaded: Loaded, word: str) -> bool:
    """Tell whether the model knows every word into which a typed word is split."""
    try:
        found = list(_sentences(loaded, word))
    except UserError:  # the vocabulary has no <unk>
        return False
    return all(part in loaded.vocabulary for one in found for part in one.words)


def _sentences(loaded: Loaded, line: str) -> Iterator[Sentence]:
    """Yield a line's words with an ``<eos>`` after each sentence, in one unit."""
    return sentences(
        [line], loaded.vocabulary, tokenizer=loaded.is_raw, blank_lines=False, whole_lines=True
    )


def find_word(loaded: Loaded, typed: str) -> int | None:
    """Return the id of a typed word; None if it is unknown.

    It may be known in lower case only, or as the piece that begins a word.
    """
    for word in (typed, typed.lower(), BLANK + typed, BLANK + typed.lower()):
        if word in loaded.vocabulary:
            return int(np.asarray(loaded.vocabulary.encode([word]))[0])
    return None


def suggestions(loaded: Loaded, typed: str) -> list[str]:
    """Return the first words of the vocabulary that begin as a typed word does."""
    start = typed.lower().lstrip(BLANK)
    found = []
    for word in loaded.vocabulary.words:
        if word.lower().lstrip(BLANK).startswith(start):
            found.append(word)
            if len(found) == _SUGGESTIONS:
                break
    return found
