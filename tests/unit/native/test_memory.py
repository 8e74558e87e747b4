"""Freed memory is kept for reuse and returned afterwards."""

import resource

import pytest
import torch

from tiedlm.native import memory


def page_faults_of_a_step():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    gradients = [torch.empty(2**24).fill_(1.0) for _ in range(2)]  # 64 MiB each
    del gradients
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(memory._glibc() is None, reason="only glibc has a switch for it")
def test_freed_memory_is_reused_and_returned_afterwards():
    assert memory.keep_freed_memory()
    try:
        steps = [page_faults_of_a_step() for _ in range(12)]
        assert max(steps[-3:]) < 1000  # the first allocations find a place for their blocks
    finally:
        memory.return_freed_memory()
    assert page_faults_of_a_step() > 10_000


def test_without_glibc_nothing_is_done(monkeypatch):
    monkeypatch.setattr(memory, "_glibc", lambda: None)
    assert not memory.keep_freed_memory()
    memory.return_freed_memory()


@pytest.mark.parametrize("numbers", [0, 10, 3 * 2**20 + 7])
def test_large_pages_change_no_number_and_no_address(numbers):
    tensor = torch.arange(numbers, dtype=torch.float32)
    address, expected = tensor.data_ptr(), tensor.clone()
    memory.use_large_pages(tensor)
    assert tensor.data_ptr() == address
    assert torch.equal(tensor, expected)
