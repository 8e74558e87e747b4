"""Figures and Table 3 choose the right runs of those that exist."""

import pytest

from tiedlm.errors import UserError
from tiedlm.experiments.cells import choose, table1, what_it_is
from tiedlm.experiments.reproduce import Found
from tiedlm.experiments.reproduce_figures import figure2_models, find_pair, table3_rows
from tiedlm.training.run_files import RESULT


def kept(name, session=1, seed=1, **metrics):
    """Return a kept run of a cell, as ``find_results`` gives it."""
    settings = what_it_is(choose(table1(), [name])[0].settings.to_dict())
    return settings, Found(seed, session, "fp32", metrics)


def finish(out, *names):
    for name in names:
        (out / name).mkdir()
        (out / name / RESULT).write_text("{}")


def test_the_pair_is_of_one_session_the_later_first_and_the_recipes_real_first(tmp_path):
    def pair():
        return [run.name for run in find_pair(tmp_path)]

    with pytest.raises(UserError, match="no such pair"):
        pair()
    finish(tmp_path, "ptb-small-seed1-session2", "ptb-small-real-b0-seed1")
    with pytest.raises(UserError, match="no such pair"):  # each of another session
        pair()
    finish(tmp_path, "ptb-small-seed1")
    assert pair() == ["ptb-small-seed1", "ptb-small-real-b0-seed1"]
    finish(tmp_path, "ptb-small-real-b0-seed1-session2")
    assert pair() == ["ptb-small-seed1-session2", "ptb-small-real-b0-seed1-session2"]
    finish(tmp_path, "ptb-small-real-seed1")
    assert pair() == ["ptb-small-seed1", "ptb-small-real-seed1"]
    finish(tmp_path, "ptb-small-real-seed1-session2")
    assert pair() == ["ptb-small-seed1-session2", "ptb-small-real-seed1-session2"]
    finish(tmp_path, "ptb-medium-seed1", "ptb-medium-real-seed1")
    assert pair() == ["ptb-medium-seed1", "ptb-medium-real-seed1"]


def test_other_seeds_of_a_model_are_drawn_beside_its_curve():
    found = [kept("ptb-small", seed=seed, curve=[seed]) for seed in (3, 1, 2)]
    model = figure2_models("small", found)["vd-lstm"]
    assert (model["curve"], model["others"]) == ([1], [[2], [3]])


def test_models_without_a_bias_have_their_own_curves_and_rows():
    numbers = {"parameters": 2_600_000, "valid_ppl": 90.0, "test_ppl": 85.0}
    found = [
        kept("ptb-small", **numbers, mark=1),
        kept("ptb-small-re", **numbers, mark=2),
        kept("ptb-small-re-b0", **numbers, mark=3),
    ]
    models = figure2_models("small", found)
    assert {name: run["mark"] for name, run in models.items()} == {
        "vd-lstm": 1, "vd-lstm-re": 2, "vd-lstm-re-b0": 3,
    }  # fmt: skip
    assert figure2_models("small", found, session=2) == {}
    own = [row for row in table3_rows(found) if "(ours" in row[0]]
    assert own[-1] == (
        "VD-LSTM + RE, b = 0, small (ours, seed 1, session 1)", "2.6M", "90.0", "85.0",
    )  # fmt: skip
    assert len(own) == 3
