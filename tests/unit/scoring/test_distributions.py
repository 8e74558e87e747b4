"""Surprisal, entropy and rank agree with hand calculation, NumPy and their limits."""

import math

import numpy as np
import pytest
import torch

from tiedlm import LanguageModel, ModelConfig, native
from tiedlm.arithmetic import arithmetic
from tiedlm.scoring import distributions
from tiedlm.scoring.distributions import Shared, describe


def decoder_of(probabilities):
    """Return a model with this next-word distribution for a hidden state of 0."""
    config = ModelConfig(vocab_size=len(probabilities), d_embed=1, d_hidden=1)
    model = LanguageModel(config).double()
    with torch.no_grad():
        model.decoder.bias.copy_(torch.tensor(probabilities, dtype=torch.float64).log())
    return model


def test_a_distribution_worked_by_hand():
    model = decoder_of([1 / 2, 1 / 4, 1 / 8, 1 / 8])
    out = describe(model, torch.zeros(4, 1).double(), torch.arange(4))
    bits = 1 / math.log(2)
    np.testing.assert_allclose(out.surprisal * bits, [1, 2, 3, 3], rtol=1e-14)
    np.testing.assert_allclose(out.entropy * bits, [1.75] * 4, rtol=1e-14)
    assert out.rank.tolist() == [1, 2, 3, 3]  # equal words share the better rank
    assert out.boundary is None


def test_random_distributions_against_numpy(model):
    hidden_NH = torch.randn(50, 11, dtype=torch.float64)
    targets_N = torch.randint(len(model.decoder.weight), (50,))
    starts_V = (torch.rand(model.config.vocab_size) < 0.3).double()
    out = describe(model, hidden_NH, targets_N, starts_V)
    logits_NV = model.decode(hidden_NH).detach().numpy()
    p_NV = np.exp(logits_NV) / np.exp(logits_NV).sum(axis=1, keepdims=True)
    p_N = p_NV[np.arange(50), targets_N]
    np.testing.assert_allclose(out.surprisal, -np.log(p_N), rtol=1e-12)
    np.testing.assert_allclose(out.entropy, -(p_NV * np.log(p_NV)).sum(axis=1), rtol=1e-12)
    np.testing.assert_array_equal(out.rank, 1 + (p_NV > p_N[:, None]).sum(axis=1))
    np.testing.assert_allclose(out.boundary, -np.log(p_NV @ starts_V.numpy()), rtol=1e-12)


@pytest.mark.parametrize("with_starts", [False, True])
def test_one_distribution_scores_many_words_alike(model, with_starts):
    V = model.config.vocab_size
    with torch.no_grad():
        model.decoder.weight[3] = model.decoder.weight[7]  # equal words
        model.decoder.bias[3] = model.decoder.bias[7]
    hidden_H, targets_N = torch.randn(11, dtype=torch.float64), torch.randint(V, (60,))
    starts_V = (torch.rand(V) < 0.3).double() if with_starts else None
    shared = Shared(model, hidden_H, starts_V).describe(targets_N)
    each = describe(model, hidden_H.expand(60, -1), targets_N, starts_V)
    for one, other in zip(shared, each, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other)
    nothing = Shared(model, hidden_H * torch.nan, starts_V).describe(targets_N)
    assert nothing.surprisal.isnan().all()
    assert nothing.entropy.isnan().all()
    assert not nothing.rank.any()


def test_probabilities_of_all_words_sum_to_one(model):
    V = model.config.vocab_size
    hidden_NH = torch.randn(1, 11, dtype=torch.float64).expand(V, -1)
    out = describe(model, hidden_NH, torch.arange(V))
    assert (-out.surprisal).exp().sum().item() == pytest.approx(1, abs=1e-12)
    assert sorted(out.rank.tolist()) == list(range(1, V + 1))


def test_a_uniform_distribution_has_the_entropy_log_v():
    out = describe(decoder_of([1 / 7] * 7), torch.zeros(1, 1).double(), torch.tensor([3]))
    assert out.entropy.item() == pytest.approx(math.log(7), rel=1e-14)
    assert out.rank.item() == 1


def test_certainty_neither_overflows_nor_leaves_entropy():
    model = decoder_of([1.0, 1.0, 1.0])
    with torch.no_grad():
        model.decoder.bias.copy_(torch.tensor([5000.0, 0.0, -5000.0]))
    out = describe(model, torch.zeros(3, 1).double(), torch.arange(3))
    assert out.surprisal.tolist() == [0, 5000, 10000]
    assert out.entropy.tolist() == [0, 0, 0]


def test_chunks_change_nothing(model, monkeypatch):
    hidden_NH = torch.randn(23, 11, dtype=torch.float64)
    targets_N = torch.randint(model.config.vocab_size, (23,))
    starts_V = torch.ones(model.config.vocab_size).double()
    whole = describe(model, hidden_NH, targets_N, starts_V)
    monkeypatch.setattr(distributions, "CELLS", 5 * model.config.vocab_size)
    for one, other in zip(whole, describe(model, hidden_NH, targets_N, starts_V), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    assert whole.boundary.abs().max() < 1e-12  # certain, since every piece begins a word


def test_an_undefined_distribution_gives_nan(model):
    out = describe(model, torch.full((1, 11), torch.nan).double(), torch.tensor([3]))
    assert out.surprisal.isnan().all()
    assert out.entropy.isnan().all()
    assert out.rank.tolist() == [0]


@pytest.fixture
def compiled():
    """Use the compiled kernels."""
    with arithmetic(kernels=True) as used:
        if not used.kernels:
            pytest.skip(native.why_not())
        yield


def wide_model(scale=1.0, vocab_size=1203):
    torch.manual_seed(0)
    model = LanguageModel(ModelConfig(vocab_size=vocab_size, d_embed=7, d_hidden=19)).eval()
    with torch.no_grad():
        model.decoder.weight.normal_(0, scale)
        model.decoder.bias.normal_()
    return model


@pytest.mark.parametrize("scale", [0.01, 1.0, 10.0])
@pytest.mark.parametrize("with_starts", [True, False])
@pytest.mark.usefixtures("compiled")
def test_compiled_numbers_are_as_accurate_as_pytorchs(scale, with_starts):
    model = wide_model(scale)
    hidden_NH, targets_N = torch.randn(70, 19), torch.randint(1203, (70,))
    starts_V = (torch.rand(1203) < 0.3).float() if with_starts else None
    got = describe(model, hidden_NH, targets_N, starts_V)
    with arithmetic(kernels=False):
        plain = describe(model, hidden_NH, targets_N, starts_V)
    exact = describe(
        model.double(), hidden_NH.double(), targets_N, starts_V.double() if with_starts else None
    )
    for name in ("surprisal", "entropy", *(["boundary"] if with_starts else [])):
        errors = [(getattr(x, name) - getattr(exact, name)).abs().max() for x in (got, plain)]
        assert errors[0] <= 1.5 * errors[1] + 1e-6
    # Words of nearly the same probability may change places.
    assert ((got.rank - exact.rank).abs() <= 1).all()
    assert (got.boundary is None) == (not with_starts)


@pytest.mark.usefixtures("compiled")
def test_compiled_numbers_accept_every_id_type_and_refuse_ids_outside_the_vocabulary():
    model, hidden_NH, targets_N = wide_model(), torch.randn(3, 19), torch.tensor([0, 5, 1202])
    expected = describe(model, hidden_NH, targets_N)
    for one, other in zip(describe(model, hidden_NH, targets_N.int()), expected, strict=True):
        torch.testing.assert_close(one, other)
    for wrong in (-1, 1203):
        with pytest.raises(IndexError, match="from 0 to 1202"):
            describe(model, hidden_NH, torch.tensor([0, wrong, 1]))


@pytest.mark.usefixtures("compiled")
def test_compiled_numbers_at_the_limits():
    model = wide_model()
    targets_N = torch.tensor([0, 1, 2])
    assert describe(model, torch.full((3, 19), torch.nan), targets_N).rank.tolist() == [0, 0, 0]
    assert describe(model, torch.full((3, 19), torch.nan), targets_N).entropy.isnan().all()
    with torch.no_grad():
        model.decoder.weight.zero_()
        model.decoder.bias.zero_()
        model.decoder.bias[:3] = torch.tensor([5000.0, 0.0, -5000.0])
    out = describe(model, torch.zeros(3, 19), targets_N)
    assert out.surprisal.tolist() == [0, 5000, 10000]
    assert out.entropy.abs().max() < 1e-30
    assert out.rank.tolist() == [1, 2, 1203]
