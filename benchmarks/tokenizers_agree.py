"""Fuzz: does the exported tokenizer split text as tiedlm does?

Makes random lines of words, of signs attached to words, and of all assigned characters. Splits each
line with :func:`tiedlm.data.tokenize` and with the ``tokenizer.json`` of an exported run. At the
first difference, it prints the line and exits with status 1. A seed always gives the same lines, so
a long run can be cut into parts.

    python -m benchmarks.tokenizers_agree --lines 1000000
    python -m benchmarks.tokenizers_agree --lines 250000 --seed 2
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
import unicodedata

from tokenizers import Tokenizer

from tiedlm import Vocabulary
from tiedlm.data import tokenize
from tiedlm.export.word_tokenizer import tokenizer_files

SIGNS = [*".,'`-–\"$(:;?!1/&<>[]…—“”‘’´′%5 ", "...", "--", "n't", "'s", "\u0338", "\u0301"]
WORDS = [
    "the",
    "The",
    "don't",
    "can't",
    "U.S.",
    "u.s.",
    "mr.",
    "Mr.",
    "AT&T",
    "o'clock",
    "1,000",
    "12:30",
    ".5",
    "3.14",
    "1999",
    "N",
    "<unk>",
    "<eos>",
    "I.",
    "F.",
    "ΣΑΣ",
    "ΟΣ",
    "Σ",
    "σας",
    "İstanbul",
    "ﬁne",
    "naïve",
    "Élan",
    "wörter",
    "ինչո՞ւ",
    "Ո՛չ",
    "Հայ՜",
    "հա՟յ",
    "भाषा",
    "नहीं।",
    "مرحبا،",
    "می\u200cخواهم",
    "ไทย",
    "ကား",
    "ລາວ",
    "日本語。",
    "한국어.",
    "½",
    "²",
    "٣",
    "३",
    "👍",
    "etc.",
    "Inc.",
    "peace.We",
    "ssa.gov",
    "x\xady",
    "x\u200by",
    "co-op",
    "5-6",
]
KINDS = 4


def characters() -> list[str]:
    """Return all assigned characters except the newline and those of private use."""
    points = (chr(n) for n in range(0x110000) if not 0xD800 <= n < 0xE000)
    return [c for c in points if unicodedata.category(c) not in ("Cn", "Co") and c != "\n"]


def line(draw: random.Random, every: list[str]) -> str:
    """Return a random line; each kind of line stresses other rules."""
    kind = draw.randrange(KINDS)
    if kind == 0:  # words with signs on them
        parts = (draw.choice(WORDS) + draw.choice(["", " ", *SIGNS]) for _ in range(8))
    elif kind == 1:  # signs that touch letters and digits
        parts = (draw.choice(["a", "b", "N", "I", "5", "σ", *SIGNS]) for _ in range(16))
    elif kind == 2:  # any characters
        parts = (draw.choice(every) for _ in range(10))
    else:  # everything
        pools = (WORDS, SIGNS, every, [" ", "a"])
        parts = (draw.choice(draw.choice(pools)) for _ in range(12))
    return "".join(parts)


def main() -> None:
    """Compare the two tokenizers on random lines."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lines", type=int, default=100_000, help="lines to make (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="seed of the lines (%(default)s)")
    options = parser.parse_args()
    content = tokenizer_files(Vocabulary(["<eos>", "<unk>"]), raw_text=True)["tokenizer.json"]
    tokenizer = Tokenizer.from_str(json.dumps(content))
    draw, every, began = random.Random(options.seed), characters(), time.monotonic()
    for number in range(1, options.lines + 1):
        text = line(draw, every)
        normalized = tokenizer.normalizer.normalize_str(text)
        theirs = [word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(normalized)]
        ours = tokenize(text)
        if ours != theirs:
            print(f"line {number} of seed {options.seed} differs: {text!r}")
            print(f"  tiedlm     {ours}")
            print(f"  tokenizers {theirs}")
            sys.exit(1)
    seconds = time.monotonic() - began
    print(f"{options.lines:,} lines of seed {options.seed} are split alike ({seconds:.0f} s)")


if __name__ == "__main__":
    main()
