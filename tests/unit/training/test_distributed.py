"""What several processes share: a GPU each, and gradients."""

import pytest
import torch
import torch.distributed as dist

from starting_network import StartingGRU
from tiedlm.errors import UserError
from tiedlm.model import LanguageModel, ModelConfig
from tiedlm.networks import register
from tiedlm.training import distributed
from tiedlm.training.distributed import Ranks
from tiedlm.training.settings import Settings
from tiedlm.training.step import Objective
from tiedlm.training.updater import Updater


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


class WithoutUse(StartingGRU):
    """A network with a parameter that no window uses."""

    learned = False


@pytest.mark.parametrize("network", [StartingGRU, WithoutUse])
def test_parameters_that_a_window_leaves_out_are_no_trouble(own_networks, network):
    register("leaves_out")(network)

    def trained(ranks):
        torch.manual_seed(0)
        settings = Settings(network="leaves_out", bptt=5)
        config = ModelConfig(network="leaves_out", vocab_size=9, d_embed=4, d_hidden=4)
        objective = Objective(LanguageModel(config), settings)
        made = Updater(objective, settings, ranks, torch.device("cpu"))
        tokens, state = torch.randint(9, (2, 16)), None
        for start in (0, 5, 10):
            window = tokens[:, start : start + 5], tokens[:, start + 1 : start + 6]
            state = made.update(*window, state, False).state
        return objective.model.state_dict()

    alone = trained(Ranks())
    # A group of one process, which takes itself for one of two.
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        shared = trained(Ranks(0, 2))
    finally:
        dist.destroy_process_group()
    for name, value in alone.items():
        torch.testing.assert_close(shared[name], value)
