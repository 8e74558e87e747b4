"""The learning rate of each update, and when averaging begins."""

import math

import numpy as np
import pytest
import torch

from tiedlm.training.schedules import is_averaging, learning_rate, plateaus
from tiedlm.training.settings import Settings


def rate(settings, epoch, share=0.0, step=10**6, valid=()):
    return learning_rate(settings, epoch, share, step, valid)


def test_exponential_is_that_of_the_settings():
    settings = Settings(lr=0.7, lr_decay=0.8, decay_after=2)
    assert [rate(settings, e, 0.3) for e in range(1, 9)] == [settings.lr_at(e) for e in range(1, 9)]


def test_cosine_is_pytorchs_and_goes_on_within_an_epoch():
    settings = Settings(schedule="cosine", lr=0.5, lr_min=0.1, epochs=10)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 40, eta_min=0.1)
    for quarter in range(40):
        expected = optimizer.param_groups[0]["lr"]
        assert rate(settings, quarter // 4 + 1, quarter % 4 / 4) == pytest.approx(expected)
        optimizer.step()
        scheduler.step()
    assert rate(settings, 11) == pytest.approx(0.1)


@pytest.mark.parametrize("schedule", ["exponential", "cosine", "plateau"])
def test_warm_up_is_linear_in_the_updates_and_ends_with_the_whole_rate(schedule):
    settings = Settings(schedule=schedule, lr=2.0, warmup=4)
    rates = [rate(settings, 1, step=step) for step in range(6)]
    assert rates == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.0, 2.0])


@pytest.mark.parametrize("patience", [1, 2, 3])
def test_a_plateau_is_pytorchs(patience):
    draw = np.random.default_rng(patience)
    valid = [float(v) for v in draw.integers(50, 90, 40)]
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=0.5, patience=patience - 1, threshold=0, eps=0
    )
    settings = Settings(schedule="plateau", lr_decay=0.5, plateau_patience=patience)
    for epoch, value in enumerate(valid, start=1):
        assert rate(settings, epoch, valid=valid[: epoch - 1]) == optimizer.param_groups[0]["lr"]
        scheduler.step(value)
    assert plateaus(valid, patience) > 2


def test_an_equal_perplexity_is_not_a_better_one():
    assert plateaus([5.0, 5.0], 1) == 1
    assert plateaus([5.0, 4.0], 1) == 0


def awd_lstm(valid, n):
    """Return after how many epochs AWD-LSTM's program switches to ASGD (its lines, in short)."""
    best_val_loss = []
    for epoch, val_loss in enumerate(valid, start=1):
        if len(best_val_loss) > n and val_loss > min(best_val_loss[:-n]):
            return epoch
        best_val_loss.append(val_loss)
    return math.inf


@pytest.mark.parametrize("n", [1, 2, 5])
def test_nt_asgd_begins_to_average_where_awd_lstm_does_and_never_stops(n):
    settings = Settings(optimizer="nt-asgd", average_trigger=n)
    starts = set()
    for seed in range(20):
        draw = np.random.default_rng(seed)
        valid = [100 - 3 * e + float(draw.normal(0, 2 + e)) for e in range(20)]
        found = [is_averaging(settings, e + 1, valid[:e]) for e in range(20)]
        first = awd_lstm(valid, n)
        assert found == [e >= first for e in range(20)]
        starts.add(first)
    assert len(starts) > 2


def test_other_optimizers_average_from_the_given_epoch_on():
    settings = Settings(optimizer="adam", average_from=3)
    assert [is_averaging(settings, e, [9.0] * 9) for e in (1, 2, 3, 4)] == [0, 0, 1, 1]
    assert not is_averaging(Settings(), 50, [9.0] * 49)
