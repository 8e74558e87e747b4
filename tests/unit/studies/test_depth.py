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
    shared = ("data", "tied", "decoder_bias", "alpha", "schedule", "lr_decay", "decay_after")
    expected = {name: getattr(get_recipe("ptb-small-re"), name) for name in (*shared, "epochs")}
    assert expected["tied"]
    for job in jobs.values():
        assert expected.items() <= job.settings.to_dict().items()


def test_the_lstm_is_the_recipe_with_another_width(jobs):
    recipe = get_recipe("ptb-small-re").replace(d_embed=276, d_hidden=276)
    assert jobs["lstm", 2].settings == recipe.replace(seed=2, threads=1, precision="fp32")


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
