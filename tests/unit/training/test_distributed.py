"""What several processes share: a GPU each."""

import pytest
import torch

from tiedlm.errors import UserError
from tiedlm.training import distributed


@pytest.fixture
def two_gpus(monkeypatch):
    """Pretend to be a process of two on a machine with two GPUs."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    taken = []
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    for name in ("init_process_group", "barrier", "destroy_process_group"):
        monkeypatch.setattr(distributed.dist, name, lambda *_, **__: None)
    monkeypatch.setattr(distributed.dist, "get_rank", lambda: 1)
    monkeypatch.setattr(distributed.dist, "get_world_size", lambda: 2)
    return taken


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_each_process_takes_a_gpu_of_its_own(two_gpus, monkeypatch, device):
    monkeypatch.setenv("LOCAL_RANK", "1")
    with distributed.join(device):
        assert two_gpus == [1]


@pytest.mark.parametrize(
    ("number", "device", "message"),
    [
        ("2", "auto", "no GPU for process 3 of this machine; .* --nproc-per-node 2, or .* cpu"),
        ("1", "cuda:0", "--device cuda:0: each of several processes trains on a GPU of its own"),
    ],
)
def test_processes_that_cannot_have_a_gpu_each_get_one_line(
    two_gpus, monkeypatch, number, device, message
):
    monkeypatch.setenv("LOCAL_RANK", number)
    with pytest.raises(UserError, match=message), distributed.join(device):
        pass
