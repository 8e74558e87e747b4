"""Predictions agree with rereading the whole text and with NumPy."""

import numpy as np
import pytest
import torch
from scipy.spatial import distance

from tests_support import is_a_best_word
from tiedlm.analysis.predictions import (
    generate,
    jensen_shannon,
    mean_probability,
    next_distribution,
    next_hidden,
)
from tiedlm.model import LanguageModel, ModelConfig

CONTEXT = np.array([3, 1, 4, 1, 5])


@pytest.fixture
def model():
    torch.manual_seed(0)
    # With weights this large, words read long ago still count.
    config = ModelConfig(vocab_size=9, d_embed=6, d_hidden=6, dropout_hidden=0.5, init_range=2.0)
    return LanguageModel(config).eval()


def next_logits(model, ids):
    with torch.no_grad():
        hidden, _ = model(torch.tensor([list(ids)]))
        return model.decode(hidden[0, -1])


def test_greedy_words_equal_those_of_rereading_the_whole_text(model):
    ids = CONTEXT.tolist()
    for word in generate(model, CONTEXT, 12, temperature=0):
        assert is_a_best_word(word, next_logits(model, ids))
        ids.append(word)
    assert len(ids) == 17
    # Without the carried state, other words would follow.
    without = [int(next_logits(model, ids[n : n + 1]).argmax()) for n in range(4, 16)]
    assert without != ids[5:]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_sampled_words_have_the_softmax_at_the_temperature(model, temperature):
    p_V = torch.softmax(next_logits(model, CONTEXT).double() / temperature, -1).numpy()
    count = 1500
    found = np.zeros(9)
    for seed in range(count):
        found[next(generate(model, CONTEXT, 1, temperature=temperature, seed=seed))] += 1
    bound = 4.5 * np.sqrt(p_V * (1 - p_V) / count) + 1 / count
    assert (abs(found / count - p_V) < bound).all()
    assert found[2] > 0
    banned = [
        next(generate(model, CONTEXT, 1, temperature=temperature, seed=seed, banned=(2,)))
        for seed in range(200)
    ]
    assert 2 not in banned


@pytest.mark.parametrize("word", [0, 1, 7])
def test_the_mean_probability_of_a_word_is_over_every_position_but_the_first(model, word):
    ids = np.random.default_rng(0).integers(0, 9, size=40)
    with torch.no_grad():
        hidden, _ = model(torch.from_numpy(ids[:-1])[None])
        p_TV = model.decode(hidden)[0].softmax(-1)
    assert mean_probability(model, ids, word) == pytest.approx(
        p_TV[:, word].mean().item(), rel=1e-5
    )


def test_the_next_distribution_is_the_softmax_after_the_context(model):
    expected = next_logits(model, CONTEXT.tolist()).softmax(-1)
    torch.testing.assert_close(next_distribution(model, CONTEXT), expected)


def test_a_context_may_be_read_in_parts(model):
    whole, _ = next_hidden(model, CONTEXT)
    _, state = next_hidden(model, CONTEXT[:2])
    torch.testing.assert_close(next_hidden(model, CONTEXT[2:], state)[0], whole)
    assert not torch.allclose(next_hidden(model, CONTEXT[2:])[0], whole)


def test_the_jensen_shannon_divergence_is_scipys_and_runs_from_equal_to_disjoint():
    p = torch.tensor([0.5, 0.25, 0.25, 0.0])
    q = torch.tensor([0.1, 0.1, 0.2, 0.6])
    expected = distance.jensenshannon(p.numpy(), q.numpy(), base=2) ** 2
    assert jensen_shannon(p, q) == pytest.approx(expected, rel=1e-6)
    assert jensen_shannon(p, p) == 0
    assert jensen_shannon(torch.tensor([1.0, 0]), torch.tensor([0, 1.0])) == pytest.approx(1)
