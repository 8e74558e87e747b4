"""The fast and exact route of products is detected."""

import pytest
import torch

from tiedlm.arithmetic import arithmetic
from tiedlm.native import processor


@pytest.fixture
def detects_again():
    processor.why_not_fast_fp32.cache_clear()
    yield
    processor.why_not_fast_fp32.cache_clear()


def test_detection_leaves_pytorchs_switch_alone(detects_again):
    switch = processor.fp32_switch()
    before = switch and switch.fp32_precision
    processor.why_not_fast_fp32()
    assert (switch and switch.fp32_precision) == before


def test_products_that_are_not_float32_are_refused(monkeypatch, detects_again):
    if processor.why_not_fast_fp32():
        pytest.skip(f"the route is not used here: {processor.why_not_fast_fp32()}")
    monkeypatch.setattr(processor, "_relative_error", lambda: 2.0**-9)
    processor.why_not_fast_fp32.cache_clear()
    with arithmetic(route="fastest") as used:
        assert used.route == "default"
    assert "not float32" in processor.gemm_info()["fp32_gemm_reason"]


@pytest.mark.parametrize(
    ("avx512", "amx", "reason"), [(False, False, "no AVX-512"), (True, True, "with AMX")]
)
def test_the_missing_cpu_feature_is_named(monkeypatch, detects_again, avx512, amx, reason):
    monkeypatch.setattr(torch.cpu, "_is_avx512_supported", lambda: avx512)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert reason in processor.gemm_info()["fp32_gemm_reason"]
    assert processor.gemm_info()["fp32_gemm"] == "default"
