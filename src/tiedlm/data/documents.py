"""Read the documents of a text file, of JSON lines or of a Parquet file, line by line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from tiedlm.data.compressed import plain_name
from tiedlm.data.text import TextFacts, digest, examine, read_chunks, read_lines
from tiedlm.errors import UserError, require

Kind = Literal["text", "records", "parquet"]
FIELD = "text"  # of a record, unless another is named
_KINDS: dict[str, Kind] = {
    **dict.fromkeys((".txt", ".text", ".tokens"), "text"),
    **dict.fromkeys((".jsonl", ".ndjson"), "records"),
    ".parquet": "parquet",
}
LINE_END = re.compile("\r\n|\r|\n")  # other marks, such as U+2028, end no line
_TEXT_TYPE = re.compile("(large_)?string|dictionary<values=(large_)?string")
_ROWS = 256  # read at a time
_TOGETHER = 1 << 18  # characters of records that are yielded at a time


def has_text_name(path: Path) -> bool:
    """Tell by a file's name whether it is a text, JSON lines or a Parquet file."""
    return Path(plain_name(path.name)).suffix.lower() in _KINDS


def kind_of(path: Path) -> Kind:
    """Return the kind of a file by its name: text, unless the name says something else."""
    return _KINDS.get(Path(plain_name(path.name)).suffix.lower(), "text")


def examine_documents(path: Path) -> TextFacts:
    """Hash a file, and count its lines or records.

    A line of JSON or a row of Parquet counts as a line that is not blank.
    """
    if kind_of(path) != "parquet":
        return examine(path)
    sha256 = digest(path)
    return TextFacts(sha256, path.stat().st_size, _open_parquet(path).metadata.num_rows, 0)


class Lines(NamedTuple):
    """Some lines of a text.

    Args:
        lines: the lines, without their ends.
        begins: the numbers of the lines with which documents begin.
    """

    lines: list[str]
    begins: list[int]


def read_documents(path: Path, field: str = FIELD) -> Iterator[Lines]:
    """Yield the lines of a file, many at a time.

    In a text, a document begins with the file and after blank lines. In JSON lines and in Parquet,
    each record is a document.

    Args:
        path: the file; a ``.jsonl`` or a ``.parquet`` is recognised by its name.
        field: the field of a record that holds its text.

    Raises:
        UserError: if the file cannot be read, or a record has no text in that field.
    """
    kind = kind_of(path)
    if kind == "text":
        return _text_documents(path)
    records = _json_texts(path, field) if kind == "records" else _parquet_texts(path, field)
    return _record_documents(records, field)


def _text_documents(path: Path) -> Iterator[Lines]:
    follows_blank = True
    for lines in read_chunks(path):
        blank = [number for number, line in enumerate(lines) if not line or line.isspace()]
        after = {number + 1 for number in blank} | ({0} if follows_blank else set())
        yield Lines(lines, sorted(after.difference(blank, [len(lines)])))
        follows_blank = len(lines) in after


def _record_documents(records: Iterator[tuple[str, str]], field: str) -> Iterator[Lines]:
    """Yield the lines of records, given as their places and texts."""
    found, size = Lines([], []), 0
    for place, text in records:
        if "\0" in text:
            raise UserError(f"{place}: {field!r} holds a zero character; remove it")
        if not text.strip():
            raise UserError(f"{place}: {field!r} is empty; remove the record")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise UserError(
                f"{place}: {field!r} holds {text[error.start]!r}, half a character; remove it"
            ) from error
        found.begins.append(len(found.lines))
        found.lines.extend(LINE_END.split(text.removesuffix("\n").removesuffix("\r")))
        size += len(text)
        if size >= _TOGETHER:
            yield found
            found, size = Lines([], []), 0
    if found.lines:
        yield found


def _json_texts(path: Path, field: str) -> Iterator[tuple[str, str]]:
    """Yield the place and the text of each record of JSON lines."""
    for number, line in enumerate(read_lines(path), start=1):
        place = f"line {number} of {path}"
        if not line or line.isspace():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise UserError(f"{place} is not JSON: {error}") from error
        except RecursionError as error:
            raise UserError(f"{place} is nested too deeply") from error
        if not isinstance(record, dict):
            raise UserError(f"{place} is {_named(record)}, not a record; expected {{...}}")
        if field not in record:
            raise UserError(f"{place} has no field {field!r}{_others(record)}")
        if not isinstance(record[field], str):
            raise UserError(f"{place}: {field!r} is {_named(record[field])}, not a text")
        yield place, record[field]


def _parquet_texts(path: Path, field: str) -> Iterator[tuple[str, str]]:
    """Yield the place and the text of each row of a Parquet file."""
    file = _open_parquet(path)
    columns = {column.name: column.type for column in file.schema_arrow}
    if field not in columns:
        raise UserError(f"{path} has no column {field!r}{_others(columns)}")
    if not _TEXT_TYPE.match(str(columns[field])):
        raise UserError(f"{path}: column {field!r} is of type {columns[field]}, not of text")
    for number, text in enumerate(_column(file, path, field), start=1):
        if text is None:
            raise UserError(f"row {number} of {path}: {field!r} is empty; remove the row")
        yield f"row {number} of {path}", text


def _column(file: Any, path: Path, field: str) -> Iterator[str | None]:
    """Yield the texts in a column of a Parquet file; None for a row that has none."""
    try:
        for batch in file.iter_batches(batch_size=_ROWS, columns=[field]):
            yield from batch.column(0).to_pylist()
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from error


def _open_parquet(path: Path) -> Any:
    parquet = require("pyarrow.parquet", "parquet", str(path))
    try:
        return parquet.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20)
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist") from error
    except (OSError, ValueError) as error:  # pyarrow's errors are among them
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> UserError:
    reason = str(error).partition("\n")[0].rstrip(".")
    return UserError(f"{path} cannot be read as Parquet: {reason}; copy or download it again")


def _others(names: Any) -> str:
    """Return advice that names the fields that there are."""
    some = ", ".join(map(repr, list(names)[:8]))
    return f"; it has {some}: give one as --field" if some else "; it has none"


def _named(value: Any) -> str:
    kinds = {dict: "an object", list: "a list", str: "a text", bool: "a truth value"}
    return "null" if value is None else kinds.get(type(value), "a number")
