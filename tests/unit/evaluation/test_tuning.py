"""Settings are fitted on validation, each trial is logged, and a search goes on."""

import copy
import dataclasses
import json
import math

import numpy as np
import pytest
import torch

from tiedlm import LanguageModel, ModelConfig
from tiedlm.errors import UserError
from tiedlm.evaluation import (
    Cache,
    Diverged,
    Dynamic,
    Methods,
    gradient_rms,
    method_losses,
    readers,
    token_losses,
    tuning,
    with_temperature,
)
from tiedlm.evaluation.tuning import TrialLog, Tuner
from tiedlm.evaluation.unfinished import Unfinished
from tiedlm.training.tuned import Tuned

V = 12
# A text that repeats itself, so that a cache and an adaptation help.
IDS = np.tile(np.random.default_rng(0).integers(0, V, size=40), 4)


@pytest.fixture
def model():
    torch.manual_seed(0)
    config = ModelConfig(vocab_size=V, d_embed=6, d_hidden=6, n_layers=1, init_range=1.0)
    return LanguageModel(config).double().eval()


def test_the_fitted_temperature_is_the_best(model):
    tau, loss = Tuner(model, IDS).temperature()
    losses = {
        value: method_losses(model, IDS, Methods(temperature=value)).mean()
        for value in (tau, *(tau * np.linspace(0.8, 1.25, 10)))
    }
    assert losses[tau] <= min(losses.values()) + 1e-4
    assert loss == pytest.approx(losses[tau], abs=1e-3)


def test_a_tempered_model_shares_its_parameters_and_divides_its_logits(model):
    hot = with_temperature(model, 2.0)
    assert {id(p) for p in hot.parameters()} == {id(p) for p in model.parameters()}
    hidden, _ = model(torch.tensor([[1, 2, 3]]))
    assert torch.allclose(hot.decode(hidden) * 2, model.decode(hidden))
    assert with_temperature(model, 1.0) is model
    np.testing.assert_allclose(
        token_losses(hot, IDS), method_losses(model, IDS, Methods(temperature=2.0)), atol=1e-6
    )
    with pytest.raises(ValueError, match="temperature: expected a positive number, got 0"):
        with_temperature(model, 0)


def test_the_fitted_cache_has_the_loss_that_the_log_says_and_is_the_best_of_it(model, monkeypatch):
    monkeypatch.setattr(tuning, "CACHE_WORDS", (10, 60, 9999))  # the last is longer than the text
    log = TrialLog()
    cache, loss = Tuner(model, IDS, log=log).cache(temperature=1.2)
    assert cache.words == 60  # the text repeats itself after 40 words
    found = method_losses(model, IDS, Methods(cache=cache, temperature=1.2)).mean()
    assert loss == pytest.approx(found, abs=1e-6)
    assert loss == min(one["loss"] for one in log.lines[0]["outcome"]["tried"])
    assert loss < method_losses(model, IDS, Methods(temperature=1.2)).mean()


def test_the_fitted_cache_is_the_best_with_the_weight_that_is_given(model, monkeypatch):
    monkeypatch.setattr(tuning, "CACHE_WORDS", (10, 60))
    tuner = Tuner(model, IDS)
    free, _ = tuner.cache()
    found, loss = tuner.cache(weight=0.02)
    assert found.weight == 0.02
    assert found.theta > free.theta  # a small share is best given to the likeliest words
    for cache in (found, dataclasses.replace(free, weight=0.02)):
        losses = method_losses(model, IDS, Methods(cache=cache))
        assert loss <= losses.mean() + 1e-6


def test_the_search_of_dynamic_evaluation_ends_at_the_best_trial(model):
    log = TrialLog()
    tuner = Tuner(model, IDS, log=log, rms=gradient_rms(model, IDS))
    _, loss = tuner.dynamic(Dynamic(lr=1e-3))
    assert loss == min(line["outcome"]["loss"] for line in log.lines if line["outcome"]["loss"])
    assert loss < token_losses(model, IDS).mean()
    rates = {line["trial"]["dynamic"]["lr"] for line in log.lines}
    assert len(rates) > 3
    kept, _ = tuner.dynamic(Dynamic(lr=1e-3, decay=0.1), given=["lr"])
    assert kept.lr == 1e-3


def test_a_rate_that_diverges_is_named_and_a_search_leaves_it(model):
    with pytest.raises(Diverged, match=r"lr 1e\+06 diverges: after \d+ words .* take a smaller lr"):
        method_losses(model, IDS, Methods(dynamic=Dynamic(rule="sgd", lr=1e6, decay=0.0)))
    log = TrialLog()
    best, loss = Tuner(model, IDS, log=log).dynamic(Dynamic(rule="sgd", lr=1e4, decay=0.0))
    assert log.lines[0]["outcome"]["diverged"]
    assert math.isfinite(loss)
    assert best.lr < 1e4


def test_what_was_saved_of_an_evaluation_that_diverges_is_removed(model, tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "PART_WORDS", 5)
    unfinished = Unfinished(tmp_path / "unfinished", {}, every=0.0)
    methods = Methods(dynamic=Dynamic(rule="sgd", lr=1e6, decay=0.0))
    saved = []
    with pytest.raises(Diverged):
        method_losses(
            model, IDS, methods, unfinished=unfinished,
            on_tokens=lambda count: saved.append(unfinished.path.exists()),
        )  # fmt: skip
    assert saved[-1]
    assert not unfinished.path.parent.exists()


def test_a_search_that_was_killed_runs_no_trial_twice(model, tmp_path):
    path = tmp_path / "tuning.jsonl"
    first = Tuner(model, IDS, log=TrialLog(path)).dynamic(Dynamic(rule="sgd", lr=0.5, decay=0.0))
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:3]) + lines[3][:20])  # killed while it wrote the fourth
    again = TrialLog(path)
    second = Tuner(model, IDS, log=again).dynamic(Dynamic(rule="sgd", lr=0.5, decay=0.0))
    assert second == first
    trials = [json.dumps(json.loads(line)["trial"]) for line in path.read_text().splitlines()]
    assert len(set(trials)) == len(trials) == len(lines)


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (Dynamic, {"lr": 0}, "lr: expected a positive number, got 0"),
        (Dynamic, {"lr": 1e39}, r"lr: expected a positive number, got 1e\+39"),
        (Dynamic, {"rule": "adam"}, "rule: expected 'rms' or 'sgd', got 'adam'"),
        (Dynamic, {"decay": 2}, "decay: expected 0 <= decay <= 1, got 2"),
        (Dynamic, {"epsilon": 0}, "epsilon: expected a positive number"),
        (Dynamic, {"segment": 0}, "segment: expected at least 1"),
        (Cache, {"words": 0}, "words: expected 1 to 2147483648, got 0"),
        (Cache, {"words": 10**20}, "words: expected 1 to 2147483648, got 10+$"),
        (Cache, {"theta": -1}, r"theta: expected 0 <= theta <= 1e\+30, got -1"),
        (Cache, {"theta": 1e39}, r"theta: expected 0 <= theta <= 1e\+30, got 1e\+39"),
        (Cache, {"weight": 1}, "weight: expected 0 <= lambda < 1, got 1"),
    ],
)
def test_settings_out_of_range_are_refused(kind, settings, message):
    with pytest.raises(ValueError, match=message):
        kind(**settings)


def test_the_largest_settings_overflow_no_32_bit_number(model):
    low = copy.deepcopy(model).float()
    whole, huge = (
        method_losses(low, IDS, Methods(cache=Cache(words=words))) for words in (len(IDS), 2**31)
    )
    assert (whole == huge).all()
    assert np.isfinite(method_losses(low, IDS, Methods(cache=Cache(theta=1e30)))).all()
    with pytest.raises(Diverged):
        method_losses(low, IDS, Methods(dynamic=Dynamic(rule="sgd", lr=3e38)))


def test_statistics_of_another_model_are_refused(model):
    with pytest.raises(ValueError, match="rms: expected a tensor for each parameter"):
        method_losses(model, IDS, Methods(dynamic=Dynamic()), rms={})
    with pytest.raises(ValueError, match="ids: expected at least 2 tokens"):
        method_losses(model, IDS[:1], Methods())
    with pytest.raises(ValueError, match="ids: expected more than 5 words, got 5"):
        gradient_rms(model, IDS[:5])


def test_two_commands_at_once_keep_the_settings_of_both(tmp_path):
    first, second = Tuned(tmp_path, "digest"), Tuned(tmp_path, "digest")
    first.put("cache", {"words": 1})
    second.put("dynamic", {"lr": 2.0})
    first.put("cache", {"words": 3})
    found = Tuned(tmp_path, "digest").entries
    assert found == {"cache": {"words": 3}, "dynamic": {"lr": 2.0}}


def test_a_log_goes_on_after_a_line_cut_off_by_a_kill(tmp_path):
    path = tmp_path / "tuning.jsonl"
    TrialLog(path).add({"a": 1}, {"loss": 2.0})
    whole = path.read_bytes()
    path.write_bytes(whole + '{"trial": {"ä'.encode()[:-1])
    log = TrialLog(path)
    assert log.find({"a": 1}) == {"loss": 2.0}
    assert path.read_bytes() == whole


@pytest.mark.parametrize(
    "line",
    [
        b"5", b"{}", b'{"trial": {}, "outcome": 1}', b'"\xff"',
        b'{"trial": {"method": "temperature"}, "outcome": {}}',
        b'{"trial": {"method": "cache"}, "outcome": {"loss": 1.0}}',
        b'{"trial": {"method": "dynamic"}, "outcome": {"loss": null}}',
        b'{"trial": {"method": "mixture"}, "outcome": {}}',
        b'{"trial": {"method": "mixture"}, "outcome": {"weights": ["0.5", "0.5"]}}',
    ],
)  # fmt: skip
def test_a_damaged_log_is_named(tmp_path, line):
    path = tmp_path / "tuning.jsonl"
    path.write_bytes(b'{"trial": {}, "outcome": {}}\n' + line + b"\n")
    with pytest.raises(UserError, match=r"tuning\.jsonl is damaged; delete it"):
        TrialLog(path)
