from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tiedlm.data import list_sources, tokenize
from tiedlm.data.sotu import speeches

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")


@pytest.mark.skipif(speeches() is None, reason="the package sotu is not installed")
def test_the_example_runs_and_its_comments_are_true(tmp_path, monkeypatch):
    monkeypatch.setenv("TIEDLM_CACHE", str(tmp_path))
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    names: dict[str, object] = {}
    exec(example, names)
    assert f"{len(names['corpus'].train):,} ids" in example
    assert f"{names['streams'].shape} int64" in example
    dropped = len(names["corpus"].train) - names["streams"].size
    assert f"the last {dropped} tokens" in example
    assert f"the last window {names['inputs'].shape}" in example
    words = " ".join(names["corpus"].vocabulary.decode(names["corpus"].train[:5]))
    assert repr(words) in example
    assert str(names["corpus"].info["parts"]["test"]) in example


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


@pytest.mark.slow
def test_encoding_is_fast_and_memory_bounded():
    command = [sys.executable, ROOT / "benchmarks" / "encoding.py", "--megabytes", "30", "--json"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    for found in json.loads(output).values():
        assert found["seconds_per_10_mb"] < 10
        # 30 MB of text is 20 MB of ids; the 115,000 words themselves take some 20 MB.
        assert found["peak_mib"] - found["peak_mib_of_0.1_mb"] < 70
