"""Stimuli in a table: the text of one column, and what the other columns say of it."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator

from tiedlm.errors import UserError, did_you_mean


class TextColumn:
    """The cells of one column as lines of text; the row's other cells are kept until asked for.

    A table has a header. Its cells are separated by tabs if the header holds one, else by commas,
    and quoted as spreadsheets do it.

    Args:
        lines: of the table.
        column: the name of the column.
        source: what the table is called in errors.

    Attributes:
        others: names of the other columns.

    Raises:
        UserError: if there is no such column, or two of that name.
    """

    def __init__(self, lines: Iterable[str], column: str, source: str) -> None:
        self._source = source
        iterator = iter(lines)
        header = next(iterator)
        self._delimiter = "\t" if "\t" in header else ","
        self._names = next(self._read([header]))
        if self._names.count(column) != 1:
            problem = "two columns" if column in self._names else "no column"
            raise UserError(
                f"{source} has {problem} {column!r}{did_you_mean(column, self._names)}; its "
                f"columns are {', '.join(self._names)}"
            )
        self._index = self._names.index(column)
        self.others = [name for name in self._names if name != column]
        self._rows = self._read(iterator)
        self._kept: dict[int, list[str]] = {}

    def _read(self, lines: Iterable[str]) -> Iterator[list[str]]:
        reader = csv.reader((line + "\n" for line in lines), delimiter=self._delimiter, strict=True)
        while True:
            try:
                yield next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                raise UserError(
                    f"{self._source} is no table in line {reader.line_num + 1}: {error}; a cell "
                    'that holds a quote is written "so ""quoted"" it is"'
                ) from error

    def __iter__(self) -> Iterator[str]:
        """Yield the text of each row, of a blank line nothing but ``""``."""
        for number, row in enumerate(self._rows, start=1):
            if not row:
                row = [""] * len(self._names)
            if len(row) != len(self._names):
                raise UserError(
                    f"{self._source}, row {number}: {len(row)} cells, where the header has "
                    f"{len(self._names)}"
                )
            self._kept[number] = [" ".join(cell.split()) for cell in row]
            yield self._kept[number].pop(self._index)

    def of_row(self, number: int) -> list[str]:
        """Return the other cells of a row, counted from 1; those of the rows before are let go."""
        for old in [kept for kept in self._kept if kept < number]:
            del self._kept[old]
        return self._kept[number]
