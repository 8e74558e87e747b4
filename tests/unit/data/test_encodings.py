"""The likely encodings of a text that is not UTF-8 are found from all its bytes."""

import codecs
import gzip
import io
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tiedlm.data import text
from tiedlm.data.encodings import command, how_to_convert
from tiedlm.data.text import lines_of
from tiedlm.errors import UserError
from tiedlm.scoring import read_lines

FRENCH = "Le café était très agréable.\nL’élève « reçu » à l’école – Éric, où êtes-vous ?\n"
GERMAN = "Die Größe der Straßen bleibt schön.\nÜber die Brücke fährt Müller natürlich öfter.\n"
CZECH = "Příliš žluťoučký kůň úpěl ďábelské ódy.\nČeši říkají, že Žižka byl vůdce.\n"
TURKISH = "Bugün yol güzel, İstanbul'da ağaçlar yeşil.\nKuşlar uçuyor. Işık yandı.\n"
RUSSIAN = "Кошка видит собаку.\nСтарый учитель продал дом, а Мария ничего не знает.\n"
GREEK = "Η γάτα βλέπει τον σκύλο.\nΟ δάσκαλος πούλησε το σπίτι του στην Αθήνα.\n"
HEBREW = "החתול רואה את הכלב.\nהמורה הזקן מכר את הבית.\n"
ARABIC = "القطة ترى الكلب.\nباع المعلم القديم البيت، ولا يعرف أحد ذلك.\n"
THAI = "แมวเห็นสุนัข\nครูเก่าขายบ้าน\n"
SIMPLIFIED = "猫看见了狗。老师卖了房子，没有人知道。\n今天天气很好。\n"
TRADITIONAL = "貓看見了狗。老師賣了房子，沒有人知道。\n今天天氣很好。\n"
JAPANESE = "猫が犬を見ています。\n先生は家を売りました。コーヒーを飲む。\n"
KOREAN = "고양이가 개를 봅니다.\n선생님이 집을 팔았습니다.\n"
PLAIN_QUOTES = str.maketrans({"’": "'", "–": "-", "«": '"', "»": '"'})


def message(data, source=io.BytesIO):
    with pytest.raises(UserError) as caught:
        list(lines_of(source(data), "x.txt"))
    return str(caught.value)


@pytest.mark.parametrize(
    ("written", "encoding", "named"),
    [
        (FRENCH, "cp1252", "cp1252"),
        (FRENCH.translate(PLAIN_QUOTES), "latin-1", "cp1252"),  # the same text in both
        (FRENCH.translate(PLAIN_QUOTES), "cp850", "cp850"),
        (FRENCH, "mac-roman", "macintosh"),
        (GERMAN, "cp1252", "cp1252"),
        (GERMAN, "cp850", "cp850"),
        (CZECH, "cp1250", "cp1250"),
        (RUSSIAN, "cp1251", "cp1251"),
        (RUSSIAN, "koi8-r", "koi8-r"),
        (RUSSIAN, "cp866", "cp866"),
        (GREEK, "cp1253", "cp1253"),
        (HEBREW, "cp1255", "cp1255"),
        (ARABIC, "cp1256", "cp1256"),
        (THAI, "cp874", "cp874"),
        (SIMPLIFIED, "gb18030", "gb18030"),
        (TRADITIONAL, "big5", "big5"),
        (JAPANESE, "cp932", "shift_jis"),
        (JAPANESE, "euc-jp", "euc-jp"),
        (KOREAN, "cp949", "euc-kr"),
    ],
)
def test_the_encoding_that_is_named_reads_the_text(written, encoding, named):
    data = ("A line of ASCII.\n" + written).encode(encoding)
    said = message(data)
    assert f"convert it, for example with: iconv -f {named} -t utf-8" in said
    assert data.decode(named) == "A line of ASCII.\n" + written


@pytest.mark.parametrize(
    ("written", "encoding", "shown"),
    [
        (FRENCH, "cp1252", "if 'très' should be 'trčs', from cp1250"),
        (TURKISH, "cp1254", 'should be "İstanbul\'da", from cp1254'),
        (CZECH, "iso8859-2", "should be 'Příliš', from iso-8859-2"),
        (KOREAN, "cp949", "if '고양이가' should be '绊剧捞啊', from gb18030"),
    ],
)
def test_if_several_encodings_are_as_likely_the_words_that_differ_are_shown(
    written, encoding, shown
):
    assert shown in message(written.encode(encoding))


def test_bytes_far_from_the_start_count_too():
    # The first byte fits Latin 1. The last one does not exist in it.
    lines = b"d\xe9j\xe0\n" + b"word " * 50_000 + b"\nit\x92s \x93so\x94\n"
    assert "(byte 0xe9 in line 1); convert it, for example with: iconv -f cp1252" in message(lines)
    # cp1252 does not define 0x81.
    assert "iconv -f cp850" in message(b"\x81ber\n" + b"word " * 50_000 + b"\nsch\x94n\n")


def test_a_character_cut_off_at_the_end_of_the_sample_does_not_count(monkeypatch):
    monkeypatch.setattr(text, "_CHUNK", len(RUSSIAN) + 15)
    for encoding, named in (("cp1251", "cp1251"), ("gb18030", "gb18030")):
        written = RUSSIAN if encoding == "cp1251" else SIMPLIFIED * 20
        assert f"iconv -f {named} " in message((written * 3).encode(encoding))


def test_a_stream_that_cannot_seek_is_accepted():
    program = (
        "import sys; from tiedlm.data.text import lines_of\n"
        "try: list(lines_of(sys.stdin.buffer, 'standard input'))\n"
        "except ValueError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=b"word\n" * 9 + FRENCH.encode("cp1252"), capture_output=True, check=True,
    )  # fmt: skip
    assert b"(byte 0xe9 in line 10)" in done.stdout
    assert b"iconv -f cp1252" in done.stdout


def test_a_text_with_one_line_that_is_not_utf8_is_not_converted_as_a_whole():
    utf8, other = "Größe\n".encode(), b"d\xe9j\xe0\n"
    for data, line in [(utf8 + other, 2), (other + utf8 * 3, 1), (utf8 + b"a\n\xc3", 3)]:
        said = message(data)
        assert f"in line {line}); other lines are UTF-8: correct this one, or drop" in said
        assert "iconv -c -f utf-8 -t utf-8" in said


def test_utf16_is_named_with_and_without_its_mark():
    assert "iconv -f utf-16 -t utf-8" in message(codecs.BOM_UTF16_LE + "猫".encode("utf-16-le"))
    said = message("猫猫\n猫\n".encode("utf-16-be"))
    assert "zero bytes" in said
    assert "if it is UTF-16, save it as UTF-8" in said


def test_bytes_that_no_encoding_reads_get_the_plain_utf8_message():
    data = b"\xb2\xb2x\x9d\xbc\xb9\xb2\x9d\xb9\xa6\n"
    assert how_to_convert(data, 0, 0) == "save it as UTF-8"


def test_a_long_line_is_not_read_whole_in_every_encoding(monkeypatch):
    sizes = []
    monkeypatch.setattr(text, "how_to_convert", lambda data, *_: sizes.append(len(data)) or "")
    message(b"word " * 1_000_000 + b"it\x92s" + b" word" * 800_000)
    assert sizes[0] <= text._CHUNK


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("the book's.txt", FRENCH.encode("cp1252"), FRENCH),
        ("-utf16", codecs.BOM_UTF16_LE + "猫".encode("utf-16-le"), "猫"),
        ("mac.txt", b"one\rtwo\r", "one\ntwo\n"),
        ("packed.txt", gzip.compress(FRENCH.encode()), FRENCH),
        ("packed.txt.gz", gzip.compress(FRENCH.encode("cp1252")), FRENCH),
        ("mixed.v1.txt", FRENCH.encode() * 9 + b"\xff", FRENCH * 9),
    ],
)
def test_the_command_that_is_advised_converts_the_file(tmp_path, monkeypatch, name, data, expected):
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(data)
    with pytest.raises(UserError) as caught:
        list(read_lines(name))
    advised = re.search(r"(?:with|first): (.+? > \S+(?: .*\.new\S*)?)", str(caught.value))[1]
    subprocess.run(advised, shell=True, check=False)  # iconv -c fails where it drops something
    (new,) = set(tmp_path.iterdir()) - {tmp_path / name}
    assert new.read_text(encoding="utf-8") == expected
    assert Path(name).read_bytes() == data


@pytest.mark.parametrize(("suffix", "unpack"), [(".gz", "gunzip -c"), (".zst", "zstd -dc")])
def test_a_compressed_text_is_unpacked_before_it_is_converted(tmp_path, suffix, unpack):
    path = tmp_path / f"a.txt{suffix}"
    path.write_bytes(b"")
    advised = f"{unpack} < {path} | iconv -f cp1252 -t utf-8 > {tmp_path / 'a.new.txt'}"
    assert command("iconv -f cp1252 -t utf-8", path) == advised
