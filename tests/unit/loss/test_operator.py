import itertools

import pytest
import torch

from tiedlm import augmented_cross_entropy
from tiedlm.arithmetic import arithmetic
from tiedlm.loss.operator import _operator


def problem(tied=True, n=20, vocab=31, width=5, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    shapes = [(n, width), (vocab, width), (vocab,), (vocab, 3)]
    tensors = [
        torch.randn(shape, generator=generator, dtype=dtype).requires_grad_() for shape in shapes
    ]
    targets = torch.randint(6, (n,), generator=generator)
    targets[4:5] = -100
    return tensors[:3] if tied else tensors, targets


def step(tensors, targets, upstream, options):
    hidden, weight, bias, *embedding = tensors
    out = augmented_cross_entropy(
        hidden * 2, weight, targets, bias, embedding[0] if embedding else None, **options
    )
    return (out.loss * upstream).sum(), out.ce, out.aug


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize(
    ("tied", "target_grad", "alpha", "reduction", "impl"),
    [
        (True, True, 13.0, "mean", "auto"),
        (False, True, 13.0, "sum", "auto"),
        (True, False, 13.0, "mean", "auto"),
        (False, True, 13.0, "none", "auto"),
        (True, True, 0.0, "mean", "auto"),
        (True, True, 13.0, "mean", "reference"),
        (True, True, 13.0, "mean", "quadratic"),
    ],
)
def test_compiled_equals_eager_in_one_graph(tied, target_grad, alpha, reduction, impl):
    tensors, targets = problem(tied)
    upstream = torch.linspace(1, 2, len(targets)) if reduction == "none" else torch.tensor(2.0)
    options = dict(target_grad=target_grad, alpha=alpha, reduction=reduction, impl=impl)
    compiled = torch.compile(step, backend="aot_eager", fullgraph=True)
    for _ in range(2):  # the second call runs what the first one compiled
        got, want = (f(tensors, targets, upstream, options) for f in (compiled, step))
        torch.testing.assert_close(got, want)
        torch.testing.assert_close(
            torch.autograd.grad(got[0], tensors, allow_unused=True),
            torch.autograd.grad(want[0], tensors, allow_unused=True),
        )


def test_a_compiled_batch_without_tokens_has_zero_loss_and_gradients_in_float16():
    tensors, targets = problem(n=0, dtype=torch.float16)
    loss = torch.compile(augmented_cross_entropy, backend="aot_eager", fullgraph=True)
    out = loss(*tensors[:2], targets, tensors[2])
    out.loss.backward()
    for value in (*out, *(tensor.grad for tensor in tensors)):
        assert not value.any()


def test_compiled_follows_the_precision_around_it():
    tensors, targets = problem(dtype=torch.float32)
    compiled = torch.compile(step, backend="aot_eager", fullgraph=True)
    one = torch.tensor(1.0)
    full = compiled(tensors, targets, one, {})[0]
    with arithmetic(precision="bf16"):
        rounded = compiled(tensors, targets, one, {})[0]
        torch.testing.assert_close(rounded, step(tensors, targets, one, {})[0])
    assert not torch.equal(rounded, full)


@pytest.mark.parametrize(
    ("per_token", "wanted"),
    [(True, (True, True, True, True))]
    + [(False, w) for w in itertools.product((False, True), repeat=4) if w[0] == w[2]],
)
def test_operator_keeps_its_promises_to_the_compiler(per_token, wanted):
    """torch.library.opcheck accepts its schema, its shapes without data and its gradients."""
    tensors, targets = problem(tied=False)
    inputs = [x.detach().requires_grad_(w) for x, w in zip(tensors, wanted, strict=True)]
    weight = torch.linspace(0, 1, len(targets), dtype=torch.float64)
    torch.library.opcheck(
        _operator,
        (
            *inputs, targets.clamp(min=0), weight, 2.0, 1.7, torch.float64, per_token,
            list(wanted),
        ),
        test_utils=("test_schema", "test_faketensor", "test_autograd_registration"),
    )  # fmt: skip


@pytest.mark.parametrize("alpha", [0.0, 13.0])
@pytest.mark.parametrize("target", [-1, 31])
def test_a_target_outside_the_vocabulary_is_refused_when_the_graph_runs(pointwise, alpha, target):
    tensors, targets = problem(dtype=torch.float32)
    compiled = torch.compile(step, backend="aot_eager", fullgraph=True)
    compiled(tensors, targets, torch.tensor(1.0), {"alpha": alpha})
    targets[7] = target
    with pytest.raises(ValueError, match=f"ids in \\[0, 31\\) or ignore_index, got {target}"):
        compiled(tensors, targets, torch.tensor(1.0), {"alpha": alpha})


def test_a_changing_strength_does_not_break_the_graph():
    tensors, targets = problem()
    compiled = torch.compile(step, backend="aot_eager", fullgraph=True)
    for alpha, temperature in ((13.0, 20.0), (14.0, 21.0), (15.0, 22.0)):
        options = {"alpha": alpha, "temperature": temperature}
        got, want = (f(tensors, targets, torch.tensor(1.0), options) for f in (compiled, step))
        torch.testing.assert_close(got, want)
