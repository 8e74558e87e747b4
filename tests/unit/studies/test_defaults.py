"""The study of the defaults compares like with like, and says yes only if three texts agree."""

import itertools
from argparse import Namespace
from pathlib import Path

import pytest

from studies import defaults
from tiedlm.experiments.recipes import get_recipe
from tiedlm.files import write_json


@pytest.fixture
def jobs(tmp_path):
    options = Namespace(out=tmp_path, precision="fp32")
    cells = itertools.product(defaults.RECIPES, defaults.TEXTS, defaults.CHANGES)
    return {cell: defaults.make_job(cell, options) for cell in cells}


def finish(jobs, recipe, change, *perplexities):
    for text, valid in zip(defaults.TEXTS, perplexities, strict=False):
        result = {"valid_ppl": valid, "test_ppl": 1.0, "seconds": 360}
        write_json(Path(jobs[recipe, text, change].out, "result.json"), result)
        yield (recipe, text, change), jobs[recipe, text, change]


def test_unchanged_it_is_the_recipe_with_the_papers_alpha_but_for_the_text(jobs):
    for recipe, text in itertools.product(defaults.RECIPES, defaults.TEXTS):
        settings = jobs[recipe, text, "paper"].settings
        machine = {"threads": 1, "precision": "fp32", "alpha": 13.0}
        assert settings == get_recipe(recipe).replace(**defaults.TEXTS[text], **machine)


def test_a_change_keeps_the_models_width_and_the_text(jobs):
    for (recipe, text, change), job in jobs.items():
        base = jobs[recipe, text, "paper"].settings
        assert (job.settings == base) == (change == "paper")
        for shared in ("data", "fraction", "d_embed", "d_hidden", "n_layers", "tied", "batch_size"):
            assert getattr(job.settings, shared) == getattr(base, shared)


def test_the_table_says_yes_only_if_a_change_helps_on_every_text(jobs):
    found = dict(finish(jobs, "small-real", "paper", 100.0, 100.0, 100.0))
    found |= finish(jobs, "small-real", "adam", 99.0, 98.0, 97.0)
    found |= finish(jobs, "small-real", "awd", 90.0, 90.0, 101.0)
    found |= finish(jobs, "small-real", "gamma-2.6", 90.0, 90.0)
    assert defaults.table(found).splitlines()[2:] == [
        "| small-real | paper | 100.00 | 100.00 | 100.00 | 0.30 | - |",
        "| small-real | adam | 99.00 (-1.0%) | 98.00 (-2.0%) | 97.00 (-3.0%) | 0.30 | yes |",
        "| small-real | gamma-2.6 | 90.00 (-10.0%) | 90.00 (-10.0%) | - | 0.20 | - |",
        "| small-real | awd | 90.00 (-10.0%) | 90.00 (-10.0%) | 101.00 (+1.0%) | 0.30 | no |",
    ]


def test_the_test_text_is_not_in_the_table(jobs):
    found = dict(finish(jobs, "medium-real", "paper", 100.0))
    assert "test" not in defaults.table(found)
    assert defaults.table(found).splitlines()[2:] == [
        "| medium-real | paper | 100.00 | - | - | 0.10 | - |"
    ]
