from __future__ import annotations

import pickle
from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiedlm.data import EOS, UNK, split_sentences, tokenize
from tiedlm.data.encoder import WordEncoder
from tiedlm.data.marks import Marks

WORDS = st.sampled_from(
    ["the", "cat", "sat.", "It's", "\u00a0", "\u3000", "na\u00efve", EOS, "x<eos>y", UNK, "<s>",
     "</s>", "UNK", "unk", "N", "\x1c", "\u2028", "[PAD]", "_UNK"]
)  # fmt: skip
LINES = st.lists(st.lists(WORDS, max_size=6).map(" ".join), max_size=12)


def line_by_line(lines: list[str], tokenized: bool) -> tuple[list[list[str]], dict]:
    """Return the words of each line, with their ``<eos>``, and the counts of special tokens."""
    marks, found = Marks(tokenized), []
    for line in lines:
        sentences = [line.split()] if tokenized else split_sentences(tokenize(line))
        marks.see(line, sentences)
        found.append([])
        for words in sentences:
            found[-1] += words if words[-1:] == [EOS] else [*words, EOS]
    return found, marks.counts()


@given(lines=LINES, tokenized=st.booleans())
def test_a_block_has_the_words_and_marks_of_its_lines(lines: list[str], tokenized: bool):
    expected, marks = line_by_line(lines, tokenized)
    block = WordEncoder(tokenized).encode_lines(lines)
    words = block.words.split("\n")
    assert [words[number] for number in block.ids] == [*chain.from_iterable(expected)]
    assert block.lengths.tolist() == [len(words) for words in expected]
    assert block.words.split("\n")[:2] == [EOS, UNK]
    assert block.marks.counts() == marks
    assert (block.ids.dtype, block.lengths.dtype) == (np.int32, np.int64)


def test_more_lines_than_are_split_at_once_make_one_block():
    lines = [f"word{number % 700} a b" for number in range(1000)]
    block = WordEncoder(True).encode_lines(lines)
    assert block.lengths.tolist() == [4] * 1000
    words = [block.words.split("\n")[number] for number in block.ids]
    assert " ".join(words) == "".join(f"{line} {EOS} " for line in lines).strip()
    assert block.words.count("\n") == 703


@pytest.mark.parametrize("tokenized", [True, False])
def test_an_encoder_can_be_sent_to_another_process(tokenized: bool):
    encoder = WordEncoder(tokenized)
    sent = pickle.loads(pickle.dumps(encoder))
    assert sent.encode_lines(["It's."]).words == encoder.encode_lines(["It's."]).words
    assert WordEncoder(True).key != WordEncoder(False).key


@given(parts=st.lists(LINES, max_size=3))
def test_marks_of_the_parts_of_a_text_add_up(parts: list[list[str]]):
    total = Marks(True)
    for lines in parts:
        total.add(WordEncoder(True).encode_lines(lines).marks)
    assert total.counts() == line_by_line([*chain.from_iterable(parts)], True)[1]
