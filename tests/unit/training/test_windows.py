"""Windows of varying length."""

import itertools
import statistics

import pytest

from tiedlm.training.settings import Settings
from tiedlm.training.windows import window_starts


def lengths(seed=1, epoch=1, length=50_000, **options):
    starts = window_starts(Settings(seed=seed, bptt=70, bptt_jitter=True, **options), length, epoch)
    assert starts[0] == 0
    assert starts[-1] == length
    return [b - a for a, b in itertools.pairwise(starts)]


def test_without_it_all_windows_but_the_last_have_bptt_steps():
    assert window_starts(Settings(bptt=7), 23, 4) == [0, 7, 14, 21, 23]
    assert window_starts(Settings(bptt=7), 21, 1) == [0, 7, 14, 21]


def test_most_are_about_bptt_and_some_half_as_long():
    found = lengths()[:-1]
    whole = [n for n in found if n > 52]
    half = [n for n in found if n <= 52]
    assert statistics.mean(whole) == pytest.approx(69.5, abs=1)
    assert statistics.stdev(whole) == pytest.approx(5, abs=1)
    assert statistics.mean(half) == pytest.approx(34.5, abs=4)
    assert 0.01 < len(half) / len(found) < 0.1


def test_they_depend_on_the_seed_and_the_epoch_only():
    assert lengths() == lengths(lr=0.5)
    assert lengths() != lengths(epoch=2)
    assert lengths() != lengths(seed=2)
    assert lengths(seed=-1) != lengths()


@pytest.mark.parametrize("length", [1, 4, 70, 71])
def test_every_step_of_a_short_text_is_in_one_window(length):
    found = lengths(length=length)
    assert min(found) >= 1
    assert sum(found) == length
