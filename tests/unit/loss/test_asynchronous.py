"""A call on a GPU never waits for it: the path of a GPU, here on a CPU, reads no value."""

import sys

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tiedlm import augmented_cross_entropy
from tiedlm.loss import stream
from tiedlm.tracing import is_asynchronous

N, V, D = 40, 60, 8


class NoReading(TorchDispatchMode):
    """Fail at an operation that waits for a GPU."""

    WAITING = ("_local_scalar_dense", "nonzero", "unique", "masked_select", "is_nonzero", "equal")

    def __init__(self):
        super().__init__()
        self.asserted = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        name = operation.__name__
        assert not any(name.startswith(waiting) for waiting in self.WAITING), name
        if name.startswith(("index", "_index_put", "_unsafe_index")) and len(args) > 1:
            indices = args[1] if isinstance(args[1], list | tuple) else [args[1]]
            types = [index.dtype for index in indices if isinstance(index, torch.Tensor)]
            assert torch.bool not in types, f"{name} by a mask"
        self.asserted += name.startswith("_assert_async")
        return operation(*args, **(kwargs or {}))


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    for name, module in list(sys.modules.items()):
        if name.startswith("tiedlm.") and hasattr(module, "is_asynchronous"):
            monkeypatch.setattr(module, "is_asynchronous", lambda tensor: True)


def tensors(ignored=True):
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(4, N // 4, D, generator=generator).requires_grad_()
    weight, embedding = (torch.randn(V, D, generator=generator).requires_grad_() for _ in range(2))
    bias = torch.randn(V, generator=generator).requires_grad_()
    targets = torch.randint(V // 4, (4, N // 4), generator=generator)
    if ignored:
        targets[0, ::3] = -100
    return hidden, weight, bias, embedding, targets


def call(inputs, **options):
    hidden, weight, bias, embedding, targets = inputs
    out = augmented_cross_entropy(hidden, weight, targets, bias, embedding, **options)
    out.loss.sum().backward()
    results = [out.loss.detach(), out.ce, out.aug, hidden.grad, weight.grad, bias.grad]
    return [*results, embedding.grad] if embedding.grad is not None else results


@pytest.mark.parametrize("impl", ["auto", "quadratic"])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(("alpha", "target_grad"), [(0.0, True), (13.0, False), (13.0, True)])
def test_a_call_on_a_gpu_reads_nothing_back(as_on_a_gpu, impl, reduction, alpha, target_grad):
    options = {"impl": impl, "reduction": reduction, "alpha": alpha, "target_grad": target_grad}
    with NoReading() as mode:
        call(tensors(), **options)
    assert mode.asserted


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("cheap", [True, False])
@pytest.mark.parametrize("ignored", [True, False])
@pytest.mark.parametrize(("alpha", "target_grad"), [(0.0, True), (13.0, False), (13.0, True)])
def test_a_call_on_a_gpu_has_the_numbers_of_one_on_a_cpu(
    monkeypatch, request, reduction, cheap, ignored, alpha, target_grad
):
    options = {"reduction": reduction, "alpha": alpha, "target_grad": target_grad}
    expected = call(tensors(ignored), **options)
    monkeypatch.setattr(stream, "_CHEAP", 2**33 if cheap else 0)
    request.getfixturevalue("as_on_a_gpu")
    torch.testing.assert_close(call(tensors(ignored), **options), expected)


def test_a_large_call_with_the_augmented_loss_waits_once(as_on_a_gpu, monkeypatch):
    reads, read = [], torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda x: reads.append(1) or read(x))
    monkeypatch.setattr(stream, "_CHEAP", 0)
    with NoReading():
        call(tensors())
    assert len(reads) == 1


def test_no_target_that_counts_is_a_loss_of_zero_on_a_gpu_too(as_on_a_gpu):
    *inputs, targets = tensors()
    with NoReading():
        loss, *_, grad = call([*inputs, torch.full_like(targets, -100)])
    assert loss == 0
    assert not grad.any()


@pytest.mark.parametrize("wrong", [V, -1])
def test_a_gpu_checks_the_targets_itself(as_on_a_gpu, wrong):
    *inputs, targets = tensors()
    targets[1, 1] = wrong
    with pytest.raises(RuntimeError, match=rf"targets: expected ids in \[0, {V}\)"):
        call([*inputs, targets])


def test_only_a_gpu_is_asynchronous():
    assert not is_asynchronous(torch.zeros(1))
    with NoReading(), pytest.raises(AssertionError, match="_local_scalar_dense"):
        call(tensors())
