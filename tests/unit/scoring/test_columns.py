"""Text is read from a column of a table."""

import re

import pytest

from tiedlm.errors import UserError
from tiedlm.scoring.columns import TextColumn, unlike


def test_rows_already_read_are_released():
    column = TextColumn(["item,text", *(f"{n},word" for n in range(1, 1001))], "text", "a table")
    for number, text in enumerate(column, start=1):
        assert text == "word"
        if number % 10 == 0:  # several are read before one is written
            for row in range(number - 9, number + 1):
                assert column.of_row(row) == column.of_row(row) == [str(row)]
        assert len(column._kept) <= 10


def test_a_cell_may_be_long_and_a_header_may_hold_another_delimiter():
    long = "word " * 40_000
    column = TextColumn(['"a, b\t";text', f"1;{long}"], "text", "a table")
    assert column.others == ["a, b"]
    assert list(column) == [long.strip()]


@pytest.mark.parametrize("header", ['id, my  col ,"the\ttext"', 'id,"my\ncol","the\ntext"'])
def test_column_names_are_one_line_like_cells(header):
    lines = ["sep=,", *header.split("\n"), '1,2,"a\nb"', "", "3,4,c,d"]
    column = TextColumn(lines, "the text", "a table")
    assert column.others == ["id", "my col"]
    rows = iter(column)
    assert next(rows) == "a b"
    assert column.of_row(1) == ["1", "2"]
    assert next(rows) == ""
    with pytest.raises(UserError, match="row 3: 4 cells, where the header has 3"):
        next(rows)


def test_names_in_use_are_prefixed_until_they_are_free():
    assert unlike(["line", "given_line", "x"], ["line"], "given_") == [
        "given_given_line", "given_line", "x",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["item\ttext", "1\t1\tThe cat."], "as R writes them, leave these out (row.names"),
        (["item,text", "1,The cat, too."], "otherwise put a cell that contains ',' in quotes"),
        (["item,text", "1,The cat.", "2,A dog, too."], "3 cells, where the header has 2; put a"),
        (["item;text", "1;a;b;c"], "where the header has 2; put a cell that contains ';' in"),
        (['"item" "text"', '"1" 1 "The cat."'], "separated by spaces; separate them by tabs"),
        (["item  text", "1  The"], r'write.table(..., sep = "\t", row.names = FALSE, qmethod'),
        (["item\ttext", '1\t"He said \\"no\\" now."'], '(in R: qmethod = "double")'),
        (['item\ttext', '1\t"The" cat.'], r"""'\t' expected after '"'"""),
    ],
)  # fmt: skip
def test_a_table_whose_rows_do_not_fit_its_header_gets_a_hint(lines, message):
    with pytest.raises(UserError, match=re.escape(message)):
        list(TextColumn(lines, "text", "a table"))


def test_a_row_with_too_few_cells_gets_no_hint_on_names():
    with pytest.raises(UserError, match=r"row 1: 1 cells, where the header has 2$"):
        list(TextColumn(["item,text", "1"], "text", "a table"))
