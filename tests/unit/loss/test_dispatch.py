"""Each call gets the right implementation and backend."""

import weakref

import pytest
import torch

from tiedlm import augmented_cross_entropy, native
from tiedlm.arithmetic import arithmetic
from tiedlm.loss import dispatch
from tiedlm.loss.backends import BACKENDS, backend_for
from tiedlm.loss.backends.compiled import CompiledBackend
from tiedlm.loss.backends.eager import EagerBackend
from tiedlm.loss.problem import Problem


def problem(dtype=torch.float32, gemm_dtype=None):
    hidden, weight = torch.randn(5, 3, dtype=dtype), torch.randn(7, 3, dtype=dtype)
    one = torch.ones((), dtype=dtype)
    return Problem(
        hidden, weight, None, None, torch.arange(5), one, 2.0, 1.7, gemm_dtype or dtype
    )  # fmt: skip


@pytest.mark.parametrize(
    ("impl", "transformed", "chosen"),
    [
        ("auto", False, ["node_losses"]),
        ("auto", True, ["reference_losses"]),
        ("fused", False, ["node_losses"]),
        ("reference", False, ["reference_losses"]),
        ("quadratic", False, ["node_losses", "quadratic_losses"]),
        ("quadratic", True, ["reference_losses", "quadratic_losses"]),
    ],
)
def test_an_implementation_is_chosen_by_name_and_by_pytorchs_mode(
    monkeypatch, impl, transformed, chosen
):
    seen = []
    for name in ("node_losses", "operator_losses", "reference_losses", "quadratic_losses"):
        monkeypatch.setattr(dispatch, name, lambda *_, name=name: seen.append(name) or (name,) * 3)
    monkeypatch.setattr(dispatch, "is_transformed", lambda: transformed)
    assert dispatch.compute_losses(problem(), impl) == (chosen[-1],) * 3
    assert seen == chosen


def test_a_backend_is_chosen_by_the_switches_and_the_types():
    assert backend_for(problem()) is EagerBackend
    with arithmetic(kernels=True) as used:
        if not used.kernels:
            pytest.skip(native.why_not())
        assert backend_for(problem()) is CompiledBackend
        assert backend_for(problem(gemm_dtype=torch.bfloat16)) is CompiledBackend
        assert backend_for(problem(gemm_dtype=torch.float16)) is EagerBackend
        assert backend_for(problem(torch.float64)) is EagerBackend


def test_backends_stand_beside_each_other():
    assert all(backend.__bases__ == (object,) for backend in BACKENDS)
    assert BACKENDS[-1].serves(problem())


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_a_graph_keeps_no_input_alive_after_backward(reduction):
    hidden, weight = torch.randn(5, 3), torch.randn(7, 3, requires_grad=True)
    alive = weakref.ref(hidden)
    loss = augmented_cross_entropy(hidden, weight, torch.arange(5), reduction=reduction).loss
    loss.sum().backward()
    del hidden
    assert alive() is None
    assert loss.grad_fn is not None
