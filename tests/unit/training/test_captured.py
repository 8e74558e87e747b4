"""A recorded step computes the same as an ordinary one.

Here nothing is recorded, since that needs a GPU (`test_cuda.py`)."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from starting_network import StartingGRU
from tiedlm.errors import UserError
from tiedlm.model import LanguageModel, ModelConfig
from tiedlm.networks import register
from tiedlm.training import updater
from tiedlm.training.captured import CapturedStep, can_capture
from tiedlm.training.distributed import Ranks
from tiedlm.training.settings import Settings
from tiedlm.training.step import Objective, train_step

really_record = CapturedStep._record


@pytest.fixture(autouse=True)
def _without_a_graph(monkeypatch):
    def record(self):
        def replay():
            self.stats = self._update()

        self.graph = SimpleNamespace(replay=replay)

    monkeypatch.setattr(CapturedStep, "_record", record)


def steps(tied, recorded, clip=5.0):
    settings = Settings(tied=tied, alpha=13.0, clip=clip)
    config = ModelConfig(
        vocab_size=30, d_embed=8, d_hidden=8, tied=tied, dropout_hidden=0.3, dropout_input=0.3
    )
    torch.manual_seed(0)
    model = LanguageModel(config)
    objective = Objective(model, settings)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    tokens = torch.randint(30, (4, 40))
    state = None
    captured = CapturedStep(objective, settings, tokens[:, :5], model.initial_state(4))
    outputs = []
    for start in range(0, 35, 5):
        window = tokens[:, start : start + 5], tokens[:, start + 1 : start + 6]
        if recorded:
            out = captured(*window, state, 1.0, start == 5)
        else:
            out = train_step(objective, optimizer, *window, state, settings)
        state = out.state
        outputs.append([out.ce, out.aug, out.grad_norm])
    return torch.tensor(outputs), model.state_dict(), state


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("clip", [0.1, 5.0])
def test_it_equals_an_ordinary_step(tied, clip):
    one, weights, state = steps(tied, True, clip)
    other, expected, expected_state = steps(tied, False, clip)
    torch.testing.assert_close(one, other)
    for name, value in weights.items():
        torch.testing.assert_close(value, expected[name])
    for part, wanted in zip(state, expected_state, strict=True):
        torch.testing.assert_close(part, wanted)


def small_step():
    settings = Settings()
    model = LanguageModel(ModelConfig(vocab_size=9, d_embed=4, d_hidden=4))
    tokens = torch.randint(9, (2, 6))
    objective = Objective(model, settings)
    return model, tokens, CapturedStep(objective, settings, tokens[:, :5], model.initial_state(2))


def test_without_a_state_it_starts_from_zeros():
    _, tokens, captured = small_step()
    first = captured(tokens[:, :5], tokens[:, 1:], None, 0.0, False)
    again = captured(tokens[:, :5], tokens[:, 1:], None, 0.0, True)
    assert first.ce == again.ce
    assert (first.stop, again.stop) == (False, True)
    assert captured(tokens[:, :5], tokens[:, 1:], again.state, 0.0, False).ce != first.ce


@pytest.mark.parametrize("learned", [True, False])
def test_an_initial_state_that_is_not_zero_begins_every_epoch(own_networks, monkeypatch, learned):
    register("begins_elsewhere")(type("Own", (StartingGRU,), {"learned": learned}))
    settings, found = Settings(network="begins_elsewhere", bptt=5), []
    for captures in (True, False):
        monkeypatch.setattr(updater, "can_capture", lambda *_, captures=captures: captures)
        torch.manual_seed(0)
        shape = {"network": settings.network, "vocab_size": 9, "d_embed": 4, "d_hidden": 4}
        model, state = LanguageModel(ModelConfig(**shape)), None
        made = updater.Updater(Objective(model, settings), settings, Ranks(), torch.device("cpu"))
        tokens = torch.randint(9, (2, 16))
        for start in (0, 5, 10):
            state = made.update(
                tokens[:, start : start + 5], tokens[:, start + 1 : start + 6], state, False
            ).state
        assert (made.captured is not None) == captures
        found.append([*model.parameters(), state.h])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_a_loss_that_is_not_finite_is_an_error():
    model, tokens, captured = small_step()
    with torch.no_grad():
        model.decoder.weight[0, 0] = torch.nan
    with pytest.raises(FloatingPointError, match="loss nan"):
        captured(tokens[:, :5], tokens[:, 1:], None, 1.0, False)


def test_only_steps_of_one_gpu_and_one_group_are_recorded():
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    assert can_capture(Settings(), Ranks(), gpu)
    assert not can_capture(Settings(), Ranks(), cpu)
    assert not can_capture(Settings(accumulate=2), Ranks(), gpu)
    assert not can_capture(Settings(), Ranks(0, 2), gpu)


def test_a_step_that_cannot_be_recorded_is_one_line(monkeypatch):
    class Graph(nullcontext):
        def __exit__(self, *_):
            raise RuntimeError("CUDA error: operation failed due to a previous error\nCompile with")

    stream = SimpleNamespace(wait_stream=lambda other: None)
    for name, stand_in in {
        "Stream": lambda device: stream,
        "current_stream": lambda device: stream,
        "stream": nullcontext,
        "CUDAGraph": lambda: None,
        "graph": lambda graph, stream: Graph(),
        "get_rng_state": lambda device: None,
        "set_rng_state": lambda state, device: None,
    }.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    _, _, captured = small_step()
    with pytest.raises(UserError, match=r"previous error\); set TIEDLM_CUDA_GRAPH=0 to train"):
        really_record(captured)
