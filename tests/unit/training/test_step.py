"""One update has the right scale and clip, and refuses losses that are not finite."""

import math

import pytest
import torch

from tiedlm.model import LanguageModel, ModelConfig
from tiedlm.training.settings import Settings
from tiedlm.training.step import Objective
from tiedlm.training.step import train_step as step


def model(**options):
    torch.manual_seed(0)
    config = {"vocab_size": 9, "d_embed": 5, "d_hidden": 5, "tied": True} | options
    return LanguageModel(ModelConfig(**config)).double()


def window(B=3, T=7):
    torch.manual_seed(1)
    tokens = torch.randint(9, (B, T + 1))
    return tokens[:, :-1], tokens[:, 1:]


def train_step(m, optimizer, inputs, targets, state, settings):
    return step(Objective(m, settings), optimizer, inputs, targets, state, settings)


def sgd(m, lr=1.0):
    return torch.optim.SGD(m.parameters(), lr=lr)


def test_objective_is_summed_over_steps_and_averaged_over_streams():
    # Inan et al. (2017), Zaremba et al.: without the factor T a learning rate of 1 does not work.
    inputs, targets = window(B=3, T=7)
    m = model()
    logits = m.decode(m(inputs)[0])
    per_token = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), reduction="none"
    )
    expected = torch.autograd.grad(per_token.sum() / 3, list(m.parameters()))
    before = [p.detach().clone() for p in m.parameters()]
    train_step(m, sgd(m), inputs, targets, None, Settings(clip=1e9))
    for p, old, gradient in zip(m.parameters(), before, expected, strict=True):
        torch.testing.assert_close(p, old - gradient)


def test_update_is_clipped_at_the_global_norm():
    inputs, targets = window()
    m = model()
    before = [p.detach().clone() for p in m.parameters()]
    out = train_step(m, sgd(m), inputs, targets, None, Settings(clip=0.01))
    assert out.grad_norm > 0.01
    moved = torch.stack([(p - b).norm() for p, b in zip(m.parameters(), before, strict=True)])
    assert moved.norm().item() == pytest.approx(0.01, rel=1e-3)


def test_reported_loss_is_the_mean_per_token():
    inputs, targets = window()
    m = model()
    hidden, _ = m(inputs)
    expected = m.loss(hidden, targets, alpha=5.0)
    out = train_step(m, sgd(m), inputs, targets, None, Settings(alpha=5.0))
    assert out.ce == pytest.approx(expected.ce.item())
    assert out.aug == pytest.approx(expected.aug.item())
    assert out.aug > 0


def test_carried_state_is_used_and_detached():
    inputs, targets = window()
    m = model()
    state = train_step(m, sgd(m, 0.0), inputs, targets, None, Settings()).state
    assert not state.h.requires_grad
    fresh = train_step(m, sgd(m, 0.0), inputs, targets, None, Settings())
    carried = train_step(m, sgd(m, 0.0), inputs, targets, state, Settings())
    assert carried.ce != fresh.ce


@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_is_refused_before_the_update(poison):
    inputs, targets = window()
    m = model()
    with torch.no_grad():
        m.embedding.weight[inputs[0, 0]] = poison
    before = [p.detach().clone() for p in m.parameters()]
    with pytest.raises(FloatingPointError, match="loss"):
        train_step(m, sgd(m), inputs, targets, None, Settings())
    for p, b in zip(m.parameters(), before, strict=True):
        assert torch.equal(p.nan_to_num(), b.nan_to_num())


@pytest.mark.parametrize("groups", [2, 3, 6])
def test_accumulation_makes_the_same_update(groups):
    inputs, targets = window(B=6)
    whole, parts = model(), model()
    torch.manual_seed(2)
    state = whole.initial_state(6)
    state = type(state)(torch.randn_like(state.h), torch.randn_like(state.c))
    one = train_step(whole, sgd(whole), inputs, targets, state, Settings(batch_size=6, alpha=3.0))
    settings = Settings(batch_size=6, alpha=3.0, accumulate=groups)
    many = train_step(parts, sgd(parts), inputs, targets, state, settings)
    for a, b in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(a, b)
    assert many.ce == pytest.approx(one.ce)
    assert many.aug == pytest.approx(one.aug)
    assert many.grad_norm == pytest.approx(one.grad_norm)
    torch.testing.assert_close(many.state, one.state)


def test_groups_that_do_not_divide_the_batch_are_refused():
    with pytest.raises(ValueError, match=r"--accumulate.*divisor of --batch-size \d"):
        Settings(batch_size=20, accumulate=3)


@pytest.mark.parametrize("ce_weight", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("tied", [True, False])
def test_objective_weighs_the_two_losses_as_the_theory_check_asks(ce_weight, tied):
    inputs, targets = window(B=2, T=4)
    m = model(tied=tied)
    settings = Settings(alpha=7.0, temperature=3.0, ce_weight=ce_weight)
    loss, ce, aug, _ = Objective(m, settings)(inputs, targets, None)
    assert loss.item() == pytest.approx(4 * (ce_weight * ce + 7 * aug).item(), rel=1e-12)
    got = torch.autograd.grad(loss, list(m.parameters()), allow_unused=True)
    hidden, _ = m(inputs)
    scores = hidden.flatten(0, 1) @ m.decoder.weight.t()
    soft_scores = m.embedding.weight[targets.flatten()] @ m.embedding.weight.t()
    log_soft, log_prediction = ((s / 3).log_softmax(-1) for s in (soft_scores, scores))
    kl = (log_soft.exp() * (log_soft - log_prediction)).sum(-1).mean()
    logits = scores if m.decoder.bias is None else scores + m.decoder.bias
    plain = torch.nn.functional.cross_entropy(logits, targets.flatten())
    expected = torch.autograd.grad(
        4 * (ce_weight * plain + 7 * kl), list(m.parameters()), allow_unused=True
    )
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, torch.zeros_like(a) if b is None else b)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("ce_weight", [1.0, 0.3])
def test_the_objectives_gradient_is_that_of_the_model_and_its_loss(tied, ce_weight):
    lm = model(tied=tied)
    settings = Settings(data="-", tied=tied, alpha=2.0, temperature=3.0, ce_weight=ce_weight)
    inputs, targets = window()
    hidden, _ = lm(inputs)
    both, ce = lm.loss(hidden, targets, 2.0, 3.0).loss, lm.loss(hidden, targets).loss
    expected = torch.autograd.grad((both + (ce_weight - 1) * ce) * 7, list(lm.parameters()))
    loss, *_ = Objective(lm, settings)(inputs, targets, None)
    loss.backward()
    for parameter, right in zip(lm.parameters(), expected, strict=True):
        assert not parameter.grad.is_sparse
        torch.testing.assert_close(parameter.grad, right.to_dense() if right.is_sparse else right)
