"""Word errors agree with hand calculation and the definition, and are a metric."""

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiedlm.scoring.wer import word_errors

words = st.lists(st.sampled_from("abc"), max_size=7)


@pytest.mark.parametrize(
    ("reference", "hypothesis", "errors"),
    [
        ("the cat sat", "the cat sat", 0),
        ("the cat sat", "the bat sat", 1),
        ("the cat sat", "the cat", 1),
        ("the cat sat", "the cat sat down", 1),
        ("the cat sat", "", 3),
        ("", "the cat", 2),
        ("a b c d", "b c d e", 2),
    ],
)
def test_errors_by_hand(reference, hypothesis, errors):
    assert word_errors(reference.split(), hypothesis.split()) == errors


@given(words, words)
def test_errors_against_the_recursion(reference, hypothesis):
    @cache
    def distance(i, j):
        if i == 0 or j == 0:
            return i + j
        return min(
            distance(i - 1, j - 1) + (reference[i - 1] != hypothesis[j - 1]),
            distance(i - 1, j) + 1,
            distance(i, j - 1) + 1,
        )

    assert word_errors(reference, hypothesis) == distance(len(reference), len(hypothesis))


@given(words, words, words)
def test_errors_are_a_metric(a, b, c):
    assert word_errors(a, b) == word_errors(b, a)
    assert word_errors(a, c) <= word_errors(a, b) + word_errors(b, c)
