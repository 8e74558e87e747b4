"""Read text files line by line in bounded memory, and check that they are UTF-8 text."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO, NamedTuple

from tiedlm.data.characters import ARMENIAN, ARMENIAN_INSIDE, HAN_AND_KANA, LETTER, SOUTH_EAST_ASIAN
from tiedlm.data.compressed import GZIP, open_text, plain_name
from tiedlm.data.encodings import command, how_to_convert
from tiedlm.data.tokenizer import ABBREVIATIONS
from tiedlm.errors import UserError

MAX_LINE = 10_000_000  # bytes
_CHUNK = 1 << 20
_HEAD = 8192  # bytes: a zero among them shows that the file is binary
SAMPLE = 200_000  # characters that decide whether a text is tokenized
# A word, but not an abbreviation, with punctuation attached. Korean words and the punctuation of
# other scripts count at any length, because these scripts have no such abbreviations.
_CLOSERS = r"""["'”’»)\]]*$"""
_ATTACHED = re.compile(
    rf"(?!(?i:{ABBREVIATIONS})\.){LETTER}{{3,}}[,;:!?.]{_CLOSERS}"
    rf"|{LETTER}*[\uac00-\ud7a3][,;:!?.]{_CLOSERS}"
    rf"|{LETTER}+[؟،؛۔।॥։՝{ARMENIAN_INSIDE}።፣፤፥፧။၊។]{_CLOSERS}"
    rf"|[{ARMENIAN}]+[{ARMENIAN_INSIDE}][{ARMENIAN}]"
    rf"|.*[{HAN_AND_KANA}][，、。！？；：．]"
)
_UNBROKEN = re.compile(f"[{HAN_AND_KANA}]{{6,}}|[{SOUTH_EAST_ASIAN}]{{13,}}")  # too long for a word
_UNBROKEN_SHARE = 0.3
_RAW_SHARE = 0.03


def digest(path: Path) -> str:
    """Return the SHA-256 of a file.

    Raises:
        UserError: if the file cannot be read.
    """
    sha = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                sha.update(chunk)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    return sha.hexdigest()


class TextFacts(NamedTuple):
    """Facts about an unpacked text file: its hash, size in bytes, lines, and blank lines."""

    sha256: str
    size: int
    lines: int
    blank: int


def examine(path: Path) -> TextFacts:
    """Hash a text, and count its lines and those that hold nothing but ASCII whitespace.

    Raises:
        UserError: if the file cannot be read, or its compressed data is damaged.
    """
    sha = hashlib.sha256()
    size = lines = blank = 0
    with open_text(path) as file:
        while data := file.read(_CHUNK):
            data += file.readline(MAX_LINE)
            sha.update(data)
            size += len(data)
            found = data.removesuffix(b"\n").split(b"\n")
            lines += len(found)
            blank += len(found) - sum(map(bool, map(bytes.strip, found)))
    return TextFacts(sha.hexdigest(), size, lines, blank)


def read_lines(path: Path) -> Iterator[str]:
    """Yield the lines of a UTF-8 file without their line ends, as :func:`read_chunks` reads them.

    Raises:
        UserError: as :func:`read_chunks`.
    """
    return chain.from_iterable(read_chunks(path))


def read_chunks(path: Path) -> Iterator[list[str]]:
    """Yield the lines of a UTF-8 file without their line ends, many at a time, blank ones included.

    Only a newline ends a line. Memory is bounded by the longest line, which may have ``MAX_LINE``
    bytes. Gzip and Zstandard are unpacked.

    Raises:
        UserError: if the file is missing, empty, damaged, binary or not UTF-8, or a line is too
            long.
    """
    with open_text(path) as file:
        seen = _Seen()
        while data := file.read(_CHUNK):
            data += file.readline(MAX_LINE + 1)
            lines = _plain_lines(data, seen)
            yield list(_one_by_one(io.BytesIO(data), path, seen, file)) if lines is None else lines
        if not seen.lines:
            raise _empty(path)


@dataclass
class _Seen:
    """The number of lines read so far, and how many of them are not ASCII."""

    lines: int = 0
    not_ascii: int = 0


def _plain_lines(data: bytes, seen: _Seen) -> list[str] | None:
    """Split a text of whole lines into lines; None if they must be checked one by one."""
    if len(data) > MAX_LINE or b"\0" in data:
        return None
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n")
        if b"\r" in data:
            return None
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return None
    if seen.lines == 0:
        text = text.removeprefix("\ufeff")
    lines = text.removesuffix("\n").split("\n")
    seen.lines += len(lines)
    if not text.isascii():
        seen.not_ascii += len(lines) - sum(map(str.isascii, lines))
    return lines


def lines_of(file: IO[bytes], name: Path | str) -> Iterator[str]:
    """Yield the lines of an open UTF-8 text without their line ends, blank lines included.

    A byte order mark is removed.

    Args:
        file: the open file, read from its current position.
        name: the name of the text, for error messages.

    Raises:
        UserError: if the text is empty, binary or not UTF-8, a line is too long, or a line contains
            carriage returns, which end lines on old Macs and in some spreadsheets.
    """
    seen = _Seen()
    yield from _one_by_one(file, name, seen)
    if not seen.lines:
        raise _empty(name)


def _one_by_one(
    file: IO[bytes], name: Path | str, seen: _Seen, after: IO[bytes] | None = None
) -> Iterator[str]:
    """Yield the lines of a text, each checked.

    Args:
        file: the open text.
        name: its name, for error messages.
        seen: counts the lines read so far; these lines are added.
        after: what follows the text, for a sample of its encoding.
    """
    while line := file.readline(MAX_LINE + 1):
        seen.lines += 1
        if seen.lines == 1 and line.startswith(GZIP):
            raise UserError(f"{name} is compressed; unpack it first: {command('gunzip -c', name)}")
        try:
            text = _decode(line, name, seen.lines)
        except UnicodeDecodeError as error:
            rest = file.read(_CHUNK)
            if after is not None:
                rest += after.read(_CHUNK - len(rest))
            raise _not_utf8(error, rest, name, seen.lines, seen.not_ascii) from error
        seen.not_ascii += not text.isascii()
        yield text


def _empty(name: Path | str) -> UserError:
    return UserError(f"{name} is empty; expected a text")


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
            "it, for example with: " + command(r"tr '\r' '\n'", name)
        )
    return text


def _not_utf8(
    error: UnicodeDecodeError, rest: bytes, name: Path | str, number: int, known: int
) -> UserError:
    """Return an error that names the byte that is not UTF-8 and says how to convert the text."""
    if b"\0" in rest:
        return _not_text(name, number + 1 + rest[: rest.index(b"\0")].count(b"\n"))
    line, wrong = error.object, error.start
    begin = line.rfind(b" ", 0, wrong) + 1 if wrong > _HEAD else 0
    data = line[begin:] + rest
    if len(data) >= _CHUNK:  # the cut may fall inside a character
        data = data[:_CHUNK]
        data = data[: max(data.rfind(b"\n"), data.rfind(b" ")) + 1] or data
    return UserError(
        f"{name} is not UTF-8 text (byte 0x{line[wrong]:02x} in line {number}); "
        + how_to_convert(data, wrong - begin, known, name)
    )


def _not_text(name: Path | str, number: int) -> UserError:
    return UserError(
        f"{name} is not a text file (line {number} holds zero bytes); unpack it if it is "
        "compressed; if it is UTF-16, save it as UTF-8"
    )


def names_table(name: str) -> bool:
    """Return whether a file name ends in .csv or .tsv, in any case, compressed or not."""
    return plain_name(name).lower().endswith((".csv", ".tsv"))


def looks_tokenized(lines: Iterable[str]) -> bool:
    """Return whether a text is already split into words.

    In raw text, punctuation is attached to words (``home.``, ``and,``, ``है।``). In tokenized text
    it stands alone or is absent. A text counts as raw if more than 3 in 100 of the words in its
    first 200,000 characters have punctuation attached.
    """
    words = attached = 0
    for line in _sample(lines):
        chunks = line.split()
        words += len(chunks)
        attached += sum(bool(_ATTACHED.match(chunk)) for chunk in chunks)
    return attached <= _RAW_SHARE * words


def lacks_blanks(lines: Iterable[str]) -> bool:
    """Return whether a text has no spaces between words, as in Chinese or Thai.

    It has none if more than 3 in 10 of its characters, not counting whitespace, are in long runs of
    letters of such a script.
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
        if characters > SAMPLE:
            return
