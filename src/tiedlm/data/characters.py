r"""The tokenizer's character classes, for use in regular expressions.

Every class is written out, because short forms such as ``\w`` or ``\d`` differ between Python and
the ``tokenizers`` library, and between versions of Unicode.
"""

from __future__ import annotations

# The inside of a bracketed class. Other whitespace is first replaced by plain spaces (PLAIN).
BLANK = r"\t-\r\x1c- "
_ZEROS = (  # the digit zero of each script; the other nine follow it
    "30 660 6f0 7c0 966 9e6 a66 ae6 b66 be6 c66 ce6 d66 de6 e50 ed0 f20 1040 1090 17e0 1810 1946 "
    "19d0 1a80 1a90 1b50 1bb0 1c40 1c50 a620 a8d0 a900 a9d0 a9f0 aa50 abf0 ff10"
)
DIGITS = "".join(rf"\u{zero:0>4}-\u{int(zero, 16) + 9:04x}" for zero in _ZEROS.split())
_PICTURES = "\U0001f000-\U0001faff"  # emoji and similar pictures

# A word is a run of characters that are neither whitespace nor one of these marks. Listing what is
# excluded keeps the combining vowels of Indic scripts and the joiners of Persian inside words.
MARKS = (
    BLANK + r"!-/:-@\[-^`{-~"  # ASCII without the underscore
    r"\u00a1-\u00a9\u00ab-\u00b1\u00b4\u00b6-\u00b8\u00bb\u00bf\u00d7\u00f7"
    r"\u055b-\u055f\u0589\u05c0\u05c3\u05c6"  # Armenian, Hebrew
    r"\u060c\u061b\u061d-\u061f\u066a\u066d\u06d4\u0700-\u070d\u07f8\u07f9"  # Arabic, Syriac, N'Ko
    r"\u0964\u0965\u0df4\u0e5a\u0e5b\u0f08\u0f0d-\u0f12\u104a\u104b"  # from India to Myanmar
    r"\u10fb\u1360-\u1368\u166e\u17d4-\u17d6\u17d8-\u17da\u1800-\u1805\u1808\u1809\u1944\u1945"
    r"\u2010-\u2027\u2030-\u205e\u20a0-\u20cf\u2190-\u2bff\u2e00-\u2e7f\u30fb"
    r"\u3000-\u3004\u3008-\u3020\u3030\u3036\u3037\u303d-\u303f"  # Chinese, Japanese
    r"\ua4fe\ua4ff\ua60d-\ua60f\ua92f\ua9c7-\ua9cb\uaa5d-\uaa5f\uabeb"
    r"\ufe10-\ufe19\ufe30-\ufe6f\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65"  # full width
)
CHAR = f"[^{MARKS}]"
DIGIT = f"[{DIGITS}]"
LETTER = f"[^{MARKS}{DIGITS}_{_PICTURES}]"

# Armenian marks of emphasis, exclamation, question and abbreviation, written inside a word.
ARMENIAN_INSIDE = "\u055b\u055c\u055e\u055f"
ARMENIAN = "\u0531-\u0556\u0560-\u0588"  # letters

SENTENCE_ENDS = frozenset({*".!?", *"։؟۔।॥።፧፨။។៕。！？．｡﹒﹖﹗‼‽⁇⁈⁉᠃᠉"})
CLOSERS = frozenset({"''", *"')]}»›」』）】》〉］｝｣＂"})

# Scripts without spaces between words: Chinese and Japanese; Thai, Lao, Tibetan, Burmese, Khmer.
HAN_AND_KANA = (
    "\u3005-\u3007\u3041-\u30fa\u30fc-\u30ff\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff"
)
SOUTH_EAST_ASIAN = (
    "\u0e01-\u0e4e\u0e80-\u0eff\u0f0b\u0f40-\u0fbc\u1000-\u1049\u1050-\u109f\u1780-\u17d3"
)

# Combining marks and a few letters that Unicode added after version 9. The `tokenizers` library
# cannot normalise them, so tiedlm leaves them unchanged.
_LATE = (
    "7fd 897-89f 8ca-8d3 9fe c3c d3b-d3c eba ece 1715 1abf-1aeb 1df6-1dfa a82c 105d2-105da "
    "10d24-10d27 10d69-10d6d 10eab-10eac 10efa-10eff 10f46-10f50 10f82-10f85 11070 1133b "
    "113b8-113d0 113e1-113e2 1145e 11839-1183a 11930 1193d-11943 119e0 11a34 11a47 11a99 "
    "11d42-11d45 11d97 11f41-11f42 1611e-1612f 16d67 16ff0-16ff1 1e08f 1e130-1e136 1e2ae "
    "1e2ec-1e2ef 1e4ec-1e4ef 1e5ee-1e5ef"
)
LATE = "".join("-".join(chr(int(end, 16)) for end in span.split("-")) for span in _LATE.split())

# Characters that are invisible or look like a plain one. PLAIN maps each to its plain form.
_UNSEEN = (
    "\u00ad\u034f\u061c\u200b\u200e\u200f"
    "\u202a\u202b\u202c\u202d\u202e"
    "\u2060\u2061\u2062\u2063\u2064"
    "\u2066\u2067\u2068\u2069\u206a\u206b\u206c\u206d\u206e\u206f"
    "\ufeff"
)
_VARIATIONS = [*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)]
_BLANKS = "\x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
_LIGATURES = {"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "st", "ﬆ": "st"}
PLAIN: dict[str, str] = {
    **dict.fromkeys(_UNSEEN, ""),
    **dict.fromkeys(map(chr, _VARIATIONS), ""),
    **dict.fromkeys(_BLANKS, " "),
    **dict.fromkeys("‘’ʼ‛＇", "'"),
    **dict.fromkeys("“„‟", "``"),
    "”": "''",
    "＂": '"',
    "…": "...",
    **dict.fromkeys("\u2010\u2011", "-"),
    **_LIGATURES,
}
