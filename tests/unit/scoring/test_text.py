"""Text from any source is split as the corpus was, and a mistake gives one line."""

import gzip
import io
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiedlm.data import Vocabulary, load_corpus, tokenize
from tiedlm.errors import UserError
from tiedlm.scoring import read_lines, sentences

TEXT = "\ufeffthe cat .\r\n\nthe dög .\nno end"


def test_file_gzip_and_standard_input_give_the_same_lines(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_bytes(TEXT.encode())
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(TEXT.encode()))
    (tmp_path / "A.TXT.GZ").write_bytes(gzip.compress(TEXT.encode()))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(TEXT.encode())))
    expected = ["the cat .", "", "the dög .", "no end"]
    for source in (tmp_path / "a.txt", tmp_path / "a.txt.gz", tmp_path / "A.TXT.GZ", "-"):
        assert list(read_lines(source)) == expected


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("none.txt", None, "does not exist"),
        ("empty.txt", b"", "is empty"),
        ("zeros.txt", b"fine\na\0b\n", r"not a text file \(line 2 holds zero bytes\)"),
        ("latin.txt", "fine\ndög\n".encode("latin-1"), r"not UTF-8 text \(byte 0xf6 in line 2\)"),
        ("windows.txt", b"it\x92s\n", "iconv -f cp1252"),
        ("mac.txt", b"one\rtwo\r", "line 1 of .* carriage returns inside"),
        ("cut.gz", gzip.compress(b"abc " * 999)[:-9], "not a complete gzip"),
        ("not.gz", b"plain text\n", "not a complete gzip"),
        ("packed.txt", gzip.compress(b"fine\n"), "packed.txt is compressed; unpack it first"),
        ("empty.gz", gzip.compress(b""), "is empty"),
    ],
)
def test_a_file_that_is_not_text_is_reported_in_one_line(tmp_path, name, data, says):
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=says) as caught:
        list(read_lines(tmp_path / name))
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_is_not_accepted_as_text(tmp_path):
    with pytest.raises(UserError, match="cannot read"):
        list(read_lines(tmp_path))


@pytest.mark.parametrize("tokenizer", [True, False], ids=["raw", "tokenized"])
def test_sentences_are_split_as_in_the_corpus(tmp_path, tokenizer):
    raw = "The cat sees a dog. It barks!\n\nWe heard it, at home, in 1980.\nNo, no, no.\n" * 9
    split = "the cat sees a dog .\n\nno <eos>\nthe dog <unk> it\n" * 9
    for part in ("train", "valid", "test"):
        (tmp_path / f"{part}.txt").write_text(raw if tokenizer else split)
    corpus = load_corpus(str(tmp_path), progress=False)
    assert (corpus.info["tokenizer"] == "tiedlm") is tokenizer
    found = list(
        sentences(
            read_lines(tmp_path / "test.txt"),
            corpus.vocabulary,
            tokenizer=tokenizer,
            blank_lines=not tokenizer,
        )
    )
    np.testing.assert_array_equal(np.concatenate([one.ids for one in found]), corpus.test)
    assert [one.number for one in found] == list(range(1, len(found) + 1))


def test_words_stay_as_written_and_lines_are_counted(vocabulary):
    first, second = sentences(["w1 Hm", "", "w2"], vocabulary, tokenizer=False, blank_lines=False)
    assert first.words == ("w1", "Hm", "<eos>")
    assert first.ids.tolist() == [3, 1, 0]
    assert (second.number, second.line) == (2, 3)


PIECES = [*"aAbN019.,:;!?\"'-—…“’()<&$", "\u200b", "\u0301", "Σ", " ", "\t", "\x85", "\xa0", "\x1c"]
WHOLE = ["<unk>", "<eos>", "n't", "'s", "Mr.", "u.s.", "..", "--", "``", "''", "the ", " I. "]


@given(text=st.lists(st.sampled_from(PIECES + WHOLE), max_size=14).map("".join))
@settings(max_examples=300, deadline=None)
def test_no_word_contains_a_blank_so_each_belongs_to_one_part_of_its_line(text):
    vocabulary = Vocabulary(("<eos>", "<unk>"))
    for whole in (False, True):
        found = list(
            sentences([text], vocabulary, tokenizer=True, blank_lines=False, whole_lines=whole)
        )
        by_part = {}
        for one in found:
            for word, region in zip(one.words, one.regions, strict=True):
                if region:
                    by_part.setdefault(one.parts[region - 1], {}).setdefault(region, []).append(
                        word
                    )
        for part, regions in by_part.items():
            assert all(words == tokenize(part) for words in regions.values())
        assert sum(r > 0 for one in found for r in one.regions) == len(tokenize(text))
        assert len(found) <= 1 or not whole


def test_the_written_form_stays_beside_the_word_that_is_known():
    vocabulary = Vocabulary(["<eos>", "<unk>", "the", "well-known", "cat", "."])
    line = "The well\u2011known \u200ecat\u202c \u2066 ."
    (sentence,) = sentences([line], vocabulary, tokenizer=True, blank_lines=False)
    assert sentence.words == ("the", "well-known", "cat", ".", "<eos>")
    assert sentence.ids.tolist() == [2, 3, 4, 5, 0]
    written = [sentence.parts[region - 1] for region in sentence.regions[:-1]]
    assert written == ["The", "well\u2011known", "\u200ecat\u202c", "."]


def test_tokenized_text_keeps_its_words():
    vocabulary = Vocabulary(["<eos>", "<unk>", "well-known"])
    (sentence,) = sentences(["well\u2011known"], vocabulary, tokenizer=False, blank_lines=False)
    assert sentence.words == ("well\u2011known", "<eos>")
