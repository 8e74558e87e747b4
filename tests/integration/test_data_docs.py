from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tiedlm.data import list_sources, tokenize

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")


def test_the_table_has_the_known_counts():
    for source in list_sources():
        numbers = " | ".join(f"{number:,}" for number in (*source.tokens, source.types))
        assert re.search(rf"\| `{source.name}` \| [^|]* \| {numbers} \|", PAGE)


def test_the_tokenizer_table_is_true():
    section = PAGE.split("| raw | tokens |")[1].split("\n\n")[0]
    rows = re.findall(r"^\| `(.*?)` \| `+ ?(.*?)`+ \|$", section, flags=re.MULTILINE)
    assert len(rows) == 4
    for raw, tokens in rows:
        assert tokenize(raw) == tokens.split()


@pytest.mark.parametrize(
    ("raw", "tokens"),
    [
        ("“ja“ „ja„ ‟ja‟ ”ja”", "`` ja `` `` ja `` `` ja `` '' ja ''"),
        ('"ja" ("ja") ＂ja＂', "`` ja '' ( `` ja '' ) `` ja ''"),
        ('["ja"] {"ja"}', "[ `` ja '' ] { `` ja '' }"),
        ('a-"ja" a"ja"', "a - `` ja '' a '' ja ''"),
        ("«ja» ‹ja› ‚ja", "« ja » ‹ ja › ‚ ja"),
        ("„ja“".replace("“", "”"), "`` ja ''"),
        ("სახლი😀 😀😀 👍🏽 😀!", "სახლი😀 😀😀 👍🏽 😀 !"),
        ("წიგნი❤️ ☺⭐", "წიგნი ❤ ☺ ⭐"),
    ],
)  # fmt: skip
def test_quotes_and_emoji_become_what_the_page_says(raw, tokens):
    assert tokenize(raw) == tokens.split()


@pytest.mark.slow
def test_encoding_is_fast_and_memory_bounded():
    command = [sys.executable, ROOT / "benchmarks" / "encoding.py", "--megabytes", "30", "--json"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    for found in json.loads(output).values():
        assert found["seconds_per_10_mb"] < 10
        # 30 MB of text is 20 MB of ids; the 115,000 words themselves take some 20 MB.
        assert found["peak_mib"] - found["peak_mib_of_0.1_mb"] < 70
