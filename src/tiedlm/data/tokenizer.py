"""The word tokenizer for raw text: lower case, punctuation split off, numbers as ``N``.

It follows the Penn Treebank. Contractions are split (``do n't``, ``it 's``), hyphenated words stay
whole, numbers become ``N``, and double quotes become two grave accents or two apostrophes.
Punctuation is kept, as in WikiText. Tokenizing the tokenizer's own output changes nothing.

The rules are a list of replacements, followed by two patterns that split the text into tokens.
:mod:`tiedlm.export.word_tokenizer` writes the same patterns into ``tokenizer.json``, so every
pattern must mean the same to Python and to Oniguruma.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from itertools import groupby
from typing import NamedTuple

from tiedlm.data.characters import (
    ARMENIAN,
    ARMENIAN_INSIDE,
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
    """Replace every match of ``pattern`` with ``content``."""

    pattern: re.Pattern[str]
    content: str


def _rule(pattern: str, content: str) -> Rule:
    return Rule(re.compile(pattern), content)


# For speed, a pattern first matches the character in question, and then looks behind it.
_JOINER = r"[-/&.']"  # characters that join parts of a word: and/or, at&t, o'clock
_CLITIC = r"(?:n't|'(?:s|re|ve|m|ll|d))"
_GOES_ON = f"{CHAR}|{_JOINER}{CHAR}"  # the word continues
ABBREVIATIONS = (
    "mr|mrs|ms|messrs|dr|prof|st|jr|sr|gen|col|lt|maj|capt|sgt|adm|gov|sen|rep|hon|rev"
    "|inc|corp|co|ltd|vs|etc|jan|feb|aug|sept|oct|nov|dec"
)
# Words that keep their dots: u.s., the initial f. (but not the pronoun i), mr.
_INITIAL = f"(?![i{NUMBER}]){LETTER}"
_DOTTED = rf"{LETTER}\.(?:{LETTER}\.)+|{_INITIAL}\.|(?:{ABBREVIATIONS})\."


def _begins(width: int) -> str:
    """Return a pattern that matches if a word can begin ``width`` characters earlier."""
    back = f".{{{width}}}"
    return f"(?<!{CHAR}{back})(?<!{CHAR}{_JOINER}{back})"


def _after_dotted() -> str:
    """Return a pattern that matches after the last dot of a word that keeps its dots."""
    by_length = groupby(sorted(ABBREVIATIONS.split("|"), key=len), key=len)
    words = {1: LETTER, 3: rf"{LETTER}\.{LETTER}"}  # f. and u.s.; for u.s.a. its end is enough
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
NOT_ASCII = (  # not needed for ASCII text
    _rule(rf"(?<![^{MARKS}\x00-\x7f])[\u200c\u200d]+", ""),  # joiners that join nothing
    _rule(rf"[´′](?<={LETTER}.)(?={LETTER})", "'"),
    _rule(f"Σ(?<={CHAR}.)(?!{CHAR})", "ς"),
    _rule("Σ", "σ"),  # after this, lower-casing a letter does not depend on its neighbours
)
_MOST_BEHIND = 12  # Armenian letters behind a mark; a mark with more stays and splits its word
_BEHIND = f"[{ARMENIAN}{ARMENIAN_INSIDE}]"
_WORD_END = f"(?<=[{ARMENIAN}])(?![{ARMENIAN_INSIDE}]*{CHAR})"


def _moves(mark: str) -> Rule:
    """Return the rule that repeats a mark at the end of the Armenian word that it stands in."""
    found = (f"(?<={_BEHIND}{mark}{_BEHIND}{{{n}}}[{ARMENIAN}])" for n in range(_MOST_BEHIND))
    return _rule(f"{_WORD_END}(?:{'|'.join(found)})", mark)


# Armenian marks over a vowel move behind the word, as in Universal Dependencies.
ARMENIAN_MARKS = (
    *map(_moves, ARMENIAN_INSIDE),
    _rule(
        f"[{ARMENIAN_INSIDE}](?<={_BEHIND}.)(?={_BEHIND}{{0,{_MOST_BEHIND - 1}}}{_WORD_END})", ""
    ),
)
_HAS_ARMENIAN_MARK = re.compile(f"[{ARMENIAN_INSIDE}]")
WRITTEN = (
    _rule(f"`(?<={LETTER}.)(?={LETTER})", "'"),
    _rule(r"(?<=[a-z]{2}\.)(?=[A-Z])", " "),  # "peace.We", but not "ssa.gov" or "U.S."
    _rule("[—–―‒⸺⸻]+|-{2,}", " -- "),
    _rule(rf'"(?<![^{BLANK}(\[{{-].)', "``"),
    _rule('"', "''"),
    _rule(rf"\.(?<!{CHAR}.)(?<!\.\.)(?={DIGIT})", "0."),  # ".5"
    _rule(f"{NUMBER}(?<![^{BLANK}].)(?![^{BLANK}])", "0"),  # any digit works: it becomes N again
)
LOWERED = (
    # The first digit of a number becomes N, the only capital in the text. The rest is removed.
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
CLITIC = re.compile(f"(?<={CHAR})({_CLITIC})(?={_CLITIC}*(?![^{BLANK}]))")  # within a token


def tokenize(text: str) -> list[str]:
    """Split one line of raw text into words.

    ``"It doesn't cost $1,000."`` becomes ``it does n't cost $ N .``

    Args:
        text: a line or a paragraph; line ends count as spaces.

    Returns:
        The words. ``<unk>``, ``<eos>`` and a lone ``N`` (a number) are kept. Joining the words with
        spaces and tokenizing them again gives the same words.
    """
    is_ascii = text.isascii()
    if not is_ascii:
        text = UNSEEN_BLANK.pattern.sub(UNSEEN_BLANK.content, text).translate(_REPLACED)
        text = _replace(NOT_ASCII, _compose(text))
        if _HAS_ARMENIAN_MARK.search(text):
            text = _replace(ARMENIAN_MARKS, text)
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
    """Compose letters and their combining marks into single characters (NFC)."""
    return "".join(unicodedata.normalize("NFC", part) for part in _LATE.split(text))


def _replace(rules: tuple[Rule, ...], text: str) -> str:
    for pattern, content in rules:
        text = pattern.sub(content, text)
    return text


def split_sentences(words: Iterable[str]) -> list[list[str]]:
    """Split words into sentences.

    A sentence ends after ``.``, ``!`` or ``?`` and any closing quotes and brackets. The same holds
    for the sentence ends of other scripts in ``SENTENCE_ENDS``.
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


def sentences_of(line: str, tokenized: bool) -> list[list[str]]:
    """Return the sentences of a line: its words, or those of each sentence of raw text.

    Args:
        line: the line.
        tokenized: whether words are separated by blanks and the line is one sentence.
    """
    return [line.split()] if tokenized else split_sentences(tokenize(line))
