"""The generated tables take their numbers from kept runs, and stand where the pages want them."""

import math
import re
from pathlib import Path

import pytest

from studies import noise
from studies.pages.appendix import (
    additions_table,
    runs_table,
    sessions_table,
    title,
)
from studies.pages.markers import fill, wrap
from studies.pages.printed_table import printed_table1
from studies.pages.question_tables import AL, gains
from tiedlm.experiments.cells import table1, table2, what_it_is
from tiedlm.experiments.reproduce import Found
from tiedlm.experiments.results import KeptRun

ROOT = Path(__file__).parents[3]
CELLS = {cell.name: cell for cell in (*table1(), *table2())}
NUMBER = re.compile(r"(?<![\w.])\d+\.\d+(?![\w.]*\d)")


def kept(name, valid, test, seed=1, session=1):
    """Return a kept run of a cell, as find_results does."""
    metrics = {"valid_ppl": valid, "test_ppl": test, "curve": []}
    return what_it_is(CELLS[name].settings.to_dict()), Found(seed, session, "fp32", metrics)


def rows(table):
    """Return the rows of a Markdown table as lists of cells."""
    lines = [line.strip("| ").split(" | ") for line in table.splitlines()]
    return lines[0], lines[2:]


def test_table_1_has_models_down_and_sizes_across():
    header, body = rows(printed_table1([]))
    assert header[1:] == [
        "PTB, small", "PTB, medium", "PTB, large", "WikiText-2, small", "WikiText-2, medium",
    ]  # fmt: skip
    assert [row[0] for row in body] == ["VD-LSTM", "+ AL", "+ RE", "+ REAL"]
    assert body[0][1] == "92.6 / 87.3<br>-"
    assert body[0][4] == "~112.2 / 105.9<br>-"


def test_table_1_shows_the_mean_of_the_last_session_and_its_seeds():
    runs = [kept("ptb-small", 95.0, 90.0)]
    assert rows(printed_table1(runs))[1][0][1] == (
        "92.6 / 87.3<br>**95.0 / 90.0** <sub>1 seed</sub>"
    )
    runs += [kept("ptb-small", 94.0, 89.0, seed, 2) for seed in (1, 2)]
    assert rows(printed_table1(runs))[1][0][1].endswith("**94.0 / 89.0** <sub>2 seeds</sub>")


def test_the_appendix_compares_runs_of_the_same_seed_and_session():
    runs = [
        kept("ptb-small", 100.0, 100.0),
        kept("ptb-small-al", 95.0, 90.0),
        kept("ptb-small-al", 90.0, 80.0, session=2),
        kept("ptb-small-al", 95.0, 90.0, seed=2),
    ]
    body = {(row[0], row[2]): row for row in rows(runs_table(runs))[1]}
    assert body["VD-LSTM + AL, small", "1"][-2:] == ["-10.0%", "-"]
    assert body["VD-LSTM + AL, small", "2"][-2:] == ["-", "-"]
    assert rows(sessions_table(runs))[1] == [
        ["VD-LSTM + AL, small", "1", "5.0 / 10.0", "-5.3% / -11.1%"]
    ]
    (addition,) = rows(additions_table(runs))[1]
    assert addition[:8] == ["AL", "small", "1", "1", "-10.0%", "-10.0", "-5.0%", "-5.0"]


def test_gains_are_of_the_last_session_that_both_models_have():
    runs = [
        kept(name, valid, valid, session=session)
        for name, valid in (("ptb-small", 100.0), ("ptb-small-al", 90.0))
        for session in (1, 2)
    ]
    ((words, test, valid, paper, session, seeds),) = rows(gains(AL[:1], runs))[1]
    assert (words, test, valid, session, seeds) == ("small, untied", "-10.0%", "-10.0%", "2", "1")
    assert paper == "-5.0% / -6.8%"


def test_a_gain_beside_one_of_other_sessions_says_so():
    runs = [kept("ptb-small", 100.0, 100.0), kept("ptb-small-al", 90.0, 90.0)]
    assert rows(gains(AL[:1], runs))[1][0][3] == "-5.0% / -6.8% (2 sessions)"


def test_baselines_of_the_whole_text_say_how_far_two_runs_may_differ():
    cell = CELLS["ptb-small"].settings
    others = [cell.replace(init_from="ptb-small-seed1"), cell.replace(alpha=1.0)]
    kept_ones = [
        KeptRun(Path(), {"settings": settings.to_dict()}, {"valid_ppl": valid, "test_ppl": 2.0})
        for settings, valid in [(cell, 1.0), (cell.replace(seed=2), 3.0), (others[0], 9.0),
                                (others[1], 9.0)]
    ]  # fmt: skip
    text = noise.of_the_whole_text(kept_ones)
    half = 12.706 * math.sqrt(2) * math.sqrt(2)  # t, the deviation of 1 and 3, two runs
    assert "The 2 first sessions of the small baseline" in text
    assert "standard deviations of 1.41 / 0.00" in text
    assert f"differ by less than {half:.2f} / 0.00 in 95 of 100" in text
    assert noise.of_the_whole_text(kept_ones[1:]) == ""


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ptb-small-real-b0", "VD-LSTM + REAL, b = 0, small"),
        ("ptb-small-al-gamma2.6", "VD-LSTM + AL, gamma 2.6, small"),
        ("wikitext-2-first-half-small", "VD-LSTM, wikitext-2-first-half, small"),
    ],
)
def test_a_cell_is_named_by_what_it_is(name, words):
    assert title(CELLS[name]) == words


def test_a_table_goes_between_its_markers():
    page = "before\n<!-- t: begin -->\nold\n<!-- t: end -->\nafter\n"
    assert fill(page, {"t": r"| \1 |" + "\n"}) == page.replace("old", r"| \1 |")
    with pytest.raises(ValueError, match="0 places for the table 'u'"):
        fill(page, {"u": ""})
    with pytest.raises(ValueError, match="2 places for the table 't'"):
        fill(page * 2, {"t": ""})


def test_only_long_prose_is_wrapped():
    long = "word " * 40
    page = f"# {long}\n| {long}|\nshort\n- {long}\n"
    heading, table, short, *item = wrap(page).splitlines()
    assert (heading, table, short) == (f"# {long}", f"| {long}|", "short")
    assert all(len(line) <= 100 for line in item)
    assert item[1].startswith("  word")


def test_every_number_of_the_report_is_in_a_generated_table():
    report = (ROOT / "docs/questions.md").read_text(encoding="utf-8")
    typed = re.sub(r"<!-- (\w+): begin -->.*?<!-- \1: end -->", "", report, flags=re.DOTALL)
    typed = re.sub(r"\]\([^)]*\)", "]", typed)
    generated = {
        number
        for name in ("questions_appendix", "reproduction")
        for number in NUMBER.findall((ROOT / f"docs/{name}.md").read_text(encoding="utf-8"))
    }
    rounded = {f"{float(number):.2f}" for number in generated}
    assert len(NUMBER.findall(typed)) > 50
    assert not set(NUMBER.findall(typed)) - generated - rounded
