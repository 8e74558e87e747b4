import pytest
import torch

from tiedlm import matmul
from tiedlm.arithmetic import arithmetic


def relative_error(c, a, b):
    """Return the largest |c - a b| / (|a| |b|), about 1e-7 in float32 and 1e-3 in bfloat16."""
    a, b = a.double(), b.double()
    return ((c.double() - a @ b).abs() / (a.abs() @ b.abs())).max().item()


@pytest.mark.parametrize("accumulate", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_matmul_writes_or_adds_into_a_float32_result(dtype, accumulate, monkeypatch):
    monkeypatch.setattr(matmul, "_PART", 7)  # two rows, so that there are three parts
    a, b = torch.randn(5, 7).to(dtype), torch.randn(7, 3).to(dtype)
    out = torch.ones(5, 3)
    result = matmul.matmul(a, b, out, accumulate=accumulate)
    assert result is out
    tolerance = 1e-6 if dtype == torch.float32 else 5e-2
    expected = (a.double() @ b.double()).float() + (1 if accumulate else 0)
    torch.testing.assert_close(out, expected, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize(
    ("dtype", "out_dtype"),
    [
        (torch.float32, torch.float32),
        (torch.bfloat16, torch.bfloat16),
        (torch.bfloat16, torch.float32),
    ],
)
def test_matmul_writes_the_same_numbers_by_blocks_of_columns(dtype, out_dtype, monkeypatch):
    hidden, weight = torch.randn(5, 16).to(dtype), torch.randn(11, 16).to(dtype)
    whole = torch.empty(5, 11, dtype=out_dtype)
    wider = torch.full((5, 13), 7.0, dtype=out_dtype)
    for accumulate in (False, True):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
        monkeypatch.setattr(matmul, "_COLUMNS", 2048)
        matmul.matmul(hidden, weight.t(), whole, accumulate=accumulate)
        times = 2 if accumulate else 1
        torch.testing.assert_close(whole, times * (hidden @ weight.t()).to(out_dtype))
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
        monkeypatch.setattr(matmul, "_COLUMNS", 4)
        by_blocks = matmul.matmul(hidden, weight.t(), wider[:, :11], accumulate=accumulate)
        torch.testing.assert_close(by_blocks, whole)
    assert bool((wider[:, 11:] == 7).all())


@pytest.mark.parametrize("out_dtype", [torch.float32, torch.bfloat16])
def test_matmul_of_a_transposed_factor_equals_that_of_a_copy(out_dtype, monkeypatch):
    # As in W's gradient: strided rows, and columns that only pad the product.
    grad, hidden = torch.randn(7, 24)[:, :19].bfloat16(), torch.randn(7, 8).bfloat16()
    expected = (grad.double().t() @ hidden.double())[:, :5]
    for has_amx in (False, True):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda has_amx=has_amx: has_amx)
        out = torch.full((19, 5), torch.nan, dtype=out_dtype)
        assert matmul.matmul(grad.t(), hidden, out) is out
        torch.testing.assert_close(out.double(), expected, atol=5e-2, rtol=2e-2)
        matmul.matmul(grad.t(), hidden, out, accumulate=True)
        torch.testing.assert_close(out.double(), 2 * expected, atol=1e-1, rtol=4e-2)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("rows", [1, 5, 20])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_adder_adds_the_product_with_the_weight_it_was_given(dtype, rows, transposed):
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(33, 17, generator=generator).to(dtype)
    if transposed:
        weight = weight.t().contiguous().t()
    wide = torch.promote_types(dtype, torch.float32)
    with arithmetic(route="fastest"):
        add = matmul.adder(weight, rows)
        for seed in (2, 3):  # the same laid-out weight serves several products
            a = torch.randn(rows, 17, generator=generator.manual_seed(seed)).to(dtype)
            out = torch.ones(rows, 33, dtype=wide)
            add(a, out)
            level = {torch.float64: 1e-14, torch.float32: 1e-6, torch.bfloat16: 4e-3}[dtype]
            assert relative_error(out - 1, a, weight.t()) < level + 1e-6 * (wide != dtype)


@pytest.mark.parametrize("rows", [1, 20])
def test_float32_weights_are_laid_out_for_the_library_of_their_products(rows):
    weight, a = torch.randn(33, 17), torch.randn(rows, 17)
    if matmul._can_pack("MKL", torch.float32):
        assert matmul._packing(weight) == "MKL"
        assert matmul._packing(weight.t()) is None
    for _ in range(2):
        assert relative_error(matmul.multiplier(weight, rows)(a), a, weight.t()) < 1e-6


def test_adder_gives_the_same_without_the_layout_operations(monkeypatch):
    weight, a = torch.randn(8, 5).bfloat16(), torch.randn(3, 5).bfloat16()
    with_them, without = torch.zeros(3, 8), torch.zeros(3, 8)
    matmul.adder(weight, 3)(a, with_them)
    monkeypatch.setattr(matmul, "_can_pack", lambda library, dtype: False)
    matmul.adder(weight, 3)(a, without)
    torch.testing.assert_close(with_them, without, rtol=1e-2, atol=1e-2)


def test_the_probe_refuses_operations_that_are_missing_or_inexact(monkeypatch):
    class Missing:
        def __getattr__(self, name):
            raise AttributeError(name)

    matmul._can_pack.cache_clear()
    monkeypatch.setattr(torch.ops, "mkldnn", Missing(), raising=False)
    assert not matmul._can_pack("oneDNN", torch.float32)
    matmul._can_pack.cache_clear()
    monkeypatch.undo()
    monkeypatch.setattr(matmul, "FP32_LEVEL", 0.0)
    assert not matmul._can_pack("oneDNN", torch.float32)
    matmul._can_pack.cache_clear()
