"""Evaluation methods are causal and make distributions, for every registered network."""

from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import own_network  # noqa: F401  # registers a network
from tiedlm import LanguageModel, ModelConfig
from tiedlm.evaluation import (
    Cache,
    Dynamic,
    Methods,
    evaluate,
    fit_weights,
    gradient_rms,
    method_losses,
    mixture_losses,
    readers,
    segments,
    summarize,
    token_losses,
)
from tiedlm.evaluation import cache as cache_module
from tiedlm.evaluation.unfinished import Interrupted, Unfinished
from tiedlm.networks import registered

V = 7
TRAIN = np.random.default_rng(0).integers(0, V, size=300)
EXAMPLES = settings(max_examples=2, deadline=None)
TEXTS = st.lists(st.integers(0, V - 1), min_size=2, max_size=24).map(np.array)
RMS = Dynamic(lr=0.003, decay=0.1, epsilon=1e-2)
METHODS = [
    Methods(temperature=1.4),
    Methods(cache=Cache(words=5, theta=0.7, weight=0.4)),
    Methods(dynamic=RMS, cache=Cache(words=3, theta=0.2, weight=0.1), temperature=0.9),
    Methods(dynamic=Dynamic(rule="sgd", lr=0.2, decay=0.0, segment=3)),
]


@cache
def model(network="lstm", seed=0):
    torch.manual_seed(seed)
    config = ModelConfig(
        network=network, vocab_size=V, d_embed=8, d_hidden=8, n_layers=1, tied=True, init_range=0.5
    )
    m = LanguageModel(config).double().eval()
    return m, gradient_rms(m, TRAIN, streams=10)


def losses(network, ids, chosen, seed=0):
    m, rms = model(network, seed)
    return method_losses(m, ids, chosen, rms=rms)


@pytest.mark.parametrize("chosen", METHODS, ids=str)
@pytest.mark.parametrize("network", registered())
def test_the_last_word_s_distribution_sums_to_1_and_changes_no_earlier_number(network, chosen):
    @EXAMPLES
    @given(TEXTS)
    def check(ids):
        found = [losses(network, np.append(ids, word), chosen) for word in range(V)]
        assert np.exp(-np.array([one[-1] for one in found], dtype=np.float64)).sum() == (
            pytest.approx(1, abs=1e-5)
        )
        for one in found[1:]:
            np.testing.assert_allclose(one[:-1], found[0][:-1], rtol=0, atol=1e-6)

    check()


@EXAMPLES
@given(TEXTS, st.sampled_from(METHODS), st.data())
def test_changing_a_later_word_changes_no_earlier_number(ids, chosen, data):
    place = data.draw(st.integers(1, len(ids) - 1))
    other = ids.copy()
    other[place:] = data.draw(st.lists(st.integers(0, V - 1), min_size=len(ids) - place,
                                       max_size=len(ids) - place))  # fmt: skip
    before, after = (losses("lstm", one, chosen)[: place - 1] for one in (ids, other))
    np.testing.assert_allclose(before, after, rtol=0, atol=1e-6)


@EXAMPLES
@given(TEXTS, st.lists(st.floats(0.01, 1), min_size=4, max_size=4))
def test_a_mixture_s_distribution_sums_to_1(ids, weights):
    weights = np.array(weights) / np.sum(weights)
    total = 0.0
    for word in range(V):
        text = np.append(ids, word)
        parts = np.array([losses("lstm", text, one, seed) for seed, one in enumerate(METHODS)])
        total += np.exp(-mixture_losses(parts, weights)[-1])
    assert total == pytest.approx(1, abs=1e-5)


@EXAMPLES
@given(st.integers(0, 2**31), st.integers(1, 5))
def test_fitted_weights_are_the_best_and_no_model_alone_is_better(seed, count):
    draw = np.random.default_rng(seed)
    parts = draw.exponential(size=(count, 200))
    fitted = fit_weights(parts)
    assert fitted.sum() == pytest.approx(1)
    best = mixture_losses(parts, fitted).mean()
    others = [*np.eye(count), *draw.dirichlet(np.ones(count), size=20)]
    assert best <= min(mixture_losses(parts, other).mean() for other in others) + 1e-7


@pytest.mark.parametrize("scale", [0.1, 0.001])
def test_weights_of_nearly_equal_models_are_fitted_too(scale):
    draw = np.random.default_rng(0)
    parts = draw.exponential(size=1000) + scale * draw.normal(size=(3, 1000))
    best = mixture_losses(parts, fit_weights(parts)).mean()
    assert best <= min(mixture_losses(parts, one).mean() for one in np.eye(3)) + 1e-9


@pytest.mark.parametrize("network", ["lstm", "transformer"])
@pytest.mark.parametrize("chosen", [Methods(), *METHODS], ids=str)
def test_blocks_segments_and_windows_change_no_number(network, chosen, monkeypatch):
    ids = np.random.default_rng(5).integers(0, V, size=203)
    expected = losses(network, ids, chosen)
    monkeypatch.setattr(segments, "LEAST_LENGTH", 4)
    monkeypatch.setattr(segments, "MOST_LENGTH", 5)
    monkeypatch.setattr(segments, "STREAM_WORDS", 31)
    monkeypatch.setattr(readers, "SCORED", 17)
    monkeypatch.setattr(readers, "PART_WORDS", 9)
    monkeypatch.setattr(cache_module, "QUERIES", 4)
    np.testing.assert_allclose(losses(network, ids, chosen), expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("chosen", [Methods(), *METHODS], ids=str)
def test_without_methods_and_at_their_limits_it_is_the_plain_evaluation(chosen):
    ids = np.random.default_rng(5).integers(0, V, size=90)
    m, rms = model()
    plain = token_losses(m, ids)
    limit = Methods(
        dynamic=chosen.dynamic and Dynamic(rule=chosen.dynamic.rule, lr=1e-30),
        cache=chosen.cache and Cache(weight=0.0),
    )
    np.testing.assert_allclose(method_losses(m, ids, limit, rms=rms), plain, rtol=0, atol=1e-6)
    whole = evaluate(m, ids)
    assert summarize(plain, ids[1:], None) == whole


@pytest.mark.parametrize("network", ["lstm", "transformer"])
@pytest.mark.parametrize("chosen", [Methods(), *METHODS], ids=str)
def test_an_interrupted_evaluation_goes_on_to_the_same_bits(network, chosen, monkeypatch, tmp_path):
    monkeypatch.setattr(segments, "STREAM_WORDS", 40)
    monkeypatch.setattr(readers, "SCORED", 17)
    monkeypatch.setattr(readers, "PART_WORDS", 9)
    ids = np.random.default_rng(5).integers(0, V, size=100)
    m, rms = model(network)
    expected = method_losses(m, ids, chosen, rms=rms)
    stops = iter([False, False, True, False, True])
    for _ in range(2):
        unfinished = Unfinished(tmp_path / "u", {"a": 1}, stop=lambda: next(stops))
        with pytest.raises(Interrupted):
            method_losses(m, ids, chosen, rms=rms, unfinished=unfinished)
        assert unfinished.path.exists()
    done = []
    unfinished = Unfinished(tmp_path / "u", {"a": 1})
    found = method_losses(m, ids, chosen, rms=rms, unfinished=unfinished, on_tokens=done.append)
    assert (found == expected).all()
    assert done[0] > 0
    assert sum(done) == len(ids) - 1
    assert not unfinished.path.exists()
