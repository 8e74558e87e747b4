import pytest
import torch
from torch.nn import functional

from tiedlm import augmented_cross_entropy
from tiedlm.loss import stream


def problem(tied, n=15, vocab=23, width=4, embed=6):
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(n, width, dtype=torch.float64, generator=generator).requires_grad_()
    weight = torch.randn(vocab, width, dtype=torch.float64, generator=generator).requires_grad_()
    other = torch.randn(vocab, embed, dtype=torch.float64, generator=generator).requires_grad_()
    targets = torch.randint(vocab, (n,), generator=generator)
    return hidden, weight, weight if tied else other, targets


def eq14_half_variance(hidden, weight, embedding, targets, tau, target_grad):
    """Return each token's half variance of (W h - L^T u) / tau over the vocabulary."""
    embedding = embedding if target_grad else embedding.detach()
    difference = hidden @ weight.t() - embedding[targets] @ embedding.t()
    return difference.var(dim=-1, unbiased=False) / (2 * tau**2)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("target_grad", [True, False])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_quadratic_is_half_the_variance_in_value_and_gradient(tied, target_grad, reduction):
    hidden, weight, embedding, targets = problem(tied)
    out = augmented_cross_entropy(
        hidden, weight, targets, embedding=embedding, alpha=3.0, temperature=2.0,
        target_grad=target_grad, reduction=reduction, impl="quadratic",
    )  # fmt: skip
    ce = functional.cross_entropy(hidden @ weight.t(), targets, reduction=reduction)
    aug = eq14_half_variance(hidden, weight, embedding, targets, 2.0, target_grad)
    aug = aug if reduction == "none" else aug.mean()
    torch.testing.assert_close(out.aug, aug.detach())
    torch.testing.assert_close(out.loss, ce + 3.0 * aug)
    inputs = [hidden, weight] if tied else [hidden, weight, embedding]
    got = torch.autograd.grad(out.loss.sum(), inputs, allow_unused=True)
    want = torch.autograd.grad((ce + 3.0 * aug).sum(), inputs, allow_unused=True)
    torch.testing.assert_close(
        [g for g in got if g is not None], [g for g in want if g is not None]
    )


@pytest.mark.parametrize("tied", [True, False])
def test_error_against_the_exact_loss_falls_faster_than_the_loss(tied):
    """Ten times the temperature leaves at most a ninth of the error, which is O(1 / tau^3)."""
    hidden, weight, embedding, targets = problem(tied)
    errors = []
    for tau in (10.0, 100.0):
        exact, quadratic = (
            augmented_cross_entropy(
                hidden, weight, targets, embedding=embedding, temperature=tau, impl=impl
            ).aug
            for impl in ("reference", "quadratic")
        )
        errors.append(((quadratic - exact) / exact).abs())
    assert errors[0] < 0.2
    assert errors[1] < errors[0] / 9


def test_tied_form_is_a_mahalanobis_distance_of_hidden_to_the_embedding():
    hidden, weight, _, targets = problem(tied=True)
    out = augmented_cross_entropy(hidden, weight, targets, temperature=2.0, impl="quadratic")
    pull = hidden - weight[targets]
    covariance = torch.cov(weight.t(), correction=0)
    distance = torch.einsum("nd,de,ne->n", pull, covariance, pull).mean()
    torch.testing.assert_close(out.aug, distance.detach() / (2 * 2.0**2))


def test_only_one_pass_over_tokens_times_vocabulary(monkeypatch):
    calls = []
    monkeypatch.setattr(
        stream, "matmul", lambda a, b, out, **_: calls.append(out.shape) or torch.mm(a, b)
    )
    hidden, weight, _, targets = problem(tied=True)
    with torch.no_grad():
        augmented_cross_entropy(hidden, weight, targets, impl="quadratic")
    assert calls == [(15, 23)]


def test_a_large_vocabulary_does_not_overflow_float16():
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(100_000, 4, generator=generator)
    hidden, targets = torch.randn(3, 4, generator=generator), torch.arange(3)
    losses = [
        augmented_cross_entropy(h, w, targets, alpha=13.0, impl="quadratic").aug
        for h, w in ((hidden, weight), (hidden.half(), weight.half()))
    ]
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-2, atol=0)
