from __future__ import annotations

import numpy as np
import pytest

from tiedlm.data import batch_streams, windows
from tiedlm.errors import UserError


def test_streams_are_contiguous_and_the_tail_is_dropped():
    streams = batch_streams(np.arange(11, dtype=np.int32), 3)
    assert streams.tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert streams.dtype == np.int64


def test_streams_are_a_writable_copy():
    ids = np.arange(6, dtype=np.int32)
    batch_streams(ids, 2)[0, 0] = 99
    assert ids[0] == 0


def test_targets_are_the_next_tokens_and_the_last_window_may_be_short():
    found = list(windows(batch_streams(np.arange(12), 2), bptt=3))
    assert [(x.tolist(), y.tolist()) for x, y in found] == [
        ([[0, 1, 2], [6, 7, 8]], [[1, 2, 3], [7, 8, 9]]),
        ([[3, 4], [9, 10]], [[4, 5], [10, 11]]),
    ]


def test_a_text_shorter_than_one_batch_says_which_batch_size_would_do():
    with pytest.raises(UserError, match=r"39 tokens.*--batch-size 20: .*--batch-size 19 or"):
        batch_streams(np.zeros(39, dtype=np.int32), 20)
    assert batch_streams(np.zeros(39, dtype=np.int32), 19).shape == (19, 2)


@pytest.mark.parametrize("length", [0, 1])
def test_a_text_without_two_tokens_is_an_error(length: int):
    with pytest.raises(UserError, match="at least two"):
        batch_streams(np.zeros(length, dtype=np.int32), 1)


@pytest.mark.parametrize("size", [0, -1])
def test_sizes_below_one_are_errors(size: int):
    with pytest.raises(UserError, match="batch_size"):
        batch_streams(np.zeros(9), size)
    with pytest.raises(UserError, match="bptt"):
        next(windows(np.zeros((1, 9), dtype=np.int64), size))
