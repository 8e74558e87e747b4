"""An update by each optimizer is that of a plain PyTorch loop; regularisation; averages."""

from typing import NamedTuple

import pytest
import torch
from torch.nn.utils import clip_grad_norm_

from tiedlm.model import LanguageModel, ModelConfig
from tiedlm.networks import register
from tiedlm.training.captured import can_capture
from tiedlm.training.distributed import Ranks
from tiedlm.training.settings import Settings
from tiedlm.training.step import Objective
from tiedlm.training.updater import Updater, make_optimizer

CPU = torch.device("cpu")
OPTIMIZERS = ["sgd", "nt-asgd", "adam", "adamw"]


def model(**options):
    torch.manual_seed(0)
    shape = {"vocab_size": 9, "d_embed": 5, "d_hidden": 5, "tied": True, "init_range": 0.5}
    return LanguageModel(ModelConfig(**shape | options)).double()


def tokens(B=4, S=40):
    return torch.randint(9, (B, S), generator=torch.Generator().manual_seed(1))


def updater_of(lm, settings):
    updater = Updater(Objective(lm, settings), settings, Ranks(), CPU)
    updater.set_rate(settings.lr)
    return updater


def updates(lm, settings, updater=None, count=4, T=7):
    updater = updater or updater_of(lm, settings)
    state, text = None, tokens()
    for start in range(0, count * T, T):
        piece = text[:, start : start + T + 1]
        state = updater.update(piece[:, :-1], piece[:, 1:], state, False).state
    return updater


def plain(lm, settings, make, inside=0.0, count=4, T=7):
    """Train as one writes it with PyTorch alone."""
    optimizer, state, text = make(lm.parameters()), None, tokens()
    for start in range(0, count * T, T):
        piece = text[:, start : start + T + 1]
        hidden, state = lm(piece[:, :-1], state)
        loss = T * lm.loss(hidden, piece[:, 1:]).loss
        if inside:
            loss = loss + inside / 2 * sum(p.square().sum() for p in lm.parameters())
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(lm.parameters(), settings.clip)
        optimizer.step()
        state = state.detach()


PLAIN = {
    "sgd": lambda p, wd: torch.optim.SGD(p, lr=0.1, weight_decay=wd),
    "nt-asgd": lambda p, wd: torch.optim.SGD(p, lr=0.1, weight_decay=wd),
    "adam": lambda p, wd: torch.optim.Adam(p, lr=0.1, betas=(0.5, 0.8), weight_decay=wd),
    "adamw": lambda p, wd: torch.optim.AdamW(p, lr=0.1, betas=(0.5, 0.8), weight_decay=wd),
}


CASES = [(o, d, i) for o in OPTIMIZERS for d, i in ((0.0, False), (0.3, False), (0.3, True))
         if not (i and o == "adamw")]  # fmt: skip


@pytest.mark.parametrize(("optimizer", "decay", "inside"), CASES)
@pytest.mark.parametrize("clip", [0.4, 1e6])
def test_an_update_is_that_of_a_plain_loop(optimizer, decay, inside, clip):
    settings = Settings(
        optimizer=optimizer, lr=0.1, beta1=0.5, beta2=0.8, clip=clip, weight_decay=decay,
        weight_decay_inside=inside,
    )  # fmt: skip
    ours, theirs = model(), model()
    updates(ours, settings)
    outside, within = (0.0, decay) if inside else (decay, 0.0)
    plain(theirs, settings, lambda p: PLAIN[optimizer](p, outside), within)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-9)


def test_decay_inside_and_outside_the_clip_differ_where_it_clips():
    outcomes = []
    for inside in (True, False):
        lm = model()
        settings = Settings(lr=0.1, weight_decay=0.5, weight_decay_inside=inside, clip=0.1)
        updates(lm, settings)
        outcomes.append(lm.embedding.weight.detach())
    assert (outcomes[0] - outcomes[1]).abs().max() > 1e-3


@pytest.mark.parametrize(("optimizer", "decay", "inside"), CASES)
def test_accumulation_makes_the_same_update(optimizer, decay, inside):
    weights = []
    for groups in (1, 2):
        settings = Settings(
            optimizer=optimizer, batch_size=4, accumulate=groups, weight_decay=decay, clip=0.5,
            weight_decay_inside=inside, ar=3.0, tar=2.0, lr=0.1,
        )  # fmt: skip
        lm = model()
        updates(lm, settings)
        weights.append(list(lm.parameters()))
    for a, b in zip(*weights, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_only_plain_sgd_is_recorded_on_a_gpu(optimizer):
    gpu = torch.device("cuda")
    plain_sgd = optimizer in ("sgd", "nt-asgd")
    assert can_capture(Settings(optimizer=optimizer), Ranks(), gpu) == plain_sgd
    assert not can_capture(Settings(optimizer=optimizer, weight_decay=0.1), Ranks(), gpu)
    assert not can_capture(Settings(optimizer=optimizer, bptt_jitter=True), Ranks(), gpu)


class RawState(NamedTuple):
    h: torch.Tensor


def regularised(lm, settings, T):
    piece = tokens()[:, : T + 1]
    torch.manual_seed(5)
    objective, ce, *_ = Objective(lm, settings)(piece[:, :-1], piece[:, 1:], None)
    return objective, ce


@pytest.mark.parametrize("T", [1, 6])
@pytest.mark.parametrize("jitter", [False, True])
def test_ar_and_tar_are_their_equations(T, jitter):
    lm = model(dropout_hidden=0.4)
    settings = Settings(ar=3.0, tar=5.0, bptt=12, bptt_jitter=jitter)
    objective, ce = regularised(lm, settings, T)
    torch.manual_seed(5)
    hidden, _ = lm(tokens()[:, :T])
    h = hidden.detach().numpy()
    changes = ((h[:, 1:] - h[:, :-1]) ** 2).mean() if T > 1 else 0.0
    steps = 12 if jitter else T
    expected = steps * (ce.item() + (3.0 * (h**2).mean() + 5.0 * changes) / 12)
    assert objective.item() == pytest.approx(expected, rel=1e-12)


def test_tar_is_of_the_output_before_dropout_where_the_network_hands_it_over(own_networks):
    @register("hands_over")
    class Own(torch.nn.Module):
        forgets = True

        def __init__(self, config):
            super().__init__()
            self.d_hidden = config.d_hidden
            self.weight = torch.nn.Parameter(torch.empty(config.d_hidden, config.d_embed))

        def initial_state(self, batch_size):
            return RawState(self.weight.new_zeros(1, batch_size, 1))

        def share_masks(self, rank, world):
            pass

        def forward_time_major(self, x_TBE, state):
            hidden, _, state = self.forward_with_raw(x_TBE, state)
            return hidden, state

        def forward_with_raw(self, x_TBE, state):
            raw_TBH = x_TBE @ self.weight.t()
            return 0.0 * raw_TBH, raw_TBH, self.initial_state(x_TBE.shape[1])

    lm = model(network="hands_over")
    objective, ce = regularised(lm, Settings(ar=3.0, tar=5.0, bptt=6), T=6)
    raw = (lm.embedding(tokens()[:, :6]) @ lm.network.weight.t()).detach()
    changes = (raw[:, 1:] - raw[:, :-1]).square().mean()
    assert objective.item() == pytest.approx((6 * ce + 5 * changes).item(), rel=1e-12)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_average_is_the_mean_of_the_weights_after_each_update(optimizer):
    lm, settings = model(), Settings(optimizer=optimizer, lr=0.1)
    updater = updater_of(lm, settings)
    assert updater.evaluated is lm
    seen = []
    for _ in range(5):
        updates(lm, settings, updater, count=1)
        updater.add_to_average()
        seen.append([p.detach().clone() for p in lm.parameters()])
    for found, *all_of_them in zip(updater.evaluated.parameters(), *seen, strict=True):
        torch.testing.assert_close(found.detach(), torch.stack(all_of_them).mean(0))
    averaged = updater.evaluated
    assert averaged.decoder.weight is averaged.embedding.weight
    assert averaged.num_params() == lm.num_params()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_its_memory_restores_it(optimizer):
    settings = Settings(optimizer=optimizer, lr=0.1, weight_decay=0.1)
    lm = model()
    first = updates(lm, settings)
    first.add_to_average()
    again = model()
    again.load_state_dict(lm.state_dict())
    second = updater_of(again, settings)
    memory = {name: tensor.clone() for name, tensor in first.memory().items()}
    assert all(isinstance(tensor, torch.Tensor) for tensor in memory.values())
    second.remember(memory)
    second.set_rate(settings.lr)
    for one, updater in ((lm, first), (again, second)):
        updates(one, settings, updater)
        updater.add_to_average()
    for a, b in zip(lm.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)
    for a, b in zip(first.evaluated.parameters(), second.evaluated.parameters(), strict=True):
        assert torch.equal(a, b)


def test_sgd_has_no_memory():
    lm, settings = model(), Settings()
    assert updates(lm, settings).memory() == {}


def test_adam_without_its_first_moment():
    optimizer = make_optimizer(model(), Settings(optimizer="adam", beta1=0.0))
    assert optimizer.param_groups[0]["betas"] == (0.0, 0.999)
