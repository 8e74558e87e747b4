from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from tiedlm.data import EOS, UNK, Vocabulary, counts
from tiedlm.data.counts import WordCounts, choose_vocabulary


@pytest.mark.parametrize("most", [1, 7, 100, 10**6])
@pytest.mark.parametrize("with_unk", [False, True])
@pytest.mark.parametrize("max_size", [None, 3, 40])
def test_counts_on_disk_choose_the_same_vocabulary(
    tmp_path: Path, monkeypatch, most: int, with_unk: bool, max_size: int | None
):
    monkeypatch.setattr(counts, "MOST", most)
    draw = random.Random(0)
    words = [f"{draw.choice('abcxyzé語ω')}{int(draw.expovariate(0.05))}" for _ in range(2000)]
    words += [EOS] * 90 + [UNK] * (5 if with_unk else 0)
    draw.shuffle(words)
    counted = WordCounts(tmp_path)
    for start in range(0, len(words), 100):
        block = Counter(words[start : start + 100])
        counted.add([*block, "absent"], [*block.values(), 0])
    assert sorted(counted.items()) == sorted(Counter(words).items())
    chosen, least = choose_vocabulary(counted, max_size=max_size, min_count=None)
    assert least == (1 if with_unk else 2)
    expected = Vocabulary.from_counts(Counter(words), max_size=max_size, min_count=least)
    assert chosen == expected
    assert bool(list(tmp_path.iterdir())) == (most < 2000)
    counted.close()
    assert list(tmp_path.iterdir()) == []
