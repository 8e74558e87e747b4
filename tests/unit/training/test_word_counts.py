"""Numbers of words are read and written as people give them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiedlm.training.word_counts import parse_word_list, parse_words, short_words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1", 1), ("1000", 1000), ("500k", 500_000), ("500K", 500_000), ("1M", 1_000_000),
        (" 2m ", 2_000_000), ("1.5M", 1_500_000), ("0.001k", 1), ("1000M", 1_000_000_000),
    ],
)  # fmt: skip
def test_a_number_of_words_is_read_exactly(text, words):
    assert parse_words(text) == words


@pytest.mark.parametrize(
    "text", ["0", "0k", "-1", "abc", "", "1.5", "1.0001k", "k", "1e6", "٣", "1 M", "1G", "9" * 400]
)
def test_what_is_not_a_whole_number_of_words_is_refused_and_quoted(text):
    with pytest.raises(ValueError, match="expected a number of words") as caught:
        parse_words(text)
    assert str(caught.value).endswith(f"got {text!r}")


def test_a_list_is_sorted_and_has_each_number_once():
    assert parse_word_list("5M,500k, 1M,1000k") == (500_000, 1_000_000, 5_000_000)
    assert parse_word_list(None) == ()


@pytest.mark.parametrize("text", ["", "1M,", "1M,,2M", "1M;2M"])
def test_a_list_with_a_part_that_is_no_number_is_refused(text):
    with pytest.raises(ValueError, match="expected a number of words"):
        parse_word_list(text)


@given(st.integers(1, 10**12))
def test_the_short_form_is_read_back(words):
    assert parse_words(short_words(words)) == words


def test_the_short_form_is_the_one_of_babylm():
    names = [short_words(n * 10**6) for n in (1, 10, 100, 1000)]
    assert names == ["1M", "10M", "100M", "1000M"]
    assert [short_words(n) for n in (1_500_000, 1234, 1000)] == ["1500k", "1234", "1k"]
