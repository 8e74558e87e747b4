"""The compiled product: exact, the same on any number of threads, and only where it is asked."""

import pytest
import torch

from tiedlm import matmul, native
from tiedlm.arithmetic import arithmetic
from tiedlm.matmul import kinds
from tiedlm.native import routes
from tiedlm.native.ways import WAYS, compiled_linear

pytestmark = pytest.mark.skipif(bool(native.why_not()), reason=native.why_not() or "-")
compiled = WAYS["compiled"]


def laid_out(x, transposed):
    """Return a matrix with the same numbers that lies in memory column by column."""
    return x.t().contiguous().t() if transposed else x


# Shapes that end inside a tile, a panel and a block, and shapes of several blocks.
SHAPES = [(1, 1, 1), (13, 1409, 33), (150, 705, 1050), (97, 31, 64), (3, 5, 2100)]


@pytest.mark.parametrize("transposed", [(False, False), (False, True), (True, False), (True, True)])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_compiled_product_agrees_with_float64(shape, transposed):
    M, K, P = shape
    a, b = laid_out(torch.randn(M, K), transposed[0]), laid_out(torch.randn(K, P), transposed[1])
    out = torch.full((M, P), torch.nan)
    assert compiled(a, b, out, False) is out
    scale = a.abs().double() @ b.abs().double()
    exact = a.double() @ b.double()
    assert ((out - exact).abs() <= routes.FP32_LEVEL * scale).all()
    compiled(a, b, out, True)
    assert ((out - 2 * exact).abs() <= 3 * routes.FP32_LEVEL * scale).all()


def test_a_compiled_product_writes_nothing_outside_its_columns():
    wide = torch.full((14, 40), 7.0)
    compiled(torch.randn(14, 9), torch.randn(9, 33), wide[:, 3:36], False)
    assert bool((wide[:, :3] == 7).all())
    assert bool((wide[:, 36:] == 7).all())


@pytest.mark.parametrize("K", [3, 1500])
def test_a_compiled_layer_adds_its_bias_once(K):
    x, weight, bias = torch.randn(25, K), torch.randn(50, K), torch.randn(100)[::2]
    exact = torch.addmm(bias.double(), x.double(), weight.double().t())
    scale = torch.addmm(bias.abs(), x.abs(), weight.abs().t())
    assert ((compiled_linear(x, weight, bias) - exact).abs() <= routes.FP32_LEVEL * scale).all()


def test_a_compiled_product_has_the_same_bits_on_any_number_of_threads():
    a, b = torch.randn(200, 800), torch.randn(800, 90)
    found = []
    for threads in (1, 2, 3):
        with arithmetic(threads=threads):
            found.append(compiled(a, b, torch.empty(200, 90), False))
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_it_is_measured_only_where_kernels_are_used(monkeypatch):
    found = {}

    def choose(kind, usual, trial):
        found[kind] = "compiled" in trial().ways
        return routes.Choice(usual, {}, {})

    monkeypatch.setattr(kinds, "_LEAST_PRODUCT", 8)
    monkeypatch.setattr(routes, "choose", choose)
    a, b = torch.randn(8, 8), torch.randn(8, 8)
    for kernels in (True, False):
        with arithmetic(kernels=kernels):
            matmul.matmul(a, b, torch.empty(8, 8))
    assert sorted(found.values()) == [False, True]
    assert [measured for kind, measured in found.items() if "without kernels" in kind] == [False]
