"""Properties of the augmented loss hold for all numbers that hypothesis draws."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tiedlm import augmented_cross_entropy
from tiedlm.loss import buffers

CASES = st.fixed_dictionaries(
    {
        "n": st.integers(1, 30),
        "vocab": st.integers(2, 40),
        "width": st.integers(1, 6),
        "tied": st.booleans(),
        "bias": st.booleans(),
        "target_grad": st.booleans(),
        "temperature": st.floats(0.1, 1e3),
        "scale": st.floats(0.01, 5.0),
        "seed": st.integers(0, 2**31),
    }
)
few = settings(max_examples=25, deadline=None)


class Case:
    """The tensors of a random case, and their loss."""

    def __init__(self, case, impl="fused"):
        self.generator = torch.Generator().manual_seed(case["seed"])
        self.case, self.impl = case, impl
        n, vocab, width = case["n"], case["vocab"], case["width"]
        self.hidden = self.randn(n, width)
        self.weight = self.randn(vocab, width)
        self.bias = self.randn(vocab) if case["bias"] else None
        self.embedding = None if case["tied"] else self.randn(vocab, width + 1)
        self.targets = torch.randint(vocab, (n,), generator=self.generator)

    def randn(self, *shape):
        return self.case["scale"] * torch.randn(
            *shape, dtype=torch.float64, generator=self.generator
        )

    def permutation(self, size):
        return torch.randperm(size, generator=self.generator)

    def __call__(self, **changes):
        """Return the losses and gradients for (hidden, weight, bias, embedding)."""
        names = ("hidden", "weight", "bias", "embedding")
        values = {name: changes.get(name, getattr(self, name)) for name in names}
        leaves = {
            name: value.clone().requires_grad_()
            for name, value in values.items()
            if value is not None
        }
        out = augmented_cross_entropy(
            leaves["hidden"], leaves["weight"], changes.get("targets", self.targets),
            leaves.get("bias"), leaves.get("embedding"), temperature=self.case["temperature"],
            target_grad=self.case["target_grad"], impl=self.impl,
            reduction=changes.get("reduction", "mean"),
        )  # fmt: skip
        upstream = changes.get("upstream", 1.0)
        grads = torch.autograd.grad(
            (out.loss * upstream).sum(), list(leaves.values()), allow_unused=True
        )
        return out, dict(zip(leaves, grads, strict=True))


def close(one, other):
    torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("impl", ["fused", "reference", "quadratic"])
@given(case=CASES)
@few
def test_permuting_the_vocabulary_changes_nothing(impl, case):
    loss = Case(case, impl)
    order = loss.permutation(case["vocab"])
    renamed = {
        "weight": loss.weight[order],
        "bias": None if loss.bias is None else loss.bias[order],
        "embedding": None if loss.embedding is None else loss.embedding[order],
        "targets": torch.argsort(order)[loss.targets],
    }
    out, grads = loss()
    other, other_grads = loss(**renamed)
    close(other, out)
    close(other_grads["hidden"], grads["hidden"])
    close(other_grads["weight"], grads["weight"][order])


@pytest.mark.parametrize("impl", ["fused", "reference", "quadratic"])
@given(case=CASES)
@few
def test_permuting_the_tokens_permutes_their_losses(impl, case):
    loss = Case(case, impl)
    order = loss.permutation(case["n"])
    out, grads = loss(reduction="none")
    other, other_grads = loss(
        reduction="none", hidden=loss.hidden[order], targets=loss.targets[order]
    )
    close(other.loss, out.loss[order])
    close(other_grads["hidden"], grads["hidden"][order])
    close(other_grads["weight"], grads["weight"])


@given(case=CASES, chunk=st.integers(1, 400), strip=st.integers(1, 400))
@few
def test_chunks_and_strips_of_any_size_change_nothing(case, chunk, strip):
    loss = Case(case)
    out, grads = loss()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(buffers, "LEAST_ROWS", 1)
        patch.setattr(buffers, "CHUNK", chunk)
        patch.setattr(buffers, "STRIP", strip)
        other, other_grads = loss()
    close(other, out)
    for name, grad in grads.items():
        if grad is not None:
            close(other_grads[name], grad)


@given(case=CASES, cut=st.integers(0, 30))
@few
def test_the_sum_over_tokens_is_the_sum_over_any_two_parts(case, cut):
    loss = Case(case)
    out, grads = loss(reduction="sum")
    parts = [
        loss(reduction="sum", hidden=loss.hidden[part], targets=loss.targets[part])
        for part in (slice(None, cut), slice(cut, None))
    ]
    close(parts[0][0].loss + parts[1][0].loss, out.loss)
    close(parts[0][1]["weight"] + parts[1][1]["weight"], grads["weight"])


@pytest.mark.parametrize("impl", ["fused", "quadratic"])
@given(case=CASES, times=st.integers(1, 4))
@few
def test_repeating_a_token_is_weighting_it(impl, case, times):
    loss = Case(case, impl)
    repeat = torch.ones(case["n"], dtype=torch.int64)
    repeat[0] = times
    _, grads = loss(reduction="none", upstream=repeat.double())
    _, repeated = loss(
        reduction="sum",
        hidden=loss.hidden.repeat_interleave(repeat, 0),
        targets=loss.targets.repeat_interleave(repeat),
    )
    for name in ("weight", "bias", "embedding"):
        if grads.get(name) is not None:
            close(repeated[name], grads[name])


@pytest.mark.parametrize("impl", ["fused", "reference", "quadratic"])
@given(case=CASES)
@few
def test_augmented_loss_is_never_negative(impl, case):
    out, _ = Case(case, impl)(reduction="none")
    assert (out.aug >= -1e-12).all()


def matching(loss):
    """Return W = [L^T, 1] and h = [u, c] of each token: W h = L^T u + c."""
    ones = torch.ones(len(loss.weight), 1, dtype=torch.float64)
    constants = loss.randn(len(loss.targets), 1)
    weight = torch.cat([loss.embedding, ones], dim=1)
    return weight, torch.cat([loss.embedding[loss.targets], constants], dim=1)


@pytest.mark.parametrize("impl", ["fused", "reference", "quadratic"])
@given(case=CASES)
@few
def test_augmented_loss_is_zero_where_scores_are_the_soft_targets_up_to_a_constant(impl, case):
    loss = Case(case | {"tied": False}, impl)
    weight, hidden = matching(loss)
    out, _ = loss(weight=weight, hidden=hidden, reduction="none")
    assert (out.aug.abs() < 1e-10).all()


@pytest.mark.parametrize("impl", ["fused", "reference", "quadratic"])
@given(case=CASES, step=st.floats(0.1, 10.0))
@few
def test_augmented_loss_is_positive_where_scores_differ_by_more_than_a_constant(impl, case, step):
    """The range avoids softmaxes that are saturated to the last bit."""
    mild = {"tied": False, "scale": 1.0, "temperature": max(case["temperature"], 10.0)}
    loss = Case(case | mild, impl)
    weight, hidden = matching(loss)
    spread, direction = loss.embedding.var(0, unbiased=False).max(0)
    hidden[:, direction] += step
    out, _ = loss(weight=weight, hidden=hidden, reduction="none")
    expected = spread * step**2 / (2 * mild["temperature"] ** 2)  # to leading order
    assert (out.aug > 0.01 * expected - 1e-13).all()


@pytest.mark.parametrize("impl", ["fused", "reference"])
@given(case=CASES)
@few
def test_high_temperature_gradient_is_the_papers_limit(impl, case):
    """Eq. 4.3, centred: tau^2 V dJ_aug/dz -> (W h - L^T u) - its mean over the vocabulary.

    So for alpha = tau^2 V, dJ_aug/dh -> W^T of that.
    """
    loss = Case(case | {"scale": min(case["scale"], 1.0)}, impl)
    embedding = loss.weight if loss.embedding is None else loss.embedding
    tau = 1e5
    hidden = loss.hidden.clone().requires_grad_()

    def gradient(alpha):
        total = augmented_cross_entropy(
            hidden, loss.weight, loss.targets, embedding=embedding, alpha=alpha,
            temperature=tau, target_grad=False, reduction="sum", impl=impl,
        ).loss  # fmt: skip
        return torch.autograd.grad(total, hidden)[0]

    scale = tau**2 * case["vocab"]
    difference = loss.hidden @ loss.weight.t() - embedding[loss.targets] @ embedding.t()
    limit = (difference - difference.mean(-1, keepdim=True)) @ loss.weight
    got = gradient(scale) - gradient(0.0)
    torch.testing.assert_close(got, limit, rtol=1e-3, atol=1e-3 * (1 + limit.abs().max()))
