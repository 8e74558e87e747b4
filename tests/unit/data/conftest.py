from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Use a cache folder of the test's own, without other corpora."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("TIEDLM_CACHE", str(folder))
    monkeypatch.delenv("TIEDLM_DATA", raising=False)
    monkeypatch.delenv("TIEDLM_MIRROR", raising=False)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a corpus folder of tokenized text."""
    text = tmp_path / "text"
    text.mkdir()
    (text / "train.txt").write_text("the cat sat\nthe dog sat\nthe cat ran\n", encoding="utf-8")
    (text / "valid.txt").write_text("the cat swam\n", encoding="utf-8")
    (text / "test.txt").write_text("\na dog sat\n", encoding="utf-8")
    return text
