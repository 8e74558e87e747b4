"""Read stimuli from a table: the text of one column, and the other cells of each row."""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, tee

from tiedlm.data.text import MAX_LINE
from tiedlm.errors import UserError, did_you_mean


class NoColumn(UserError):
    """A table lacks a column; the message names those that it has."""

    def __init__(self, source: str, column: str, names: Sequence[str]) -> None:
        super().__init__(
            f"{source} has no column {column!r}{did_you_mean(column, names)}; its columns are "
            f"{', '.join(names)}"
        )


class TextColumn:
    """Iterate over one column of a table as lines of text; keep the other cells of each row.

    The table has a header. Its cells are quoted as spreadsheets quote them. They are separated by
    tabs, semicolons or commas, whichever first gives a header with the column.

    Args:
        lines: the lines of the table.
        column: the name of the column.
        source: the table's name in messages.
        before: the number of lines in the file before the first of ``lines``; -1 if the header is
            not in the file.

    Attributes:
        others: names of the other columns.

    Raises:
        UserError: if there is no such column, or two columns share a name.
    """

    def __init__(self, lines: Iterable[str], column: str, source: str, *, before: int = 0) -> None:
        self._source = source
        self._before = before  # lines before the first row
        iterator = iter(lines)
        header = ""
        for header in iterator:
            self._before += 1
            if header.strip() and not header.startswith("sep="):  # a spreadsheet's first line
                break
        names: list[str] = []
        problem = None
        delimiters = "\t;,"
        tables = tee(chain([header], iterator), len(delimiters))
        for delimiter, table in zip(delimiters, tables, strict=True):
            rows = self._read(table, self._before - 1, delimiter)
            try:
                found = [one_line(name) for name in next(rows, [])]
            except UserError as error:
                problem = error
                continue
            names = max(names, found, key=len)
            if column in found:
                names, self._rows, self._delimiter = found, rows, delimiter
                break
        if column not in names and column in header.replace('"', "").split():
            raise UserError(
                f"the cells of {source} are separated by spaces; separate them by tabs, for "
                'example in R with write.table(..., sep = "\\t", row.names = FALSE, '
                'qmethod = "double")'
            )
        if problem is not None and len(names) < 2:
            raise problem
        if column not in names:
            raise NoColumn(source, column, names)
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
                quotes = (
                    '; write a quote inside a cell twice: "say ""hello"" now" '
                    '(in R: qmethod = "double")'
                )
                raise UserError(
                    f"{self._source}, line {before + seen + 1} is not a table row: {error}"
                    + quotes * ("expected after" in str(error) or "end of data" in str(error))
                ) from error
            if delimiter == "\t" and reader.line_num > seen + 1:
                raise UserError(
                    f"{self._source}: a quoted cell runs from line {before + seen + 1} to line "
                    f"{before + reader.line_num}; is a closing quote missing?"
                )
            seen = reader.line_num
            yield row

    def __iter__(self) -> Iterator[str]:
        """Yield the text of each row; ``""`` for a blank line."""
        width = len(self.others) + 1
        for number, found in enumerate(self._rows, start=1):
            row = found or [""] * width
            if len(row) != width:
                raise UserError(
                    f"{self._source}, row {number}: {len(row)} cells, where the header has {width}"
                    + self._why_wider(number, len(row) - width)
                )
            cells = [one_line(cell) for cell in row]
            text = cells.pop(self._index)
            self._kept.append((number, cells))
            yield text

    def _why_wider(self, number: int, cells: int) -> str:
        """Return a hint for a row with this many surplus cells, or ``""``."""
        if cells < 1:
            return ""
        quotes = f"put a cell that contains {self._delimiter!r} in quotes"
        if number > 1 or cells > 1:
            return f"; {quotes}"
        return (
            "; if the rows begin with names, as R writes them, leave these out "
            f"(row.names = FALSE); otherwise {quotes}"
        )

    def of_row(self, number: int) -> list[str]:
        """Return the other cells of a row, counted from 1, and forget all earlier rows."""
        while self._kept[0][0] < number:
            self._kept.popleft()
        return self._kept[0][1]


def one_line(cell: str) -> str:
    """Return a cell with each run of white space replaced by one space."""
    return " ".join(cell.split())


def unlike(names: Iterable[str], taken: Iterable[str], prefix: str) -> list[str]:
    """Return unique names: ``prefix`` is added to a name as long as it is taken."""
    names, used = list(names), set(taken)
    found = []
    for name in names:
        new = name
        while new in used or (new != name and new in names):
            new = prefix + new
        used.add(new)
        found.append(new)
    return found
