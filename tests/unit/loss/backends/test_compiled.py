"""The compiled kernels of the loss give the same numbers as the PyTorch code."""

import itertools
import math

import pytest
import torch

from tests_support import peak_numbers
from tiedlm import augmented_cross_entropy, native
from tiedlm.arithmetic import arithmetic, kernels_for
from tiedlm.loss import buffers, stream
from tiedlm.loss.backends.compiled import CompiledBackend

pytestmark = pytest.mark.skipif(bool(native.why_not()), reason=native.why_not() or "-")

OPTIONS = list(
    itertools.product((None, 7), (True, False), (0.0, 13.0), (True, False), ("mean", "sum", "none"))
)


def tensors(n=83, vocab=1203, width=19, embed=None, seed=0):
    """Return hidden states, classifier, bias and embedding in float32, and repeating targets."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [(n, width), (vocab, width), (vocab,), (vocab, embed or width)]
    drawn = [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]
    if embed is None:
        drawn[3] = drawn[1]
    return drawn, torch.randint(vocab // 20 + 1, (n,), generator=generator)


def losses(drawn, targets, with_bias=True, **options):
    """Return the three losses and the gradients that are required."""
    hidden, classifier, bias, embedding = drawn
    bias = bias if with_bias else None
    out = augmented_cross_entropy(hidden, classifier, targets, bias, embedding, **options)
    upstream = torch.linspace(0.5, 2, out.loss.numel()).view_as(out.loss)
    inputs = [x for x in dict.fromkeys((hidden, classifier, bias, embedding)) if x is not None]
    wanted = [x for x in inputs if x.requires_grad]
    grads = torch.autograd.grad((out.loss * upstream).sum(), wanted, allow_unused=True)
    return [*(part.detach() for part in out), *grads]


def errors(got, exact):
    return [
        0.0
        if one is None and right is None
        else ((one.double() - right).norm() / right.norm().clamp(min=1e-9)).item()
        for one, right in zip(got, exact, strict=True)
    ]


@pytest.mark.parametrize("chunks", [False, True], ids=["one chunk", "chunks"])
@pytest.mark.parametrize(("embed", "target_grad", "alpha", "with_bias", "reduction"), OPTIONS)
def test_losses_are_as_accurate_as_pytorchs(
    monkeypatch, chunks, embed, target_grad, alpha, with_bias, reduction
):
    if chunks:
        monkeypatch.setattr(buffers, "LEAST_ROWS", 1)
        monkeypatch.setattr(buffers, "CHUNK", 1203 * 9)
    drawn, targets = tensors(embed=embed)
    targets[5] = -100
    options = dict(
        target_grad=target_grad, alpha=alpha, with_bias=with_bias, reduction=reduction,
        temperature=1.7,
    )  # fmt: skip
    wide = [x.detach().double().requires_grad_() for x in drawn]
    wide[3] = wide[1] if embed is None else wide[3]
    exact = losses(wide, targets, impl="reference", **options)
    plain = errors(losses(drawn, targets, **options), exact)
    with arithmetic(kernels=True):
        compiled = errors(losses(drawn, targets, **options), exact)
    assert all(a <= 2 * b + 3e-7 for a, b in zip(compiled, plain, strict=True)), (compiled, plain)


@pytest.mark.parametrize("target_grad", [True, False])
@pytest.mark.parametrize("embed", [None, 7])
def test_losses_with_bfloat16_products_equal_pytorchs(embed, target_grad):
    drawn, targets = tensors(embed=embed)
    with arithmetic(precision="bf16"):
        plain = losses(drawn, targets, target_grad=target_grad)
        with arithmetic(kernels=True):
            compiled = losses(drawn, targets, target_grad=target_grad)
    # Operands and scores are rounded alike, but products once instead of twice. A unit in the last
    # place is 8e-3.

    assert [x is None for x in plain] == [x is None for x in compiled]
    plain = [None if x is None else x.double() for x in plain]
    assert all(error < 5e-3 for error in errors(compiled, plain))


@pytest.mark.parametrize("name", ["fp32", "bf16"])
@pytest.mark.parametrize("target_grad", [True, False])
@pytest.mark.parametrize("embed", [None, 24])
def test_the_fused_step_equals_the_separate_steps(monkeypatch, embed, target_grad, name):
    drawn, targets = tensors(embed=embed)
    work, calls = CompiledBackend.words, []

    def counted(*arguments):
        calls.append(arguments)
        return work(*arguments)

    with arithmetic(kernels=True, precision=name):
        monkeypatch.setattr(CompiledBackend, "words", counted)
        at_once = losses(drawn, targets, target_grad=target_grad)
        assert len(calls) == 1
        monkeypatch.setattr(stream._Stream, "_is_one_chunk", lambda self, group: False)
        by_steps = losses(drawn, targets, target_grad=target_grad)
        assert len(calls) == 1
    for one, other in zip(at_once[:3], by_steps[:3], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=0)
    # Tied, one product sums what two did. A unit in the last place of bfloat16 is 8e-3.
    rtol = 5e-3 if name == "bf16" and embed is None else 1e-6
    exact = [None if x is None else x.double() for x in by_steps[3:]]
    assert all(error < rtol for error in errors(at_once[3:], exact))


@pytest.mark.parametrize(("target_grad", "matrices"), [(True, 2), (False, 1)])
def test_one_chunk_allocates_neither_soft_targets_nor_residuals(monkeypatch, target_grad, matrices):
    monkeypatch.setattr(buffers, "MOST_KEPT", 0)
    n, vocab, width = 100, 20_000, 2
    drawn, _ = tensors(n, vocab, width)
    targets = torch.arange(n) % 90

    def peak():
        return peak_numbers(lambda: losses(drawn, targets, target_grad=target_grad))

    with arithmetic(threads=1, kernels=True):
        at_once = peak()
        monkeypatch.setattr(stream._Stream, "_is_one_chunk", lambda self, group: False)
        by_steps = peak()
    # Four rows are in work. The gradients and their intermediate results are narrow.
    narrow = 4 * (2 * vocab * width + n * width + vocab)
    assert at_once <= (n + 90 + 4) * vocab + narrow
    assert by_steps >= (n + 90 * matrices) * vocab


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_results_repeat_for_any_number_of_threads(threads):
    drawn, targets = tensors(n=211)

    def bits(count, with_bias):
        with arithmetic(threads=count, kernels=True):
            return losses(drawn, targets, with_bias=with_bias)

    for one, other in (
        (bits(threads, True), bits(threads, True)),
        (bits(threads, False)[:3], bits(1, False)[:3]),
    ):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("name", ["fp32", "bf16"])
def test_nan_is_propagated(value, name):
    drawn, targets = tensors()
    with torch.no_grad():
        drawn[0][3, 2] = value
    with arithmetic(kernels=True, precision=name):
        loss, ce, aug, grad_hidden, *_ = losses(drawn, targets)
    assert not any(map(math.isfinite, (loss, ce, aug)))
    assert not grad_hidden[3].isfinite().any()
    assert grad_hidden[4].isfinite().all()


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
@pytest.mark.parametrize("temperature", [0.1, 20.0, 1e6])
def test_scores_and_temperatures_may_have_any_size(scale, temperature):
    drawn, targets = tensors()
    with torch.no_grad():
        drawn[1].mul_(scale)
    options = dict(temperature=temperature, target_grad=False, with_bias=False)
    plain = losses(drawn, targets, **options)
    with arithmetic(kernels=True):
        compiled = losses(drawn, targets, **options)
    for one, other in zip(compiled, plain, strict=True):
        # J_aug is a difference of numbers near log V, so below 1e-6 it is rounding error.
        atol = max(2e-6, 1e-5 * max(1.0, scale / temperature) * other.abs().max().item())
        torch.testing.assert_close(one, other, rtol=1e-4, atol=atol)


def test_float64_is_left_to_pytorch():
    drawn, targets = tensors()
    wide = [x.detach().double().requires_grad_() for x in drawn]
    plain = losses(wide, targets)
    with arithmetic(kernels=True):
        assert kernels_for(drawn[0], products=torch.float32, work=1)
        assert not kernels_for(wide[0], products=torch.float64, work=1)
        assert all(torch.equal(a, b) for a, b in zip(losses(wide, targets), plain, strict=True))


@pytest.mark.parametrize("alpha", [0.0, 13.0])
@pytest.mark.parametrize("count", [0, 4])
def test_a_batch_without_counted_tokens_has_zero_loss(alpha, count):
    drawn, _ = tensors(n=count)
    with arithmetic(kernels=True):
        found = losses(drawn, torch.full((count,), -100), alpha=alpha)
    assert all((x == 0).all() for x in found)


def test_autocast_to_float16_is_left_to_pytorch():
    drawn, targets = tensors()
    with torch.autocast("cpu", dtype=torch.float16):
        plain = losses(drawn, targets)
        with arithmetic(kernels=True):
            assert all(map(torch.equal, losses(drawn, targets), plain))
