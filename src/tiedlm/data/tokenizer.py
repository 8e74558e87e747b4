"""The word tokenizer for raw text: lower case, punctuation split off, numbers as ``N``.

The conventions are the Penn Treebank's: contractions are split (``do n't``, ``it 's``), hyphenated
words are kept whole, double quotes are two grave accents and two apostrophes, numbers become ``N``.
Punctuation is kept, as in WikiText. Tokenizing text that this tokenizer wrote changes nothing.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

EOS = "<eos>"
UNK = "<unk>"
NUMBER = "N"

SENTENCE_ENDS = frozenset({".", "!", "?", "।", "؟", "۔"})
CLOSERS = frozenset({"''", "'", ")", "]", "}", "»"})

# A word is a run of characters that are neither blank nor one of these marks: a list of what is
# excluded keeps the combining vowels of Indic scripts and the joiners of Persian inside words.
_MARKS = (
    r"\s!-/:-@\[-^`{-~"  # ASCII, less the underscore
    r"\u00a1-\u00a9\u00ab-\u00b1\u00b4\u00b6-\u00b8\u00bb\u00bf\u00d7\u00f7"
    r"\u0964\u0965\u060c\u061b\u061f\u06d4"
    r"\u2010-\u2027\u2030-\u205e\u20a0-\u20cf\u2190-\u2bff\u3000-\u303f"
)
_CHAR = f"[^{_MARKS}]"
_LETTER = r"[^\W\d_]"
_WORD = rf"{_CHAR}+(?:(?:[-/&.']|(?<=\d)[,:](?=\d)){_CHAR}+)*"
ABBREVIATIONS = (
    "mr|mrs|ms|messrs|dr|prof|st|jr|sr|gen|col|lt|maj|capt|sgt|adm|gov|sen|rep|hon|rev"
    "|inc|corp|co|ltd|vs|etc|jan|feb|aug|sept|oct|nov|dec"
)
# Words that keep their dots: u.s., the initial f. (but not the pronoun i), mr.
_DOTTED = rf"{_LETTER}\.(?:{_LETTER}\.)+|(?!i){_LETTER}\.|(?:{ABBREVIATIONS})\."
_TOKEN = re.compile(
    rf"""
    (?P<kept>    {UNK} | {EOS} )
  | (?P<dots>    (?<!{_CHAR}) (?: {_DOTTED} ) (?!{_CHAR}) )
  | (?P<clitic>  (?: n't | '(?: s | re | ve | m | ll | d ) ) (?!{_CHAR}|'{_CHAR}) )
  | (?P<word>    {_WORD} )
  | (?P<mark>    \.\.+ | -- | `` | '' | \S )
    """,
    re.VERBOSE,
)
_CLITIC_END = re.compile(rf"(?<={_CHAR})(?:n't|'(?:s|re|ve|m|ll|d))$")
_NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")
_PLACEHOLDER = re.compile(r"(?<!\S)N(?!\S)")

_REPLACED = str.maketrans(
    {
        **dict.fromkeys("‘’ʼ", "'"),
        "“": "``",
        "„": "``",
        "”": "''",
        "…": "...",
        **dict.fromkeys("\ufeff\u200b\u2060\u00ad", ""),  # marks without width
    }
)
_DASHES = re.compile(r"[—–―]+|-{2,}")
_LOST_BLANK = re.compile(r"(?<=[a-z]{2}\.)(?=[A-Z])")  # "peace.We", but not "ssa.gov" or "U.S."
_LEADING_DOT = re.compile(r"(?<![\w.])\.(?=\d)")  # ".5"
_OPENING_QUOTE = re.compile(r'(?:(?<=[\s(\[{-])|^)"')


def tokenize(text: str) -> list[str]:
    """Split one line of raw text into words.

    ``"It doesn't cost $1,000."`` becomes ``it does n't cost $ N .``

    Args:
        text: a line or a paragraph; line ends count as blanks.

    Returns:
        The words. ``<unk>``, ``<eos>`` and a lone ``N`` (a number) are kept as they are; joining
        the words with blanks and tokenizing again gives the same words.
    """
    text = _LOST_BLANK.sub(" ", text.translate(_REPLACED))
    text = _OPENING_QUOTE.sub("``", _DASHES.sub(" -- ", text)).replace('"', "''")
    text = _LEADING_DOT.sub("0.", text)
    text = _PLACEHOLDER.sub("0", text)  # any number will do: it becomes N again
    text = unicodedata.normalize("NFC", text.lower())
    words: list[str] = []
    for match in _TOKEN.finditer(text):
        token = match.group()
        if match.lastgroup == "word":
            words += _split_word(token)
        elif match.lastgroup == "mark" and token.startswith(".."):
            words.append("...")
        else:
            words.append(token)
    return words


def _split_word(word: str) -> list[str]:
    """Take the contractions off a word, and turn a number into ``N``."""
    ends: list[str] = []
    while end := _CLITIC_END.search(word):
        ends.insert(0, end.group())
        word = word[: end.start()]
    return [NUMBER if _NUMBER.fullmatch(word) else word, *ends]


def split_sentences(words: Iterable[str]) -> list[list[str]]:
    """Cut words into sentences; one ends after ``.``, ``!`` or ``?`` and the marks closing it."""
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
