"""Special tokens left in a text by other tools: sentence marks, unknown words, padding."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container, Iterable, Mapping
from typing import Any

from tiedlm.data.tokenizer import EOS, UNK

_SENTENCE = "bos|eos|sos|cls|sep|start|end|startoftext|endoftext|begin_of_text|end_of_text"
_UNKNOWN = "unk|unknown|oov"
_PADDING = "pad"
_NAMES = f"{_SENTENCE}|{_UNKNOWN}|{_PADDING}"
# The first class lets the search skip quickly to characters that can begin a special token.
_MARK = re.compile(
    r"[<\[_Uu](?:"
    rf"(?<=<)(?i:/?s>|(?:{_NAMES})>|\|(?:{_NAMES})\|>)"
    r"|(?<=\[)(?i:bos|eos|sos|cls|sep|unk|oov|pad)\]"
    r"|(?<=_)(?<!\S_)(?:UNK|PAD|GO|EOS|_(?:unk|pad|bos|eos)__)(?!\S)"
    r"|(?<=[Uu])(?<![^\s(\"'].)(?:(?<=U)NK|(?<=u)nk)(?![^\s.,;:!?)\"'])"
    r")"
)
_BARE = "unk"  # an ordinary word, unless it is frequent
_CLEARLY_A_MARK = 0.005  # share of all words above which it counts as a special token
_PER_LINE = 0.01  # sentence marks per line; fewer do not affect perplexity


class Marks:
    """Count the special tokens in a text while it is read.

    Args:
        tokenized: whether the text is already split into words.
    """

    def __init__(self, tokenized: bool) -> None:
        self._tokenized = tokenized
        self._found: Counter[str] = Counter()
        self._lines = self._words = 0

    def see(self, line: str, sentences: Iterable[list[str]]) -> None:
        """Count the special tokens in a line, given with the words of its sentences."""
        self._found.update(_MARK.findall(line))
        self._lines += not line.isspace() and line != ""
        for words in sentences:
            self._words += len(words)
            if EOS in words and (words != [EOS] or not self._tokenized):
                self._found[EOS + EOS] += words.count(EOS) - (len(words) > 1 and words[-1] == EOS)

    def see_split(self, text: str, lines: int, words: int) -> None:
        """Count the special tokens in lines that have been split into words, without ``<eos>``.

        This is :meth:`see` for many lines at once.

        Args:
            text: the lines, each with a newline at its end.
            lines: how many of them are not blank.
            words: how many words they have.
        """
        self._found.update(_MARK.findall(text))
        self._lines += lines
        self._words += words

    def add(self, other: Marks) -> None:
        """Add the counts of another part of the text."""
        self._found.update(other._found)
        self._lines += other._lines
        self._words += other._words

    def counts(self) -> dict[str, Any]:
        """Return the counts for :func:`notes_on`, or an empty dict if there are none.

        ``lines`` is the number of lines that are not blank, and ``found`` maps each special token
        to its count. An ``<eos>`` counts only where it does not end a line.
        """
        found = Counter(self._found)
        for mark in list(found):  # skip tiedlm's own
            if mark in (EOS, UNK) or (not self._tokenized and mark.lower() in (EOS, UNK)):
                del found[mark]
        found[EOS] = found.pop(EOS + EOS, 0)
        if found[_BARE] < _CLEARLY_A_MARK * self._words:
            del found[_BARE]
        some = {mark: number for mark, number in sorted(found.items()) if number}
        return {"lines": self._lines, "found": some} if some else {}


def notes_on(counts: Mapping[str, Any]) -> list[str]:
    """Return one line for each kind of special token that distorts the perplexity.

    Args:
        counts: the result of :meth:`Marks.counts`.
    """
    kinds, lines = _by_kind(counts), _lines(counts)
    notes = []
    if kinds["sentence"]:
        notes.append(
            f"{_listed(kinds['sentence'])} in {lines}: tiedlm ends each line with an {EOS} "
            "already, and more sentence marks are so predictable that perplexity looks too good; "
            "remove them"
        )
    if kinds["unknown"]:
        notes.append(
            f"{_listed(kinds['unknown'])}: counted as an ordinary word, not as {UNK}, and so "
            f"frequent that perplexity looks too good; replace it with {UNK}"
        )
    if kinds["padding"]:
        notes.append(
            f"{_listed(kinds['padding'])}: padding is read as words that are so predictable that "
            "perplexity looks too good; remove it"
        )
    return notes


def notes_on_scored(counts: Mapping[str, Any], vocabulary: Container[str] | None) -> list[str]:
    """Return one line for each kind of special token in a text that a run scores.

    Args:
        counts: the result of :meth:`Marks.counts`.
        vocabulary: the run's words if the text is already split into words; then a mark that is not
            among them is read as ``<unk>``.
    """
    kinds, lines = _by_kind(counts), _lines(counts)
    own = "unless the run was trained with"
    notes = []
    if kinds["sentence"]:
        notes.append(
            f"{_listed(kinds['sentence'])} in {lines}: read as words, although tiedlm ends "
            f"each line with an {EOS} already; remove them, {own} them"
        )
    unknown = {
        mark: number
        for mark, number in kinds["unknown"].items()
        if vocabulary is None or mark in vocabulary
    }
    if unknown:
        notes.append(
            f"{_listed(unknown)}: read as an ordinary word, not as {UNK}; replace it with {UNK}, "
            f"{own} it"
        )
    if kinds["padding"]:
        notes.append(f"{_listed(kinds['padding'])}: padding is read as words; remove it, {own} it")
    return notes


def _lines(counts: Mapping[str, Any]) -> str:
    number = counts.get("lines", 0)
    return f"{number:,} line{'s' * (number != 1)}"


def _by_kind(counts: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """Return the special tokens of each kind; no sentence marks if there are too few of them."""
    kinds: dict[str, dict[str, int]] = {"sentence": {}, "unknown": {}, "padding": {}}
    for mark, number in counts.get("found", {}).items():
        kinds[_kind(mark)][mark] = number
    if sum(kinds["sentence"].values()) <= _PER_LINE * counts.get("lines", 0):
        kinds["sentence"] = {}
    return kinds


def _kind(mark: str) -> str:
    name = mark.lower().strip("<>[]|_/")
    if name in _UNKNOWN.split("|"):
        return "unknown"
    return "padding" if name == _PADDING else "sentence"


def _listed(found: Mapping[str, int]) -> str:
    return ", ".join(
        f"{mark} {number:,} time{'s' * (number > 1)}" for mark, number in found.items()
    )
