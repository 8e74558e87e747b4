from __future__ import annotations

import random
import sys
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiedlm.data import UNK, number_words
from tiedlm.data.encoder import WordEncoder

# Few letters, so that many words are equal up to the eighth, the sixteenth or the last byte.
WORD = st.text("ab", min_size=1, max_size=40) | st.text("aé語\U0001f600", min_size=1, max_size=9)
BLANK = st.sampled_from([" ", "  ", "\t", "\x1c", "\u00a0", "\u3000", "\n", "\n\n"])


def words_of(text: str) -> list[str]:
    lines = text.removesuffix("\n").split("\n")
    return list(chain.from_iterable([*line.split(), ""] for line in lines))


@given(pairs=st.lists(st.tuples(WORD | st.just(UNK), BLANK), max_size=60))
def test_the_numbers_spell_the_words(pairs: list[tuple[str, str]]):
    text = "".join(chain.from_iterable(pairs)) + "\n"
    found = number_words.number_words(text)
    words = found.words.split("\n")
    assert [words[number] for number in found.ids] == words_of(text)
    assert words[:2] == ["", UNK]
    assert len({*words}) == len(words)


def test_many_words_are_numbered_in_the_order_of_the_text():
    draw = random.Random(0)
    some = [f"{draw.choice('xyz')}{draw.randrange(9_000)}{'tail' * (n % 4)}" for n in range(20_000)]
    found = number_words.number_words(" ".join(some) + "\n")
    assert found.words.split("\n") == ["", UNK, *dict.fromkeys(some)]
    words = found.words.split("\n")
    assert [words[number] for number in found.ids] == [*some, ""]


def test_every_blank_of_python_separates_words():
    blanks = [chr(n) for n in range(sys.maxunicode + 1) if chr(n).isspace() and chr(n) != "\n"]
    found = number_words.number_words("a" + "a".join(blanks) + "a\n")
    assert found.words == f"\n{UNK}\na"
    assert len(found.ids) == len(blanks) + 2


def test_words_with_equal_bits_are_told_apart(monkeypatch):
    lines = ["first-part-a same-end", "other-part-a same-end"]
    expected = WordEncoder(True).encode_lines(lines)
    monkeypatch.setattr(number_words, "_FACTOR", 0)  # all but the last bytes are lost
    assert number_words.number_words("\n".join([*lines, ""])) is None
    found = WordEncoder(True).encode_lines(lines)
    assert found.ids.tolist() == expected.ids.tolist() == [2, 3, 0, 4, 3, 0]
    assert found.words == expected.words


@pytest.mark.parametrize("text", ["a" * (number_words.LONGEST + 1), "a\0 a"])
def test_a_very_long_word_or_a_zero_is_left_to_the_other_way(text: str):
    assert number_words.number_words(text + "\n") is None
    found = WordEncoder(True).encode_lines([text])
    assert found.words.split("\n")[2:] == text.split()
