"""The pages are written in short sentences and lines, and their links lead somewhere."""

import re
from pathlib import Path

import pytest

from prose import COMMENT, FENCE, measure, sentences

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
MEAN, SENTENCE, LINE = 20, 40, 100

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


@pages
def test_sentences_and_lines_are_short(page):
    prose = measure(page.read_text(encoding="utf-8"))
    assert prose.mean < MEAN
    assert prose.most <= SENTENCE, prose.longest
    assert len(prose.line) <= LINE, prose.line


@pages
def test_no_word_of_a_text_is_read_as_html(page):
    """An unescaped <unk> is a tag, and a browser shows nothing of it."""
    text = COMMENT.sub("", FENCE.sub("", page.read_text(encoding="utf-8")))
    spans = r"(?s:(?<!`)(`+)(?!`).+?(?<!`)\1(?!`))"
    outside = re.sub(rf"{spans}|^    .*$", "", text, flags=re.MULTILINE)
    tags = set(re.findall(r"<(\w+)[^>]*>", outside))
    assert tags <= {"br", "code", "sub"}


def test_the_measure_counts_words_between_full_stops():
    prose = measure("# Heading\n\nOne two three. Four `five six` seven!\n\n- Eight (e.g. nine).\n")
    assert (prose.words, prose.mean, prose.most) == (9, 3.0, 3)


def test_a_sentence_goes_on_over_lines_and_ends_with_its_item():
    assert sentences("One two\nthree.\n- four\n- five\n  six\n") == [
        "One two three.", "four", "five six",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "outside",
    [
        "| a table | of cells |\n| --- | --- |",
        "```sh\na command with many words\n```",
        "<!-- a comment\nof two lines -->",
        "![a picture's text](images/picture.png)",
    ],
)
def test_tables_code_comments_and_pictures_are_no_prose(outside):
    assert measure(f"One two three.\n\n{outside}\n").words == 3


def test_a_link_counts_as_its_text():
    prose = measure(f"See [the table](https://{'x' * 200}) there.\n")
    assert prose.words == 4
    assert measure(f"- [text](https://{'x' * 200})\n").line == ""


@pages
def test_the_rows_of_a_table_have_as_many_cells_as_its_header(page):
    """A bar that is not escaped ends a cell, also inside backticks."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        cells = [len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()]
        assert len(set(cells)) == 1, table.splitlines()[cells.index(max(cells))]


def anchor(heading):
    """Return the anchor of a heading, as GitHub makes it."""
    text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").strip().lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def anchors(page):
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    return {anchor(heading) for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}


@pages
def test_links_lead_to_files_and_headings(page):
    text = COMMENT.sub("", FENCE.sub("", page.read_text(encoding="utf-8")))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("http"):
            continue
        name, _, heading = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), target
        assert not heading or heading in anchors(file), target
