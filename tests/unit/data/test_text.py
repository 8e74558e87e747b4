from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from tiedlm.data import text, tokenize
from tiedlm.data.text import (
    digest,
    examine,
    lacks_blanks,
    looks_tokenized,
    names_table,
    read_lines,
)
from tiedlm.errors import UserError


def test_only_a_newline_ends_a_line_and_blank_lines_count(tmp_path: Path):
    path = tmp_path / "t"
    path.write_bytes("\ufeffa\u2028b\x0bc\r\n\nd".encode())
    assert list(read_lines(path)) == ["a\u2028b\x0bc", "", "d"]
    assert examine(path)[2:] == (3, 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"good\n\x7fELF\x00\x01\n", r"not a text file \(line 2 holds zero bytes\)"),
        ("text".encode("utf-16"), "UTF-16"),
        (b"word\n" * 2000 + b"\0\n", r"not a text file \(line 2001 holds zero bytes\)"),
        (b"good\ncaf\xe9\n", r"not UTF-8 text \(byte 0xe9 in line 2\)"),
    ],
)
def test_bytes_that_are_not_utf8_are_named_with_their_place(tmp_path: Path, content, message):
    path = tmp_path / "t.txt"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        list(read_lines(path))
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_an_overlong_line_is_refused_before_it_is_read_whole(tmp_path: Path, monkeypatch):
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
def test_punctuation_on_words_marks_raw_text(line: str, tokenized: bool):
    assert looks_tokenized([line] * 20) is tokenized


@pytest.mark.parametrize("name", ["a.csv", "A.CSV", "A.Tsv", "a.csv.gz", "/A B/c.TSV.GZ"])
def test_a_table_is_recognised_by_its_name_in_capitals_too(name: str):
    assert names_table(name)
    assert not names_table(name + ".txt")


OTHER_SCRIPTS = {
    "Hindi": "सीता आता है। लड़का, राम खाता है।",
    "Urdu": "کتا گھر بلی گھر۔ آدمی، آدمی آدمی آدمی؟",
    "Bengali": "আমি ভাত খাই। সে, তুমি আসো।",
    "Tamil": "அவன் வந்தான். அவள், நான் போனேன்.",
    "Armenian": "Տղան գնաց տուն։ Կատուն տեսաւ։",
    "Armenian questions": "Ինչո՞ւ գնաց տուն",
    "Amharic": "ልጁ ወደ ቤት ሄደ። ድመቷ መጣች።",
    "vocalised Arabic": "ذَهَبَ الوَلَدُ، إلى البَيْتِ.",
    "vocalised Hebrew": "הַיֶּלֶד הָלַךְ, הַבַּיְתָה.",
    "decomposed Vietnamese": unicodedata.normalize("NFD", "Tôi đi về nhà, rồi ngủ một giấc dài."),
    "Korean": "나는 학교에 갔다. 그는 집에 있다.",
    "Russian": "Он ушел домой, потом он пришел.",
}


@pytest.mark.parametrize("language", OTHER_SCRIPTS)
def test_punctuation_on_words_of_any_script_marks_raw_text(language: str):
    line = OTHER_SCRIPTS[language]
    assert not looks_tokenized([line] * 20)
    assert looks_tokenized([" ".join(tokenize(line))] * 20)


@pytest.mark.parametrize(
    "line",
    [
        "我今天早上去北京大学看朋友了，他很高兴见到我。",
        "私は昨日東京に行きました。とても楽しかったです。",
        "ฉันไปโรงเรียนทุกวันตั้งแต่เช้า แล้วกลับบ้านตอนเย็นกับเพื่อน",
    ],
    ids=["Chinese", "Japanese", "Thai"],
)
def test_text_without_blanks_between_words_is_noticed(line: str):
    assert lacks_blanks([line] * 20)


@pytest.mark.parametrize(
    "line",
    [
        "我 今天 早上 去 北京大学 看 朋友 了 ， 他 很 高兴 。",
        "私 は 昨日 東京 に 行き まし た 。",
        "ฉัน ไป โรงเรียน ทุกวัน ตั้งแต่ เช้า แล้ว กลับบ้าน",
        "The word for it is 東京大学前駅, they say, and nobody asked why it was so.",
        "나는 학교에 갔다.",
        "",
    ],
    ids=["Chinese", "Japanese", "Thai", "English", "Korean", "nothing"],
)
def test_text_with_blanks_between_words_is_left_alone(line: str):
    assert not lacks_blanks([line] * 20)
