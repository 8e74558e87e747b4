"""Marks of other tools in a text: of its sentences, of unknown words, of padding."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from tiedlm.data.tokenizer import EOS, UNK

_SENTENCE = "bos|eos|sos|cls|sep|start|end|startoftext|endoftext|begin_of_text|end_of_text"
_UNKNOWN = "unk|unknown|oov"
_PADDING = "pad"
_NAMES = f"{_SENTENCE}|{_UNKNOWN}|{_PADDING}"
# The set in front lets the search skip to where a mark may begin.
_MARK = re.compile(
    r"[<\[_Uu](?:"
    rf"(?<=<)(?i:/?s>|(?:{_NAMES})>|\|(?:{_NAMES})\|>)"
    r"|(?<=\[)(?i:bos|eos|sos|cls|sep|unk|oov|pad)\]"
    r"|(?<=_)(?<!\S_)(?:UNK|PAD|GO|EOS|_(?:unk|pad|bos|eos)__)(?!\S)"
    r"|(?<=[Uu])(?<![^\s(\"'].)(?:(?<=U)NK|(?<=u)nk)(?![^\s.,;:!?)\"'])"
    r")"
)
_BARE = "unk"  # so written it may be a word, where it is rare
_CLEARLY_A_MARK = 0.005  # of the words
_PER_LINE = 0.01  # marks of sentences that are rarer change no perplexity


class Marks:
    """Counts the marks in a text while it is read.

    Args:
        tokenized: whether its words are taken as they are.
    """

    def __init__(self, tokenized: bool) -> None:
        self._tokenized = tokenized
        self._found: Counter[str] = Counter()
        self._lines = self._words = 0

    def see(self, line: str, sentences: Iterable[list[str]]) -> None:
        """Count the marks of a line, which was cut into sentences."""
        self._found.update(_MARK.findall(line))
        self._lines += not line.isspace() and line != ""
        for words in sentences:
            self._words += len(words)
            if EOS in words and (words != [EOS] or not self._tokenized):
                self._found[EOS + EOS] += words.count(EOS) - (len(words) > 1 and words[-1] == EOS)

    def counts(self) -> dict[str, Any]:
        """Return what :func:`notes_on` reads: ``lines`` and ``found``; empty if nothing was found.

        Of ``<eos>`` those are counted that do not end a line.
        """
        found = Counter(self._found)
        for mark in list(found):  # those that are tiedlm's own
            if mark in (EOS, UNK) or (not self._tokenized and mark.lower() in (EOS, UNK)):
                del found[mark]
        found[EOS] = found.pop(EOS + EOS, 0)
        if found[_BARE] < _CLEARLY_A_MARK * self._words:
            del found[_BARE]
        some = {mark: number for mark, number in sorted(found.items()) if number}
        return {"lines": self._lines, "found": some} if some else {}


def notes_on(counts: Mapping[str, Any]) -> list[str]:
    """Say in a line each what the marks of other tools do to a perplexity.

    Args:
        counts: what :meth:`Marks.counts` returned.
    """
    lines = counts.get("lines", 0)
    kinds: dict[str, dict[str, int]] = {"sentence": {}, "unknown": {}, "padding": {}}
    for mark, number in counts.get("found", {}).items():
        kinds[_kind(mark)][mark] = number
    notes = []
    if sum(kinds["sentence"].values()) > _PER_LINE * lines:
        notes.append(
            f"{_listed(kinds['sentence'])} in {lines:,} lines: tiedlm ends each line with an {EOS} "
            "of its own, and further marks are so predictable that perplexity looks too good; take "
            "them out"
        )
    if kinds["unknown"]:
        notes.append(
            f"{_listed(kinds['unknown'])}: a word like any other here, apart from {UNK}, and so "
            f"frequent that perplexity looks too good; write {UNK} for it"
        )
    if kinds["padding"]:
        notes.append(
            f"{_listed(kinds['padding'])}: padding is read as words, so predictable that "
            "perplexity looks too good; take it out"
        )
    return notes


def _kind(mark: str) -> str:
    name = mark.lower().strip("<>[]|_/")
    if name in _UNKNOWN.split("|"):
        return "unknown"
    return "padding" if name == _PADDING else "sentence"


def _listed(found: Mapping[str, int]) -> str:
    return ", ".join(
        f"{mark} {number:,} time{'s' * (number > 1)}" for mark, number in found.items()
    )
