"""Text files, read line by line within bounds and checked on the way."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tiedlm.data.characters import HAN_AND_KANA, LETTER, SOUTH_EAST_ASIAN
from tiedlm.data.encodings import how_to_convert
from tiedlm.data.tokenizer import ABBREVIATIONS
from tiedlm.errors import UserError

MAX_LINE = 10_000_000  # bytes
_CHUNK = 1 << 20
_HEAD = 8192  # bytes: a binary file shows itself here, whatever its lines look like
_SAMPLE = 200_000  # characters that decide whether a text is tokenized
# A word, but no abbreviation, with its punctuation still on it. The marks of other scripts, and a
# Korean word before one, tell it whatever the word's length: they have no such abbreviations.
_CLOSERS = r"""["'”’»)\]]*$"""
_ATTACHED = re.compile(
    rf"(?!(?i:{ABBREVIATIONS})\.){LETTER}{{3,}}[,;:!?.]{_CLOSERS}"
    rf"|{LETTER}*[\uac00-\ud7a3][,;:!?.]{_CLOSERS}"
    rf"|{LETTER}+[؟،؛۔।॥։՝።፣፤፥፧။၊។]{_CLOSERS}"
    rf"|.*[{HAN_AND_KANA}][，、。！？；：．]"
)
_UNBROKEN = re.compile(f"[{HAN_AND_KANA}]{{6,}}|[{SOUTH_EAST_ASIAN}]{{13,}}")  # several words long
_UNBROKEN_SHARE = 0.3
_RAW_SHARE = 0.03
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True)
class Digest:
    """What one pass over a file's bytes tells."""

    sha256: str
    size: int
    lines: int


def digest(path: Path) -> Digest:
    """Hash a file and count its lines.

    Raises:
        UserError: if the file cannot be read.
    """
    sha = hashlib.sha256()
    size = lines = 0
    last = b"\n"
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                sha.update(chunk)
                size += len(chunk)
                lines += chunk.count(b"\n")
                last = chunk[-1:]
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    return Digest(sha.hexdigest(), size, lines + (last != b"\n"))


def count_blank_lines(path: Path) -> int:
    """Count the lines of nothing but blanks, in ASCII."""
    blank = 0
    with path.open("rb") as file:
        while line := file.readline(MAX_LINE):
            blank += not line.strip()
    return blank


def read_lines(path: Path) -> Iterator[str]:
    """Yield the lines of a UTF-8 file without their ends, blank ones too.

    Lines end with a newline only; memory is bounded by the longest line, and that by
    ``MAX_LINE``.

    Raises:
        UserError: if the file is missing, empty, binary or not UTF-8, or a line is endless.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
            if head.startswith(_GZIP):
                raise UserError(f"{path} is compressed; unpack it first: gunzip -k {path}")
            if b"\0" in head:
                raise _not_text(path, 1 + head[: head.index(b"\0")].count(b"\n"))
            file.seek(0)
            yield from lines_of(file, path)
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error


def lines_of(file: IO[bytes], name: Path | str) -> Iterator[str]:
    """Yield the lines of an open UTF-8 text without their ends, blank ones too.

    The first is without a byte order mark.

    Args:
        file: read from where it is.
        name: of the text, for a message.

    Raises:
        UserError: if it is empty, binary or not UTF-8, a line is endless, or carriage returns are
            left: line ends of old Macs, and of some spreadsheets.
    """
    number = known = 0
    while line := file.readline(MAX_LINE + 1):
        number += 1
        if number == 1 and line.startswith(_GZIP):
            raise UserError(f"{name} is compressed; unpack it first: gunzip -c")
        try:
            text = _decode(line, name, number)
        except UnicodeDecodeError as error:
            raise _not_utf8(error, file.read(_CHUNK), name, number, known) from error
        known += not text.isascii()
        yield text
    if number == 0:
        raise UserError(f"{name} is empty; a text was expected")


def _decode(line: bytes, name: Path | str, number: int) -> str:
    if b"\0" in line:
        raise _not_text(name, number)
    if len(line) > MAX_LINE:
        raise UserError(
            f"line {number} of {name} is longer than {MAX_LINE // 1_000_000} MB; put one sentence "
            "or paragraph on each line"
        )
    text = line.decode("utf-8")
    text = (text.removeprefix("\ufeff") if number == 1 else text).rstrip("\r\n")
    if "\r" in text:
        raise UserError(
            f"line {number} of {name} has carriage returns inside; if lines end with them, convert "
            "it, for example with: tr '\\r' '\\n'"
        )
    return text


def _not_utf8(
    error: UnicodeDecodeError, rest: bytes, name: Path | str, number: int, known: int
) -> UserError:
    """Say which byte is not UTF-8 and, from what follows it too, how to convert the text."""
    if b"\0" in rest:
        return _not_text(name, number + 1 + rest[: rest.index(b"\0")].count(b"\n"))
    line, wrong = error.object, error.start
    begin = line.rfind(b" ", 0, wrong) + 1 if wrong > _HEAD else 0
    data = line[begin:] + rest
    if len(data) >= _CHUNK:  # what is cut off may end within a character
        data = data[:_CHUNK]
        data = data[: max(data.rfind(b"\n"), data.rfind(b" ")) + 1] or data
    return UserError(
        f"{name} is not UTF-8 text (byte 0x{line[wrong]:02x} in line {number}); "
        + how_to_convert(data, wrong - begin, known)
    )


def _not_text(name: Path | str, number: int) -> UserError:
    return UserError(
        f"{name} is not a text file (line {number} holds zero bytes); unpack it if it is "
        "compressed; if it is UTF-16, save it as UTF-8"
    )


def names_table(name: str) -> bool:
    """Tell whether a file's name is that of a table, packed or not, in capitals or not."""
    return name.lower().removesuffix(".gz").endswith((".csv", ".tsv"))


def looks_tokenized(lines: Iterable[str]) -> bool:
    """Tell whether a text is already split into words.

    Raw text has punctuation on its words (``home.``, ``and,``, ``है।``); in tokenized text
    punctuation stands alone or is not there. A text is taken as raw if more than 3 in 100 of the
    words in its first 200,000 characters carry a mark.
    """
    words = attached = 0
    for line in _sample(lines):
        chunks = line.split()
        words += len(chunks)
        attached += sum(bool(_ATTACHED.match(chunk)) for chunk in chunks)
    return attached <= _RAW_SHARE * words


def lacks_blanks(lines: Iterable[str]) -> bool:
    """Tell whether a text is written without blanks between words, as Chinese or Thai is.

    It is if 3 in 10 of its characters, blanks apart, are in long runs of letters of such a script.
    """
    characters = unbroken = 0
    for line in _sample(lines):
        characters += len("".join(line.split()))
        unbroken += sum(map(len, _UNBROKEN.findall(line)))
    return unbroken > _UNBROKEN_SHARE * characters


def _sample(lines: Iterable[str]) -> Iterator[str]:
    """Yield the lines that hold the first 200,000 characters."""
    characters = 0
    for line in lines:
        yield line
        characters += len(line)
        if characters > _SAMPLE:
            return
