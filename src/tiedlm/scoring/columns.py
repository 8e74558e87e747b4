"""Stimuli in a table: the text of one column, and what the other columns say of it."""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain, tee

from tiedlm.data.text import MAX_LINE
from tiedlm.errors import UserError, did_you_mean


class TextColumn:
    """The cells of one column as lines of text; the row's other cells are kept until asked for.

    A table has a header. Its cells are separated by tabs, semicolons or commas, whichever makes the
    column one of the header's, and quoted as spreadsheets do it.

    Args:
        lines: of the table.
        column: the name of the column.
        source: what the table is called in errors.

    Attributes:
        others: names of the other columns.

    Raises:
        UserError: if there is no such column, or a name that comes twice.
    """

    def __init__(self, lines: Iterable[str], column: str, source: str) -> None:
        self._source = source
        self._before = 0  # lines before the first row
        iterator = iter(lines)
        header = ""
        for header in iterator:
            self._before += 1
            if header.strip() and not header.startswith("sep="):  # as spreadsheets begin
                break
        names: list[str] = []
        problem = None
        delimiters = "\t;,"
        tables = tee(chain([header], iterator), len(delimiters))
        for delimiter, table in zip(delimiters, tables, strict=True):
            rows = self._read(table, self._before - 1, delimiter)
            try:
                found = [_one_line(name) for name in next(rows, [])]
            except UserError as error:
                problem = error
                continue
            names = max(names, found, key=len)
            if column in found:
                names, self._rows, self._delimiter = found, rows, delimiter
                break
        if column not in names and column in header.replace('"', "").split():
            raise UserError(
                f"the cells of {source} are separated by blanks; separate them by tabs, for "
                'example in R with write.table(..., sep = "\\t", row.names = FALSE)'
            )
        if problem is not None and len(names) < 2:
            raise problem
        if column not in names:
            raise UserError(
                f"{source} has no column {column!r}{did_you_mean(column, names)}; its columns are "
                f"{', '.join(names)}"
            )
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise UserError(f"{source} has two columns {twice!r}; give each its own name")
        self._index = names.index(column)
        self.others = [name for name in names if name != column]
        self._kept: deque[tuple[int, list[str]]] = deque()

    def _read(self, lines: Iterable[str], before: int, delimiter: str) -> Iterator[list[str]]:
        csv.field_size_limit(MAX_LINE)
        reader = csv.reader((line + "\n" for line in lines), delimiter=delimiter, strict=True)
        seen = 0
        while True:
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                quotes = '; a cell that holds a quote is written "so ""quoted"" it is"'
                raise UserError(
                    f"{self._source} is no table in line {before + seen + 1}: {error}"
                    + quotes * ("expected after" in str(error) or "end of data" in str(error))
                ) from error
            if delimiter == "\t" and reader.line_num > seen + 1:
                raise UserError(
                    f"{self._source}: a quoted cell goes on from line {before + seen + 1} to line "
                    f"{before + reader.line_num}; is a quote not closed?"
                )
            seen = reader.line_num
            yield row

    def __iter__(self) -> Iterator[str]:
        """Yield the text of each row, of a blank line nothing but ``""``."""
        width = len(self.others) + 1
        for number, found in enumerate(self._rows, start=1):
            row = found or [""] * width
            if len(row) != width:
                raise UserError(
                    f"{self._source}, row {number}: {len(row)} cells, where the header has {width}"
                    + self._why_wider(number, len(row) - width)
                )
            cells = [_one_line(cell) for cell in row]
            text = cells.pop(self._index)
            self._kept.append((number, cells))
            yield text

    def _why_wider(self, number: int, cells: int) -> str:
        """Return a hint on a row that has so many cells more than the header, or ``""``."""
        if cells < 1:
            return ""
        quotes = f"a cell that holds {self._delimiter!r} is put in quotes"
        if number > 1 or cells > 1:
            return f"; {quotes}"
        return (
            "; do the rows begin with names, as R writes them? then leave these out "
            f"(row.names = FALSE); else {quotes}"
        )

    def of_row(self, number: int) -> list[str]:
        """Return the other cells of a row, counted from 1; those of the rows before are let go."""
        while self._kept[0][0] < number:
            self._kept.popleft()
        return self._kept[0][1]


def _one_line(cell: str) -> str:
    """Return a cell without tabs, line ends or more than one blank."""
    return " ".join(cell.split())


def unlike(names: Iterable[str], taken: Iterable[str], prefix: str) -> list[str]:
    """Return names with ``prefix`` before those that are taken, until none is."""
    names, used = list(names), set(taken)
    found = []
    for name in names:
        new = name
        while new in used or (new != name and new in names):
            new = prefix + new
        used.add(new)
        found.append(new)
    return found
