"""Read minimal pairs: BLiMP's JSON lines, or a table with a column for each sentence."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import PurePath
from reprlib import repr as brief
from typing import Any, NamedTuple

from tiedlm.data.text import MAX_LINE
from tiedlm.errors import UserError, did_you_mean
from tiedlm.files import readable
from tiedlm.json_text import parse_json
from tiedlm.scoring.columns import NoColumn, TextColumn, one_line
from tiedlm.scoring.text import name_of, read_lines

# Names to look for if none are given; the first one in the file is used.
GOOD = ("sentence_good", "good")
BAD = ("sentence_bad", "bad")
BY = ("linguistics_term", "UID", "phenomenon")
_EXAMPLE = f'{{"{GOOD[0]}": "...", "{BAD[0]}": "..."}}'


class Pair(NamedTuple):
    """Two sentences that differ in one point.

    Args:
        file: the name of the file.
        line: the number of the line; in a table, of the row without the header. From 1.
        where: file and line for messages.
        phenomenon: what the pair tests.
        good: the acceptable sentence, on one line.
        bad: the unacceptable sentence.
    """

    file: str
    line: int
    where: str
    phenomenon: str
    good: str
    bad: str


class Names(NamedTuple):
    """The fields or columns with the two sentences of a pair, and with its phenomenon.

    ``by`` is None if each file is about one phenomenon.
    """

    good: str
    bad: str
    by: str | None

    def check(self, pair: Pair) -> Pair:
        """Return the pair if both sentences have text and the phenomenon has a name."""
        values = ((self.good, pair.good), (self.bad, pair.bad), (self.by, pair.phenomenon))
        for name, text in values:
            if not text:
                raise UserError(f"{pair.where}: {name!r} is empty; fill it in, or remove the pair")
            if "\0" in text:
                raise UserError(f"{pair.where}: {name!r} has a zero character; remove it")
        return pair


def read_pairs(
    source: str, *, good: str | None = None, bad: str | None = None, by: str | None = None
) -> tuple[list[Pair], bool]:
    """Read the pairs of a file.

    A file whose first line begins with ``{`` has a JSON object on each line. Any other file is a
    table; its cells are separated by tabs, semicolons or commas. A table of two columns needs no
    header: the first column is then the good sentence.

    Args:
        source: the file, ``.gz`` or not; ``-`` is standard input.
        good: the field or column of the good sentence. Default: ``sentence_good`` or ``good``.
        bad: the same for the bad sentence. Default: ``sentence_bad`` or ``bad``.
        by: the same for the phenomenon. Default: ``linguistics_term``, ``UID`` or ``phenomenon``;
            without any of these the file is one phenomenon, called by the file's name.

    Returns:
        The pairs, and whether the file names the fields or columns.

    Raises:
        UserError: naming the file and the line, if a name is missing, a sentence is empty, or
            there are no pairs.
    """
    name = readable(name_of(source))  # it goes into tables, which are UTF-8
    seen: list[str] = []
    lines = read_lines(source)
    first = ""
    for first in lines:
        seen.append(first)
        if first.strip() and not first.startswith("sep="):
            break
    if not first.strip():
        raise UserError(f"{name} has no pairs: every line is blank")
    lines = chain(seen, lines)
    given = _Given(good, bad, by)
    delimiter = None
    if first.lstrip().startswith("{"):
        names, pairs = _json_pairs(lines, name, given)
    elif name.lower().removesuffix(".gz").endswith((".json", ".jsonl")):
        raise UserError(f"{name}, line {len(seen)}: expected one pair a line, as in {_EXAMPLE}")
    else:
        delimiter = _delimiter_without_header(first, given)
        names, pairs = _table_pairs(lines, first, name, given, delimiter)
    if not pairs:
        raise UserError(f"{name} has no pairs: every line after the header is blank")
    if all(pair.good == pair.bad for pair in pairs):
        raise UserError(
            f"{name}: the two sentences are the same in every pair, in {names.good!r} and "
            f"{names.bad!r}; --good and --bad name the fields or columns"
        )
    return pairs, delimiter is None


class _Given(NamedTuple):
    """Names given by flags."""

    good: str | None
    bad: str | None
    by: str | None

    def among(self, found: Iterable[str]) -> Names:
        """Return the names to use in a file that has the fields or columns ``found``."""
        there = set(found)

        def choose(given: str | None, known: Sequence[str]) -> str | None:
            return given or next((name for name in known if name in there), None)

        good = choose(self.good, GOOD) or GOOD[0]
        bad = choose(self.bad, BAD) or BAD[0]
        if good == bad:
            raise UserError(f"--good and --bad are both {good!r}; give each its own")
        return Names(good, bad, choose(self.by, BY))


def _json_pairs(lines: Iterable[str], name: str, given: _Given) -> tuple[Names, list[Pair]]:
    names: Names | None = None
    pairs = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{name}, line {number}"
        entry = parse_json(line, where)
        if not isinstance(entry, dict):
            raise UserError(f"{where}: expected a pair, as in {_EXAMPLE}, got {brief(entry)}")
        names = names or given.among(entry)
        pair = Pair(
            name,
            number,
            where,
            _stem(name) if names.by is None else _label(_field(entry, names.by, where), where),
            _text(_field(entry, names.good, where), names.good, where),
            _text(_field(entry, names.bad, where), names.bad, where),
        )
        pairs.append(names.check(pair))
    assert names is not None  # the first line is an object
    return names, pairs


def _field(entry: dict[str, Any], name: str, where: str) -> Any:
    if name not in entry:
        raise UserError(
            f"{where} has no field {name!r}{did_you_mean(name, entry)}; its fields are "
            f"{', '.join(entry)}; --good, --bad and --by name the fields"
        )
    return entry[name]


def _text(value: Any, name: str, where: str) -> str:
    if not isinstance(value, str):
        raise UserError(f"{where}: expected a sentence as {name!r}, got {brief(value)}")
    return one_line(value)


def _label(value: Any, where: str) -> str:
    if isinstance(value, (dict, list)) or value is None:
        raise UserError(f"{where}: expected a name as the phenomenon, got {brief(value)}")
    return one_line(value) if isinstance(value, str) else json.dumps(value)


def _table_pairs(
    lines: Iterable[str], first: str, name: str, given: _Given, delimiter: str | None
) -> tuple[Names, list[Pair]]:
    """Read a table. If a ``delimiter`` is given, the table has no header, and one is added."""
    if delimiter is None:
        names = given.among(chain.from_iterable(_cells(first).values()))
    else:
        names = Names(GOOD[0], BAD[0], None)
        lines = chain([names.good + delimiter + names.bad], lines)
    try:
        table = TextColumn(lines, names.good, name, before=0 if delimiter is None else -1)
        for column in (names.bad, names.by):
            if column is not None and column not in table.others:
                raise NoColumn(name, column, [names.good, *table.others])
    except NoColumn as error:
        raise UserError(f"{error}; --good, --bad and --by name the columns") from error
    return names, [names.check(pair) for pair in _rows(table, names, name)]


def _rows(table: TextColumn, names: Names, name: str) -> Iterator[Pair]:
    bad = table.others.index(names.bad)
    by = None if names.by is None else table.others.index(names.by)
    for number, good in enumerate(table, start=1):
        others = table.of_row(number)
        if not good and not any(others):
            continue
        phenomenon = _stem(name) if by is None else others[by]
        yield Pair(name, number, f"{name}, row {number}", phenomenon, good, others[bad])


def _cells(line: str) -> dict[str, list[str]]:
    """Return the cells of a line for each delimiter."""
    csv.field_size_limit(MAX_LINE)
    return {
        delimiter: [one_line(cell) for cell in next(csv.reader([line], delimiter=delimiter), [])]
        for delimiter in "\t;,"
    }


def _delimiter_without_header(first: str, given: _Given) -> str | None:
    """Return the delimiter of a table of two columns without a header, or None for other tables.

    Such a table begins with two cells that are not known names, and at least one has several words.
    """
    if any(given):
        return None
    for delimiter, cells in _cells(first).items():
        if {*GOOD, *BAD} & set(cells):
            return None
        if len(cells) == 2:
            return delimiter if any(" " in cell for cell in cells) else None
    return None


def _stem(name: str) -> str:
    """Return a file's name without its folder and its endings."""
    last = PurePath(name).name.removesuffix(".gz")
    return last.rpartition(".")[0] or last
