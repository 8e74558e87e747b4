"""The five switches of the process are set for a block and restored after it."""

import pytest
import torch

from tiedlm import native
from tiedlm.arithmetic import (
    LEAST_WORK,
    arithmetic,
    gemm_dtype,
    in_use,
    is_compiled,
    is_reusing,
    kernels_for,
)
from tiedlm.arithmetic import resolve_precision as resolve
from tiedlm.native import memory, processor

ONE = torch.zeros(1)


def state():
    """Return all values that a block may change."""
    switch = processor.fp32_switch()
    cuda = torch.backends.cuda.matmul
    return (
        in_use(),
        switch and switch.fp32_precision,
        cuda.allow_bf16_reduced_precision_reduction,
    )


@pytest.fixture(autouse=True)
def one_answer(monkeypatch):
    """Let the switch give one answer for any number of threads."""
    reason = processor.why_not_fast_fp32()
    monkeypatch.setattr(processor, "why_not_fast_fp32", lambda: reason)


ALL = {"precision": "bf16", "route": "fastest", "kernels": True, "reuse": True, "threads": 1}
NONE = {"precision": "fp32", "route": "default", "kernels": False, "reuse": False, "threads": 2}


def possible(choices):
    """Return the choices that this machine supports."""
    return {
        **choices,
        "route": choices["route"],
        "kernels": choices["kernels"] and not native.why_not(),
        "reuse": choices["reuse"] and memory._glibc() is not None,
    }


def test_a_block_has_what_it_chose_and_leaves_the_process_as_it_was():
    before = state()
    with arithmetic(**ALL) as used:
        assert used._asdict() == possible(ALL)
        assert used == in_use()
        assert (is_compiled(), is_reusing()) == (used.kernels, used.reuse)
        assert torch.get_num_threads() == 1
        assert not torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction
    assert state() == before


@pytest.mark.parametrize(("outer", "inner"), [(ALL, NONE), (NONE, ALL), (ALL, ALL)])
def test_a_block_inside_another_restores_the_outer_one(outer, inner):
    before = state()
    with arithmetic(**outer):
        outside = state()
        for _ in range(2):
            with arithmetic(**inner) as used:
                assert used._asdict() == possible(inner)
            assert state() == outside
    assert state() == before


@pytest.mark.parametrize("name", list(ALL))
def test_a_block_changes_only_the_switch_it_chose(name):
    with arithmetic(**NONE) as outside:
        with arithmetic(**{name: ALL[name]}) as used:
            assert used._asdict() == {**outside._asdict(), name: possible(ALL)[name]}
        assert in_use() == outside


def test_everything_is_restored_after_an_error():
    before = state()
    with pytest.raises(KeyError), arithmetic(**ALL):
        raise KeyError
    assert state() == before


@pytest.mark.parametrize("wrong", [{"precision": "x"}, {"route": "x"}, {"threads": 0}])
def test_a_choice_that_does_not_exist_changes_nothing(wrong):
    before = state()
    with pytest.raises((ValueError, RuntimeError)), arithmetic(**{**ALL, **wrong}):
        pass
    assert state() == before


def test_a_function_can_be_a_block():
    @arithmetic(precision="bf16")
    def inside():
        return gemm_dtype(ONE)

    assert [inside(), inside()] == [torch.bfloat16] * 2
    assert gemm_dtype(ONE) == torch.float32


def test_an_unsupported_choice_is_refused_with_the_reason(monkeypatch):
    monkeypatch.setattr(processor, "why_not_fast_fp32", lambda: "no AVX-512")
    monkeypatch.setattr(native, "why_not", lambda: "no compiler")
    monkeypatch.setattr(memory, "_glibc", lambda: None)
    with arithmetic(route="fastest", kernels=True, reuse=True) as used:
        assert (used.route, used.kernels, used.reuse) == ("auto", False, False)


def test_freed_memory_is_returned_by_the_block_that_kept_it(monkeypatch):
    calls = []
    monkeypatch.setattr(memory, "keep_freed_memory", lambda: calls.append("keep") or True)
    monkeypatch.setattr(memory, "return_freed_memory", lambda: calls.append("return"))
    with arithmetic(reuse=True):
        with arithmetic(reuse=True):
            pass
        assert calls == ["keep"]
    assert calls == ["keep", "return"]


@pytest.mark.skipif(bool(native.why_not()), reason=native.why_not() or "-")
def test_the_kernels_serve_only_while_they_are_chosen():
    with arithmetic(kernels=False):
        assert kernels_for(ONE, products=torch.float32, work=LEAST_WORK) is None
    with arithmetic(kernels=True):
        assert kernels_for(ONE, None, products=torch.float32, work=1) is not None
        assert kernels_for(ONE.double(), products=torch.float32, work=1) is None
        assert kernels_for(ONE, products=torch.float64, work=1) is None


def test_precision_of_a_float32_gemm_follows_the_innermost_block():
    assert gemm_dtype(ONE) == torch.float32
    with arithmetic(precision="bf16"):
        assert gemm_dtype(ONE) == torch.bfloat16
        with arithmetic(precision="fp32"):
            assert gemm_dtype(ONE) == torch.float32
        assert gemm_dtype(ONE) == torch.bfloat16
    assert gemm_dtype(ONE) == torch.float32


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_precision_leaves_types_other_than_float32_alone(dtype):
    with arithmetic(precision="bf16"):
        assert gemm_dtype(torch.zeros(1, dtype=dtype)) == dtype


def test_autocast_decides_where_it_is_on():
    with torch.autocast("cpu", torch.float16), arithmetic(precision="bf16"):
        assert gemm_dtype(ONE) == torch.float16
        assert gemm_dtype(torch.zeros(1, dtype=torch.bfloat16)) == torch.float16
        assert gemm_dtype(torch.zeros(1, dtype=torch.float64)) == torch.float64


def test_auto_is_bf16_exactly_where_the_cpu_multiplies_it(monkeypatch):
    for has_it, expected in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(processor, "has_fast_bf16", lambda device, has_it=has_it: has_it)
        assert resolve("auto") == expected


def test_unknown_choices_are_named():
    with pytest.raises(ValueError, match="precision: expected 'auto', 'fp32' or 'bf16', got 'x'"):
        resolve("x")
    with (
        pytest.raises(ValueError, match="route: expected 'auto', 'fastest' or 'default', got 'x'"),
        arithmetic(route="x"),
    ):
        pass


def test_the_fastest_route_is_float32_to_the_last_bits():
    a, b = torch.randn(41, 401), torch.randn(401, 1271)
    with arithmetic(route="fastest"):
        c = a @ b
    exact, scale = a.double() @ b.double(), a.double().abs() @ b.double().abs()
    assert ((c - exact).abs() / scale).max() < processor.FP32_LEVEL


def test_pytorchs_own_setting_can_be_read_after_a_block():
    before = torch.get_float32_matmul_precision()
    with arithmetic(route="fastest"):
        pass
    assert torch.get_float32_matmul_precision() == before
