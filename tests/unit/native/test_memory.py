"""Freed memory is kept for reuse and returned afterwards."""

import subprocess
import sys

import pytest
import torch

from tiedlm.native import memory

# In a process of its own: the heap of one with many mappings may have no room to grow.
STEPS = """
import resource
import torch
from tiedlm.native import memory

def page_faults_of_a_step():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    gradients = [torch.empty(2**24).fill_(1.0) for _ in range(2)]  # 64 MiB each
    del gradients
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

assert memory.keep_freed_memory()
print(*(page_faults_of_a_step() for _ in range(12)))
memory.return_freed_memory()
print(page_faults_of_a_step())
"""


@pytest.mark.skipif(memory._glibc() is None, reason="only glibc has a switch for it")
def test_freed_memory_is_reused_and_returned_afterwards():
    done = subprocess.run([sys.executable, "-c", STEPS], capture_output=True, text=True, check=True)
    reused, returned = ([int(n) for n in line.split()] for line in done.stdout.splitlines())
    assert max(reused[-3:]) < 1000  # the first allocations find a place for their blocks
    assert returned[0] > 10_000


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
