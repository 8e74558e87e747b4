from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tiedlm.data import batch_streams, windows


@given(st.integers(1, 12), st.integers(2, 40), st.integers(0, 11), st.integers(1, 50))
def test_every_token_but_each_streams_first_is_a_target_once(
    batch_size: int, length: int, tail: int, bptt: int
):
    ids = np.arange(batch_size * length + min(tail, batch_size - 1), dtype=np.int32)
    streams = batch_streams(ids, batch_size)
    assert np.array_equal(streams.reshape(-1), ids[: batch_size * length])
    targets = np.concatenate([y for _, y in windows(streams, bptt)], axis=1)
    assert np.array_equal(targets, streams[:, 1:])
    inputs = np.concatenate([x for x, _ in windows(streams, bptt)], axis=1)
    assert np.array_equal(inputs, streams[:, :-1])


@given(st.integers(2, 60), st.integers(1, 70))
def test_windows_are_full_but_for_the_last(length: int, bptt: int):
    streams = batch_streams(np.arange(length), 1)
    sizes = [x.shape[1] for x, _ in windows(streams, bptt)]
    assert all(size == bptt for size in sizes[:-1])
    assert 1 <= sizes[-1] <= bptt
