"""What `data check` counts does not depend on chunks, and its memory not on the text's length."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from tiedlm.data import Vocabulary
from tiedlm.data.check import check_corpus
from tiedlm.data.corpus import Corpus

WORDS = Vocabulary(["<eos>", "<unk>", ".", *"abcdefgh"])


def corpus_of(train: int, held_out: int, seed: int = 0) -> Corpus:
    """Return a corpus of random ids, in which some held-out lines are also in train."""
    draw = np.random.default_rng(seed)
    parts = {}
    for part, size in (("train", train), ("valid", held_out), ("test", held_out)):
        parts[part] = draw.integers(0, len(WORDS), size, dtype=np.int32)
        parts[part][draw.random(size) < 0.9] %= 3
        parts[part][:: 17 if part == "test" else 19] = 4
        if part != "train":
            parts[part][: size // 3] = parts["train"][: size // 3]
        parts[part][-1] = WORDS.eos_id
    names = ("origin", "split", "verified", "sha256", "fraction")
    info = {name: {} for name in names} | {
        "tokenizer": "tiedlm",
        "vocabulary": {"max_size": None, "min_count": 1},
        "parts": {p: {"tokens": len(i), "unk": int((i == 1).sum())} for p, i in parts.items()},
    }
    return Corpus("random", WORDS, **parts, info=info)


def lines_of(ids: np.ndarray) -> list[tuple[int, ...]]:
    return [tuple(line) for line in np.split(ids, np.flatnonzero(ids == 0) + 1)[:-1]]


@pytest.mark.parametrize("chunk", [7, 64, 1 << 20])
def test_counts_do_not_depend_on_the_length_of_a_chunk(monkeypatch, chunk: int):
    corpus = corpus_of(4000, 900)
    for module in ("check", "streams"):
        monkeypatch.setattr(f"tiedlm.data.{module}.CHUNK", chunk)
    found = check_corpus(corpus)
    train = lines_of(corpus.train)
    long = {line for line in train if len(line) >= 8}
    for part in ("train", "valid", "test"):
        ids = getattr(corpus, part)
        assert found["parts"][part]["lines"] == len(lines_of(ids))
        assert found["parts"][part]["types"] == len({*ids.tolist()})
        if part != "train":
            lines = [line for line in lines_of(ids) if len(line) >= 8]
            share = sum(line in long for line in lines) / len(lines)
            assert found["parts"][part]["seen_lines_share"] == pytest.approx(share)
            assert 0 < share < 1
    last = [line[-2] if len(line) > 1 else 0 for line in train[int(corpus.train[0] == 0) :]]
    unended = 1 - sum(WORDS.words[number] == "." for number in last) / len(last)
    assert 0.4 < unended < 1
    assert f"{unended:.0%} of the lines of train end in mid-sentence" in str(found["warnings"])


def test_memory_does_not_grow_with_the_training_text(monkeypatch):
    for module in ("check", "streams"):
        monkeypatch.setattr(f"tiedlm.data.{module}.CHUNK", 5000)
    peaks = []
    for train in (30_000, 300_000):
        corpus = corpus_of(train, 3000)
        tracemalloc.start()
        check_corpus(corpus)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.25 * peaks[0]
