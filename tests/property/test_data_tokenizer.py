from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tiedlm.data import split_sentences, tokenize

TRICKY = [
    *["don't", "N", "<unk>", "<eos>", "u.s.", "mr.", "'s", "n't", "...", "--", "1,000.5", "12:30"],
    *["9/11", "'", '"', "``", "''", ".", "a.", "i.", " ", "It", "peace.We", "'re", "x", "\u0301"],
    *["\u200d", "\u200c", "\u200e", "´", "\u1fef", "\u0338", ">", "\x1f", "\x85", "ﬁ", "\u2011"],
    *["—", "’", "“", "\u00ad", "İ", "Σ", "ब", "ि", "।", "(", "]", "5", "-", "\n", "_", "½", "É"],
    *["ինչ", "ո", "ւ", "Ս", "՞", "՛", "՜", "՟", "՝", "։", "և"],
]
texts = st.lists(st.sampled_from(TRICKY), max_size=12).map("".join) | st.text(max_size=30)


@given(texts)
def test_tokenizing_tokenized_text_changes_nothing(text: str):
    for words in split_sentences(tokenize(text)):
        assert split_sentences(tokenize(" ".join(words))) == [words]


@given(texts)
def test_a_token_is_never_empty_and_never_holds_a_blank(text: str):
    assert all(word.split() == [word] for word in tokenize(text))


@given(texts)
def test_sentences_hold_every_word_in_its_order(text: str):
    words = tokenize(text)
    assert [word for sentence in split_sentences(words) for word in sentence] == words


@given(texts)
def test_no_word_contains_a_blank(text: str):
    parts = [word for part in text.split() for word in tokenize(part)]
    assert parts == tokenize(text)


@given(st.lists(st.sampled_from(["cat", "the-dog", "été", "हिन्दी", ",", "N", "n't"]), max_size=20))
def test_plain_words_are_kept(words: list[str]):
    assert tokenize(" ".join(words)) == words
