import resource

import pytest
import torch

from tiedlm import workspace


@pytest.fixture(autouse=True)
def not_reusing(monkeypatch):
    monkeypatch.setattr(workspace, "_is_reusing", False)  # a command may have set it before


def page_faults_of_a_step():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    gradients = [torch.empty(2**24).fill_(1.0) for _ in range(2)]  # 64 MiB each
    del gradients
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(workspace._glibc() is None, reason="only glibc has a switch for it")
def test_freed_memory_is_used_again_and_given_back_afterwards():
    with workspace.reuse_freed_memory() as does:
        assert does
        steps = [page_faults_of_a_step() for _ in range(6)]
        assert max(steps[3:]) < 1000  # the first ones find where their blocks fit
        assert workspace.is_reusing()
    assert page_faults_of_a_step() > 10_000
    assert not workspace.is_reusing()


def test_without_glibc_nothing_is_done(monkeypatch):
    monkeypatch.setattr(workspace, "_glibc", lambda: None)
    with workspace.reuse_freed_memory() as does:
        assert not does
    assert not workspace.enable_reuse_of_freed_memory()
