"""The study of depth compares models of the same size, trained alike."""

from argparse import Namespace
from pathlib import Path

import pytest

from studies import depth
from tiedlm.experiments.recipes import get_recipe
from tiedlm.files import write_json


@pytest.fixture
def jobs(tmp_path):
    return depth.all_jobs(Namespace(out=tmp_path, seeds=2, precision="fp32"))


@pytest.mark.parametrize("name", depth.WIDTHS)
def test_every_model_has_four_million_parameters(name):
    assert depth.parameters(name) == pytest.approx(4e6, rel=0.01)


def test_all_models_are_tied_and_share_the_schedule(jobs):
    recipe = get_recipe("ptb-small-re")
    for job in jobs.values():
        settings = job.settings
        assert settings.tied
        assert (settings.data, settings.alpha, settings.decoder_bias) == ("ptb", 0, True)
        assert (settings.schedule, settings.epochs) == ("cosine", 20)
        assert settings.lr_min == settings.lr / 50
        assert (settings.batch_size, settings.bptt) == (recipe.batch_size, recipe.bptt)


def test_the_lstm_has_the_rate_and_the_dropout_of_the_recipe(jobs):
    recipe, lstm = get_recipe("ptb-small-re"), jobs["lstm", 2].settings
    for name in ("lr", "clip", "init_range", "dropout_input", "dropout_hidden", "n_layers"):
        assert getattr(lstm, name) == getattr(recipe, name)


def test_rhn_has_the_clip_and_the_start_of_its_authors(jobs):
    recipe = get_recipe("ptb-rhn-10")
    for name in ("rhn-2", "rhn-3", "rhn-5"):
        settings = jobs[name, 1].settings
        assert (settings.clip, settings.init_range) == (recipe.clip, recipe.init_range)
        assert settings.optimizer == "adam"
    control = jobs["rhn-2-sgd", 1].settings
    assert (control.optimizer, control.lr) == ("sgd", recipe.lr)
    assert control.d_hidden == jobs["rhn-2", 1].settings.d_hidden


def test_the_table_has_the_means_of_the_finished_runs(jobs):
    for (name, seed), job in jobs.items():
        if name == "rhn-3":
            result = {"valid_ppl": 80.0 + seed, "test_ppl": 76.0 + seed, "seconds": 3600.0 * seed}
            write_json(Path(job.out, "result.json"), {"seed": seed, **result})
    found = {key: job for key, job in jobs.items() if key[0] == "rhn-3"}
    (row,) = depth.table(found).splitlines()[2:]
    cells = [cell.strip() for cell in row.split("|")[1:-1]]
    assert cells[:3] == ["rhn-3", "316", "3,970,744"]
    assert cells[3].startswith("81.5")
    assert cells[4].startswith("77.5")
    assert cells[5:] == ["2", "1.5"]
