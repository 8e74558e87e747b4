"""The word tokenizer for raw text: lower case, punctuation split off, numbers as ``N``.

The conventions are the Penn Treebank's: contractions are split (``do n't``, ``it 's``), hyphenated
words are kept whole, double quotes are two grave accents and two apostrophes, numbers become ``N``.
Punctuation is kept, as in WikiText. Tokenizing text that this tokenizer wrote changes nothing.

The rules are replacements, one after the other, and two expressions that split. Every pattern means
the same to Python and to Oniguruma: :mod:`tiedlm.export.word_tokenizer` writes these very patterns
into ``tokenizer.json``.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from itertools import groupby
from typing import NamedTuple

from tiedlm.data.characters import (
    BLANK,
    CHAR,
    CLOSERS,
    DIGIT,
    LATE,
    LETTER,
    MARKS,
    PLAIN,
    SENTENCE_ENDS,
    SOUTH_EAST_ASIAN,
)

EOS = "<eos>"
UNK = "<unk>"
NUMBER = "N"


class Rule(NamedTuple):
    """Put ``content`` in the place of what ``pattern`` matches."""

    pattern: re.Pattern[str]
    content: str


def _rule(pattern: str, content: str) -> Rule:
    return Rule(re.compile(pattern), content)


# A pattern begins with the character that it looks for, then looks behind it: this is fast.
_JOINER = r"[-/&.']"  # holds a word together: and/or, at&t, o'clock
_CLITIC = r"(?:n't|'(?:s|re|ve|m|ll|d))"
_GOES_ON = f"{CHAR}|{_JOINER}{CHAR}"  # the word does not end here
ABBREVIATIONS = (
    "mr|mrs|ms|messrs|dr|prof|st|jr|sr|gen|col|lt|maj|capt|sgt|adm|gov|sen|rep|hon|rev"
    "|inc|corp|co|ltd|vs|etc|jan|feb|aug|sept|oct|nov|dec"
)
# Words that keep their dots: u.s., the initial f. (but not the pronoun i), mr.
_INITIAL = f"(?![i{NUMBER}]){LETTER}"
_DOTTED = rf"{LETTER}\.(?:{LETTER}\.)+|{_INITIAL}\.|(?:{ABBREVIATIONS})\."


def _begins(width: int) -> str:
    """Return a pattern that holds where a word could have begun ``width`` characters before."""
    back = f".{{{width}}}"
    return f"(?<!{CHAR}{back})(?<!{CHAR}{_JOINER}{back})"


def _after_dotted() -> str:
    """Return a pattern that holds after the last dot of a word that keeps its dots."""
    by_length = groupby(sorted(ABBREVIATIONS.split("|"), key=len), key=len)
    words = {1: LETTER, 3: rf"{LETTER}\.{LETTER}"}  # f. and u.s.; of u.s.a. the end is enough
    ends = [rf"(?<={word}\.){_begins(width + 1)}" for width, word in words.items()]
    ends[0] = rf"(?<![i{NUMBER}]\.){ends[0]}"
    for width, group in by_length:
        ends.append(rf"(?<=(?:{'|'.join(group)})\.){_begins(width + 1)}")
    return "|".join([*ends, rf"(?<=\.{LETTER}\.{LETTER}\.)"])


_NUMBER_TAIL = f"(?:[.,:]?{DIGIT})"
_NUMBER_END = rf"{_CLITIC}*(?!{_GOES_ON}|(?<={DIGIT})[,:]{DIGIT})"

_REPLACED = str.maketrans(PLAIN)
_LATE = re.compile(f"([{LATE}])")
UNSEEN_BLANK = _rule(f"\u200b(?<=[{SOUTH_EAST_ASIAN}].)(?=[{SOUTH_EAST_ASIAN}])", " ")
NOT_ASCII = (  # text in ASCII needs none of these
    _rule(rf"(?<![^{MARKS}\x00-\x7f])[\u200c\u200d]+", ""),  # joiners that join nothing
    _rule(rf"[´′](?<={LETTER}.)(?={LETTER})", "'"),
    _rule(f"Σ(?<={CHAR}.)(?!{CHAR})", "ς"),
    _rule("Σ", "σ"),  # from here on, lower case does not depend on what stands beside a letter
)
WRITTEN = (
    _rule(f"`(?<={LETTER}.)(?={LETTER})", "'"),
    _rule(r"(?<=[a-z]{2}\.)(?=[A-Z])", " "),  # "peace.We", but not "ssa.gov" or "U.S."
    _rule("[—–―‒⸺⸻]+|-{2,}", " -- "),
    _rule(rf'"(?<![^{BLANK}(\[{{-].)', "``"),
    _rule('"', "''"),
    _rule(rf"\.(?<!{CHAR}.)(?<!\.\.)(?={DIGIT})", "0."),  # ".5"
    _rule(f"{NUMBER}(?<![^{BLANK}].)(?![^{BLANK}])", "0"),  # any will do: it becomes N again
)
LOWERED = (
    # The first digit of a number becomes N, the only capital in the text, and the rest goes.
    _rule(rf"{DIGIT}{_begins(1)}(?<!{DIGIT}[,:].)(?={_NUMBER_TAIL}*{_NUMBER_END})", NUMBER),
    _rule(rf"(?<={NUMBER}){_NUMBER_TAIL}+", ""),
    _rule(rf"\.(?!{_after_dotted()})\.+", "..."),
)

TOKEN = re.compile(
    rf"{UNK}|{EOS}"
    rf"|(?<!{CHAR})(?:{_DOTTED})(?!{CHAR})"
    rf"|{_CLITIC}(?!{_GOES_ON})"
    rf"|{CHAR}+(?:(?:{_JOINER}|(?<={DIGIT})[,:](?={DIGIT})){CHAR}+)*"
    rf"|\.\.\.|--|``|''|[^{BLANK}]"
)
CLITIC = re.compile(f"(?<={CHAR})({_CLITIC})(?={_CLITIC}*(?![^{BLANK}]))")  # of a token


def tokenize(text: str) -> list[str]:
    """Split one line of raw text into words.

    ``"It doesn't cost $1,000."`` becomes ``it does n't cost $ N .``

    Args:
        text: a line or a paragraph; line ends count as blanks.

    Returns:
        The words. ``<unk>``, ``<eos>`` and a lone ``N`` (a number) are kept as they are; joining
        the words with blanks and tokenizing again gives the same words.
    """
    is_ascii = text.isascii()
    if not is_ascii:
        text = UNSEEN_BLANK.pattern.sub(UNSEEN_BLANK.content, text).translate(_REPLACED)
        text = _replace(NOT_ASCII, _compose(text))
    text = _replace(WRITTEN, text).lower()
    if not is_ascii:
        text = _compose(text)
    words: list[str] = []
    for token in TOKEN.findall(_replace(LOWERED, text)):
        if "'" in token:
            words += filter(None, CLITIC.split(token))
        else:
            words.append(token)
    return words


def _compose(text: str) -> str:
    """Write letters with marks as one character, where there is one (NFC)."""
    return "".join(unicodedata.normalize("NFC", part) for part in _LATE.split(text))


def _replace(rules: tuple[Rule, ...], text: str) -> str:
    for pattern, content in rules:
        text = pattern.sub(content, text)
    return text


def split_sentences(words: Iterable[str]) -> list[list[str]]:
    """Cut words into sentences; one ends after ``.``, ``!`` or ``?`` and the marks closing it.

    The marks of other scripts that end a sentence count too: ``SENTENCE_ENDS``.
    """
    sentences: list[list[str]] = []
    current: list[str] = []
    ended = False
    for word in words:
        if ended and word not in SENTENCE_ENDS and word not in CLOSERS:
            sentences.append(current)
            current = []
            ended = False
        current.append(word)
        ended = ended or word in SENTENCE_ENDS
    if current:
        sentences.append(current)
    return sentences
