from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tiedlm.data import Vocabulary
from tiedlm.errors import UserError


def test_words_are_ordered_by_frequency_and_ties_by_their_characters():
    vocabulary = Vocabulary.from_counts({"b": 2, "c": 5, "a": 2, "<eos>": 9})
    assert vocabulary.words == ("<eos>", "<unk>", "c", "a", "b")


def test_order_of_counting_does_not_change_the_vocabulary():
    counts = {"x": 1, "y": 1, "z": 3}
    assert Vocabulary.from_counts(counts) == Vocabulary.from_counts(dict(reversed(counts.items())))


def test_min_count_keeps_words_seen_that_often():
    vocabulary = Vocabulary.from_counts({"often": 3, "twice": 2, "once": 1}, min_count=2)
    assert vocabulary.words == ("<eos>", "<unk>", "often", "twice")


def test_max_size_counts_eos_and_unk():
    assert len(Vocabulary.from_counts({"a": 3, "b": 2, "c": 1}, max_size=4)) == 4


def test_unknown_words_become_unk():
    vocabulary = Vocabulary(["<eos>", "<unk>", "cat"])
    assert vocabulary.encode(["cat", "dog", "<eos>"]).tolist() == [2, 1, 0]
    assert vocabulary.encode(["cat"]).dtype == np.int32
    assert vocabulary.encode([]).shape == (0,)


def test_a_word_that_is_not_known_is_an_error_without_unk():
    vocabulary = Vocabulary(["<eos>", "cat"])
    assert vocabulary.unk_id is None
    assert vocabulary.encode(["cat", "<eos>"]).tolist() == [1, 0]
    with pytest.raises(UserError, match="'dog' is not in the vocabulary"):
        vocabulary.encode(["cat", "dog"])


@pytest.mark.parametrize("ids", [[3], [-1], np.array([0, 7])])
def test_an_id_outside_the_vocabulary_is_an_error(ids):
    with pytest.raises(UserError, match="ids go from 0 to 2"):
        Vocabulary(["<eos>", "<unk>", "cat"]).decode(ids)


def test_line_number_is_the_id_in_the_file(tmp_path: Path):
    vocabulary = Vocabulary(["<eos>", "<unk>", "é", "n't", "का"])
    vocabulary.save(tmp_path / "vocabulary.txt")
    lines = (tmp_path / "vocabulary.txt").read_bytes().decode().split("\n")
    assert lines == [*vocabulary.words, ""]
    assert Vocabulary.load(tmp_path / "vocabulary.txt") == vocabulary


def test_line_ends_and_the_mark_of_another_system_are_read(tmp_path: Path):
    (tmp_path / "v").write_bytes(b"\xef\xbb\xbf<eos>\r\ncat\r\n")
    assert Vocabulary.load(tmp_path / "v").words == ("<eos>", "cat")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<eos>\ncat\ncat\n", "'cat' twice"),
        (b"<eos>\n\ncat\n", "word 1 of the vocabulary is ''"),
        (b"<eos>\ntwo words\n", "'two words'"),
        (b"cat\ndog\n", "has no <eos>"),
        (b"", "may not be empty"),
        (b"<eos>\n\xff\n", "not UTF-8"),
    ],
)
def test_a_file_that_is_not_a_vocabulary_is_named(tmp_path: Path, content: bytes, message: str):
    path = tmp_path / "vocabulary.txt"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        Vocabulary.load(path)
    assert str(path) in str(error.value)


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(UserError, match="does not exist"):
        Vocabulary.load(tmp_path / "none.txt")


@pytest.mark.parametrize(("max_size", "min_count"), [(2, 1), (None, 0)])
def test_senseless_limits_are_errors(max_size, min_count):
    with pytest.raises(UserError, match=r"--vocab-size 2 is too small|--min-count: .* got 0"):
        Vocabulary.from_counts({"a": 1}, max_size=max_size, min_count=min_count)
