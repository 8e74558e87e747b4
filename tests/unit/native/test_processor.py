"""Whether PyTorch's switch for float32 products serves here, by measurement."""

import pytest
import torch

from tiedlm.arithmetic import arithmetic
from tiedlm.native import processor, routes
from tiedlm.native.routes import Choice


def found(monkeypatch, route, milliseconds=None, errors=None):
    choice = Choice(route, milliseconds or {}, errors or {})
    monkeypatch.setattr(routes, "choose", lambda *_: choice)


def is_switch_on():
    """Tell whether PyTorch's float32 products go to oneDNN now."""
    switch = processor.fp32_switch()
    return switch is not None and switch.fp32_precision == "bf16"


def test_measuring_leaves_pytorchs_switch_alone():
    switch = processor.fp32_switch()
    if switch is None:
        pytest.skip("this PyTorch has no switch")
    before = switch.fp32_precision
    trial = processor._trial()
    for way in trial.ways.values():
        trial.error(way()())
        assert switch.fp32_precision == before


def test_products_that_are_rounded_are_seen():
    trial = processor._trial()
    products = trial.ways["default"]()()
    assert trial.error(products) < trial.level
    assert trial.error([product.bfloat16().float() for product in products]) > trial.level


@pytest.mark.parametrize(
    ("milliseconds", "errors", "reason"),
    [
        ({"default": 1.0, "oneDNN": 0.5}, {"oneDNN": 2.0**-9}, "not float32"),
        ({"default": 1.0, "oneDNN": 0.95}, {"oneDNN": 1e-7}, "takes 0.95 of the usual time"),
        ({}, {}, "not measured"),
    ],
)
def test_the_reason_against_the_switch_is_named(monkeypatch, milliseconds, errors, reason):
    found(monkeypatch, "default", milliseconds, errors)
    assert reason in processor.gemm_info()["fp32_gemm_reason"]
    assert processor.gemm_info()["fp32_gemm"] == "default"
    with arithmetic(route="fastest") as used:
        assert used.route == "auto"
        assert not is_switch_on()


def test_the_switch_is_on_where_it_was_measured_to_be_faster(monkeypatch):
    if processor.fp32_switch() is None or not torch.backends.mkldnn.is_available():
        pytest.skip("this PyTorch has no switch")
    found(monkeypatch, "oneDNN")
    with arithmetic(route="fastest") as used:
        assert used.route == "fastest"
        assert is_switch_on()
        with arithmetic(route="auto"):
            assert not is_switch_on()
    assert not is_switch_on()
