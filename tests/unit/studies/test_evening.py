"""The search for the evening's recipe changes one thing at a time, and never looks at the test."""

from argparse import Namespace
from pathlib import Path

import pytest

from studies import evening
from tiedlm.files import write_json
from tiedlm.training.build import model_config

VOCABULARY = {"ptb": 10_000, "wikitext-2": 33_278}


@pytest.fixture
def jobs(tmp_path):
    options = Namespace(out=tmp_path, precision="fp32")
    return {name: evening.make_job(name, options) for name in evening.TRIALS}


@pytest.mark.parametrize("name", evening.EVENINGS)
def test_whole_evenings_have_both_cores_and_under_14_million_parameters(name, tmp_path):
    options = Namespace(out=tmp_path, precision="bf16")
    settings = evening.make_job(name, options).settings
    assert settings == evening.EVENINGS[name].replace(precision="bf16", threads=2)
    assert settings.recipe.endswith("evening")
    assert model_config(settings, VOCABULARY[settings.data]).num_params() < 14e6


def test_every_trial_differs_from_the_base_and_is_as_small_as_said(jobs):
    base = jobs["base"].settings
    for name, job in jobs.items():
        assert (job.settings == base) == (name == "base")
        assert 7.5e6 < model_config(job.settings, 10_000).num_params() < 9.5e6
        for shared in ("data", "tied", "epochs", "batch_size", "precision", "seed"):
            assert getattr(job.settings, shared) == getattr(base, shared)


def test_another_window_keeps_the_gradient_of_the_mean_loss(jobs):
    base, longer = jobs["base"].settings, jobs["bptt-70"].settings
    for setting in (base, longer):
        assert setting.lr * setting.bptt == pytest.approx(30)
        assert setting.clip / setting.bptt == pytest.approx(0.25)
        assert setting.ar == 2 * setting.tar
    assert longer.ar / longer.bptt == pytest.approx(base.ar / base.bptt)
    assert longer.weight_decay / longer.bptt == pytest.approx(base.weight_decay / base.bptt)


def test_dropout_is_scaled_everywhere(jobs):
    base, less = jobs["base"].settings, jobs["dropout-0.67"].settings
    for name in ("dropout_words", "dropout_input", "dropout_hidden"):
        assert getattr(less, name) == pytest.approx(0.67 * getattr(base, name))
    assert less.options == {name: pytest.approx(0.67 * p) for name, p in base.options.items()}


def test_the_table_has_validation_only_and_the_best_first(jobs):
    found = {}
    for name, valid in (("base", 75.0), ("adam", 74.0)):
        result = {"valid_ppl": valid, "test_ppl": 1.0, "parameters": 7_859_600, "seconds": 1800}
        write_json(Path(jobs[name].out, "result.json"), result)
        found[name] = jobs[name]
    head, _, *rows = evening.table(found).splitlines()
    assert "test" not in head
    assert rows == [
        "| adam | ptb | 74.00 | 7,859,600 | 10 | 1 | 0.50 |",
        "| base | ptb | 75.00 | 7,859,600 | 10 | 1 | 0.50 |",
    ]
