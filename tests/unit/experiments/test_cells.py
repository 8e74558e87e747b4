"""The cells are the runs that a table of the paper needs."""

from pathlib import Path

import pytest

from tiedlm.errors import UserError
from tiedlm.experiments.cells import choose, jobs_of, table1, table2
from tiedlm.experiments.recipes import RECIPES

SMALL = ["ptb-small", "ptb-small-al", "ptb-small-re", "ptb-small-real"]


def test_table1_has_every_recipe_of_the_papers_corpora():
    paper = {
        name
        for name, settings in RECIPES.items()
        if settings.data in ("ptb", "wikitext-2") and settings.network == "lstm"
    }
    names = [cell.name for cell in table1()]
    assert set(names[: len(paper)]) == paper
    assert [cell.beside for cell in table1()] == [name not in paper for name in names]


def test_tied_models_of_penn_treebank_are_also_trained_without_a_bias():
    cells = {cell.name: cell for cell in table1()}
    without = [cell for name, cell in cells.items() if name.endswith("-b0")]
    assert [cell.name for cell in without] == [
        f"ptb-{size}-{model}-b0" for size in ("small", "medium") for model in ("re", "real")
    ]
    for cell in without:
        own = cells[cell.name.removesuffix("-b0")]
        assert cell.settings == own.settings.replace(decoder_bias=False)
        assert own.settings.decoder_bias is True
        assert (cell.paper, cell.sessions) == (own.paper, own.sessions)


def test_al_is_also_trained_with_other_strengths():
    cells = {cell.name: cell for cell in table1()}
    alphas = {"al-gamma0.8": 16, "al-gamma2.6": 52, "real-gamma5.2": 104}
    assert [name for name in cells if "gamma" in name] == [f"ptb-small-{end}" for end in alphas]
    for end, alpha in alphas.items():
        own = cells[f"ptb-small-{end.split('-')[0]}"]
        cell = cells[f"ptb-small-{end}"]
        assert cell.settings == own.settings.replace(alpha=float(alpha))
        assert (cell.paper, cell.sessions) == (own.paper, 2)


def test_only_small_penn_treebank_models_are_trained_twice():
    twice = [cell.name for cell in table1() if cell.sessions == 2]
    beside = ["re-b0", "real-b0", "al-gamma0.8", "al-gamma2.6", "real-gamma5.2"]
    assert twice == [*SMALL, *(f"ptb-small-{end}" for end in beside)]


def test_a_second_session_begins_from_the_first_and_comes_after_every_first():
    jobs = jobs_of(choose(table1(), SMALL), (1, 2), Path("runs"), {"threads": 1})
    assert len(jobs) == 16
    assert all(job.after is None for job in jobs[:8])
    for job in jobs[8:]:
        assert job.out.name.endswith("-session2")
        assert job.settings.init_from == str(job.after)
        assert job.after in {first.out for first in jobs[:8]}
        assert job.out == Path(f"{job.after}-session2")
    assert {job.settings.seed for job in jobs} == {1, 2}
    assert {job.settings.threads for job in jobs} == {1}
    assert len({job.out for job in jobs}) == 16


def test_table2_is_two_halves_that_meet_with_the_whole_vocabulary():
    cells = table2()
    assert len({cell.name for cell in cells}) == 8
    for cell in cells:
        assert cell.settings.vocab_from == "whole"
        assert cell.settings.fraction == 0.5
        assert cell.settings.skip == (0.5 if "second" in cell.name else 0.0)
        assert "small" in cell.settings.recipe
        # the dropout of Penn Treebank, which is as long as a half
        assert cell.settings.dropout_input == cell.settings.dropout_hidden == 0.3


def test_a_name_selects_one_cell_and_a_star_the_papers_cells_with_that_prefix():
    assert [cell.name for cell in choose(table1(), ["ptb-small"])] == ["ptb-small"]
    assert [cell.name for cell in choose(table1(), ["ptb-small*", "ptb-small-real"])] == SMALL
    for beside in (["ptb-small-real-b0"], ["ptb-small-al-gamma0.8"]):
        assert [cell.name for cell in choose(table1(), beside)] == beside
    assert choose(table1(), []) == table1()
    with pytest.raises(UserError, match=r"--only 'ptb-smal': no such cell; there are ptb-small,"):
        choose(table1(), ["ptb-smal"])


def test_cost_grows_with_width_text_and_epochs():
    hours = {cell.name: cell.hours() for cell in [*table1(), *table2()]}
    assert hours["ptb-small"] < hours["ptb-medium"] < hours["ptb-large"]
    assert hours["wikitext-2-small"] == pytest.approx(2 * hours["wikitext-2-first-half-small"])
    # docs/performance.md: REAL at d = 200 trains at about 11,200 tokens/s.
    measured = 45 * 929_589 / 11_200 / 3600
    assert hours["ptb-small-real"] == pytest.approx(measured, rel=0.5)
