"""Guess the encoding of a text that is not UTF-8, and write the command that converts it."""

from __future__ import annotations

import codecs
import re
import shlex
import unicodedata
from itertools import islice
from pathlib import Path
from typing import NamedTuple

# Python's name -> iconv's. Of encodings that fit equally well, the earlier is suggested first.
_ENCODINGS = {
    "cp1252": "cp1252", "cp1250": "cp1250", "iso8859-2": "iso-8859-2", "cp1254": "cp1254",
    "cp1257": "cp1257", "cp1255": "cp1255", "cp1251": "cp1251", "koi8-r": "koi8-r",
    "cp866": "cp866", "cp1253": "cp1253", "cp1256": "cp1256", "cp874": "cp874", "cp850": "cp850",
    "mac-roman": "macintosh", "cp932": "shift_jis", "euc-jp": "euc-jp", "cp949": "euc-kr",
    "gb18030": "gb18030", "big5": "big5",
}  # fmt: skip
_UNPACK = {".gz": "gunzip -c", ".zst": "zstd -dc"}
_JAPANESE = ("cp932", "euc-jp")
_HIRAGANA = re.compile("[\u3041-\u3096]")
_BEYOND_ASCII = re.compile(r"[^\x00-\x7f]")
_SAMPLE = 5_000  # non-ASCII characters to examine
_MOST = 3  # encodings to suggest
_AS_GOOD = 0.02  # readings this close in oddity to the best count as equally good
_TOO_ODD = 0.5
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_OPENING, _CLOSING = "“„«‹‚", "”"
_USUAL = "’‘»›–—…•€£§©®™°±½¼¾¿¡\xa0´，。、！？：；（）《》「」『』【】～\u3000"


class _Reading(NamedTuple):
    encoding: str
    text: str
    oddity: float


def command(tool: str, name: Path | str) -> str:
    """Return the shell command with which a tool writes a text to a new file.

    Args:
        tool: the tool with its options; it reads standard input and writes standard output.
        name: the file. For the name of a stream, which is no file, the command is the tool alone.
    """
    path = Path(name)
    if not path.is_file():
        return tool
    old = shlex.quote(str(name))
    unpack = _UNPACK.get(path.suffix.lower())
    if unpack is None:
        run = f"{tool} < {old}"
    else:
        path = path.with_suffix("")
        run = f"{unpack} < {old} | {tool}"
    return f"{run} > {shlex.quote(str(path.with_name(f'{path.stem}.new{path.suffix}')))}"


def how_to_convert(data: bytes, wrong: int, known: int, name: Path | str = "") -> str:
    """Return advice on how to convert a text that is not UTF-8.

    The text is decoded with each candidate encoding. An encoding is the more likely, the fewer
    characters appear where nobody writes them, such as a capital inside a word. If several
    encodings are equally likely, the advice shows how to choose.

    Args:
        data: the text from the start of its first line that is not UTF-8.
        wrong: offset in ``data`` of the first byte that is not UTF-8.
        known: how many of the lines before are UTF-8 beyond ASCII.
        name: the file, or the name of the stream.
    """
    if wrong == 0 and data.startswith(_UTF16):
        return f"convert it, for example with: {command('iconv -f utf-16 -t utf-8', name)}"
    lines = [line for line in data.split(b"\n")[:-1] if not line.isascii()]
    known += sum(map(_is_utf8, lines))
    if 10 * known >= max(1, len(lines)):
        return (
            "other lines are UTF-8: correct this one, or drop the invalid bytes with: "
            + command("iconv -c -f utf-8 -t utf-8", name)
        )
    readings = _readings(data)
    if not readings:
        return "save it as UTF-8"
    best, *others = readings
    start = len(data[:wrong].decode(_python_name(best)))
    advice = (
        "convert it, for example with: "
        f"{command(f'iconv -f {best.encoding} -t utf-8', name)} "
        f"(which reads {_word(best.text, start)!r})"
    )
    for other in others:
        pairs = zip(best.text, other.text, strict=False)
        start = next((place for place, (one, two) in enumerate(pairs) if one != two), 0)
        here, there = (_word(reading.text, start) for reading in (best, other))
        advice += f"; or, if {here!r} should be {there!r}, from {other.encoding}"
    return advice


def _python_name(reading: _Reading) -> str:
    return next(name for name, iconv in _ENCODINGS.items() if iconv == reading.encoding)


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _word(text: str, place: int) -> str:
    """Return the word at an offset, or the first 24 characters of a long one."""
    start = max(text.rfind(blank, 0, place) for blank in " \t\n") + 1
    return re.split(r"[ \t\r\n]", text[start : max(place, start + 23) + 1], maxsplit=1)[0][:24]


def _readings(data: bytes) -> list[_Reading]:
    """Return the likely readings, most likely first."""
    found: dict[str, _Reading] = {}
    for encoding, name in _ENCODINGS.items():
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if encoding not in _JAPANESE or _HIRAGANA.search(text):
            found.setdefault(text, _Reading(name, text, _oddity(text)))
    least = min((reading.oddity for reading in found.values()), default=1.0)
    if least > _TOO_ODD:
        return []
    return [reading for reading in found.values() if reading.oddity <= least + _AS_GOOD][:_MOST]


def _oddity(text: str) -> float:
    """Return the share of non-ASCII characters at places where nobody would write them."""
    padded = f" {text} "
    places = islice(_BEYOND_ASCII.finditer(padded), _SAMPLE)
    odd = [_is_odd(*padded[match.start() - 1 : match.end() + 1]) for match in places]
    return sum(odd) / max(1, len(odd))


def _is_odd(before: str, char: str, after: str) -> bool:
    if char in _OPENING:
        return before.isalnum()
    if char in _CLOSING:
        return before.isspace() and after.isalnum()
    if not _is_letter(char):
        return char not in _USUAL
    # A capital inside a word, or a word in capitals: a lower-case reading is likelier.
    if char.isupper() and (before.islower() or (before.isupper() and not before.isascii())):
        return True
    neighbours = [other for other in (before, after) if _is_letter(other)]
    if any(_script(other) != _script(char) for other in neighbours):
        return True
    # A word of accented Latin letters only is a misread word of another script.
    accents = [other for other in neighbours if not other.isascii()]
    return _script(char) == "LATIN" and len(accents) == 2


def _is_letter(char: str) -> bool:
    return char.isalpha() or unicodedata.category(char).startswith("M")


def _script(letter: str) -> str:
    script = re.split("[ -]", unicodedata.name(letter, "?"), maxsplit=1)[0]
    return "CJK" if script in ("HIRAGANA", "KATAKANA") else script
