"""Perplexity has the right denominator and does not depend on how a text is read."""

import itertools
import math

import numpy as np
import pytest
import torch

from tiedlm.evaluation import evaluate, token_losses
from tiedlm.evaluation.perplexity import perplexity
from tiedlm.model import LanguageModel, ModelConfig

IDS = np.random.default_rng(0).integers(0, 13, size=101)


def model(**options):
    torch.manual_seed(0)
    config = {"vocab_size": 13, "d_embed": 6, "d_hidden": 6, "dropout_hidden": 0.5} | options
    return LanguageModel(ModelConfig(init_range=0.5, **config)).double()


@pytest.mark.parametrize("window", [1, 2, 7, 35, 99, 100, 101, 5000])
def test_window_length_does_not_change_perplexity(window):
    m = model()
    assert evaluate(m, IDS, window=window).perplexity == pytest.approx(
        evaluate(m, IDS, window=64).perplexity, rel=1e-6
    )


def test_every_token_but_the_first_is_predicted():
    out = evaluate(model(), IDS, window=7)
    assert out.tokens == len(IDS) - 1
    assert len(token_losses(model(), IDS, window=7)) == len(IDS) - 1


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("d_hidden", [6, 8])
def test_perplexity_is_that_of_the_chain_rule_word_by_word(tied, d_hidden):
    m = model(tied=tied, d_hidden=d_hidden).eval()
    nll, state = 0.0, None
    with torch.no_grad():
        for word, following in itertools.pairwise(IDS):
            hidden, state = m(torch.tensor([[word]]), state)
            nll -= m.decode(hidden)[0, 0].log_softmax(-1)[following].item()
    out = evaluate(m, IDS)
    assert out.nll == pytest.approx(nll, rel=1e-6)
    assert out.perplexity == pytest.approx(math.exp(nll / 100), rel=1e-6)
    assert out.bits_per_word == pytest.approx(math.log2(out.perplexity), rel=1e-9)


def test_a_model_that_knows_nothing_has_the_perplexity_of_the_vocabulary():
    m = model(tied=True)
    with torch.no_grad():
        m.embedding.weight.zero_()
    assert evaluate(m, IDS).perplexity == pytest.approx(13)


def test_unk_is_counted_as_a_word_and_its_share_is_shown():
    out = evaluate(model(), IDS, unk_id=3)
    unk = int((IDS[1:] == 3).sum())
    assert 0 < unk == out.unk_tokens
    assert out.unk_share == unk / 100
    losses = token_losses(model(), IDS)
    known = losses[IDS[1:] != 3]
    assert out.perplexity_without_unk == pytest.approx(math.exp(known.mean()), rel=1e-5)
    assert out.perplexity == evaluate(model(), IDS).perplexity


def test_nothing_is_dropped_and_the_mode_is_restored():
    m = model(dropout_hidden=0.9).train()
    assert evaluate(m, IDS) == evaluate(m, IDS)
    assert m.training
    m.eval()
    evaluate(m, IDS)
    assert not m.training


def test_renaming_the_words_does_not_change_perplexity():
    m = model()
    order = torch.randperm(13)
    renamed = model()
    with torch.no_grad():
        renamed.embedding.weight[order] = m.embedding.weight
        renamed.decoder.weight[order] = m.decoder.weight
        renamed.decoder.bias[order] = m.decoder.bias
    assert evaluate(renamed, order.numpy()[IDS]).nll == pytest.approx(evaluate(m, IDS).nll)


def test_one_token_has_nothing_to_predict():
    with pytest.raises(ValueError, match="at least 2 tokens"):
        evaluate(model(), IDS[:1])


def test_perplexity_too_large_for_a_float_is_infinite():
    assert perplexity(1e6, 1) == math.inf
