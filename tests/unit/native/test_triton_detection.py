"""Triton is used if it works, and processes know how many share the GPU."""

import multiprocessing
from types import SimpleNamespace

import pytest
import torch

from tiedlm.environment_variables import GPU_SHARED_BY, TRITON
from tiedlm.errors import UserError
from tiedlm.experiments import supervisor
from tiedlm.native import gpu_shared_by, share_gpu, triton


def reason(monkeypatch, installed=True, capability=(9, 0)):
    monkeypatch.delenv(TRITON, raising=False)
    monkeypatch.setattr(triton, "_is_installed", lambda: installed)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    return triton._why_not.__wrapped__(0)


def test_the_reason_for_not_using_triton_is_given(monkeypatch):
    assert reason(monkeypatch, installed=False) == "Triton is not installed"
    assert reason(monkeypatch, capability=(6, 1)) == "the GPU is too old for Triton"
    with monkeypatch.context() as patch:
        patch.setattr(torch.version, "hip", "6.0")
        assert reason(monkeypatch) == "tried on NVIDIA's GPUs only"
    monkeypatch.setenv(TRITON, "0")
    assert triton.why_not(torch.device("cuda", 0)) == f"{TRITON}=0"


@pytest.mark.skipif(torch.cuda.is_available(), reason="here it may work")
def test_a_triton_that_fails_is_not_used(monkeypatch):
    assert reason(monkeypatch).startswith("Triton fails here: ")


@pytest.mark.parametrize(("capability", "serves_bf16"), [((7, 5), False), ((8, 0), True)])
def test_bfloat16_needs_a_gpu_that_multiplies_it(monkeypatch, capability, serves_bf16):
    monkeypatch.setattr(triton, "why_not", lambda _: "")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    tensor = SimpleNamespace(is_cuda=True, dtype=torch.float32, device="cuda")
    assert triton.is_for(tensor, products=torch.float32)
    assert triton.is_for(tensor, products=torch.bfloat16) == serves_bf16


@pytest.mark.parametrize("text", ["", "0", "-1", "two"])
def test_the_number_of_gpu_sharers_must_be_a_number(monkeypatch, text):
    monkeypatch.setenv(GPU_SHARED_BY, text)
    with pytest.raises(UserError, match=f"{GPU_SHARED_BY}: expected a whole number of at least 1"):
        gpu_shared_by()


def test_the_users_setting_for_sharing_is_kept(monkeypatch):
    monkeypatch.setenv(GPU_SHARED_BY, "5")
    share_gpu(2)
    assert gpu_shared_by() == 5


def test_a_parallel_task_gets_the_number_of_tasks(monkeypatch):
    monkeypatch.setenv(GPU_SHARED_BY, "1")
    monkeypatch.delenv(GPU_SHARED_BY)
    monkeypatch.setattr(supervisor.signal, "signal", lambda *_: None)  # this process still listens
    ours, theirs = multiprocessing.Pipe()
    supervisor.work_in_child(lambda task, channel: gpu_shared_by(), "task", theirs, 3)
    assert ours.recv() == ("result", (3,))
