from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from tiedlm.data import text
from tiedlm.data.text import count_blank_lines, digest, looks_tokenized, names_table, read_lines
from tiedlm.errors import UserError


def test_only_a_newline_ends_a_line_and_blank_lines_count(tmp_path: Path):
    path = tmp_path / "t"
    path.write_bytes("\ufeffa\u2028b\x0bc\r\n\nd".encode())
    assert list(read_lines(path)) == ["a\u2028b\x0bc", "", "d"]
    assert digest(path).lines == 3
    assert count_blank_lines(path) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"good\n\x7fELF\x00\x01\n", r"not a text file \(line 2 holds zero bytes\)"),
        ("text".encode("utf-16"), "UTF-16"),
        (gzip.compress(b"text"), "is compressed; unpack it first: gunzip -k"),
        (b"word\n" * 2000 + b"\0\n", r"not a text file \(line 2001 holds zero bytes\)"),
        (b"good\ncaf\xe9\n", r"not UTF-8 text \(byte 0xe9 in line 2\)"),
    ],
)
def test_what_is_no_utf8_text_is_named_with_its_place(tmp_path: Path, content, message):
    path = tmp_path / "t.txt"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        list(read_lines(path))
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_an_endless_line_is_refused_before_it_is_read_whole(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(text, "MAX_LINE", 1000)
    path = tmp_path / "t.txt"
    path.write_bytes(b"a\n" + b"x " * 500 + b"\n")
    with pytest.raises(UserError, match=r"line 2 .* is longer than"):
        list(read_lines(path))
    path.write_bytes(b"a\n" + b"x " * 499 + b"\n")
    assert len(list(read_lines(path))) == 2


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path):
    with pytest.raises(UserError, match="does not exist"):
        list(read_lines(tmp_path / "none"))
    with pytest.raises(UserError, match="Is a directory"):
        digest(tmp_path)


@pytest.mark.parametrize(
    ("line", "tokenized"),
    [
        ("no it was n't black monday but while the <unk> inc. index fell N points", True),
        ("Valkyria of the Battlefield 3 , commonly referred to as VC3 .", True),
        ("We met, we spoke, and we parted. It was late.", False),
        ("a transcript without any punctuation at all", True),
        ("", True),
    ],
)
def test_punctuation_on_words_tells_raw_text(line: str, tokenized: bool):
    assert looks_tokenized([line] * 20) is tokenized


@pytest.mark.parametrize("name", ["a.csv", "A.CSV", "A.Tsv", "a.csv.gz", "/A B/c.TSV.GZ"])
def test_a_table_is_known_by_its_name_in_capitals_too(name: str):
    assert names_table(name)
    assert not names_table(name + ".txt")
