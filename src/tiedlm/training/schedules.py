"""Compute what changes during a run: the learning rate, and whether weights are averaged.

Both are functions of the settings and of the run's progress, so a checkpoint need not store them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from tiedlm.training.settings import Settings


def learning_rate(
    settings: Settings, epoch: int, share: float, step: int, valid: Sequence[float]
) -> float:
    r"""Return the learning rate of an update.

    .. math::
        \eta &= \min(1, (step + 1) / warmup) \cdot \eta' \\
        \text{exponential:}\quad \eta' &= lr \cdot decay^{\max(0, epoch - after)} \\
        \text{cosine:}\quad \eta' &= lr_{min} + (lr - lr_{min}) (1 + \cos(\pi p)) / 2 \\
        \text{plateau:}\quad \eta' &= lr \cdot decay^{plateaus}

    ``p`` is the share of all epochs that has been read.

    Args:
        settings: of the run.
        epoch: counted from 1.
        share: of this epoch's text that has been read, in [0, 1).
        step: updates made so far.
        valid: the validation perplexity of each earlier epoch.

    Source: Loshchilov and Hutter (2017) for the cosine.
    """
    if settings.schedule == "cosine":
        done = (epoch - 1 + share) / settings.epochs
        height = (1 + math.cos(math.pi * done)) / 2
        rate = settings.lr_min + (settings.lr - settings.lr_min) * height
    elif settings.schedule == "plateau":
        rate = settings.lr * settings.lr_decay ** plateaus(valid, settings.plateau_patience)
    else:
        rate = settings.lr_at(epoch)
    if step < settings.warmup:
        rate *= (step + 1) / settings.warmup
    return rate


def plateaus(valid: Sequence[float], patience: int) -> int:
    """Count how often ``patience`` epochs in a row brought no better validation perplexity.

    It is ``torch.optim.lr_scheduler.ReduceLROnPlateau`` with ``patience - 1`` and threshold 0.
    """
    best, waited, found = math.inf, 0, 0
    for value in valid:
        waited = 0 if value < best else waited + 1
        best = min(best, value)
        if waited == patience:
            found, waited = found + 1, 0
    return found


def is_averaging(settings: Settings, epoch: int, valid: Sequence[float]) -> bool:
    """Tell whether the weights of an epoch's updates are averaged.

    NT-ASGD compares the validation perplexity of an epoch with the best one more than
    ``average_trigger`` epochs earlier. It averages after the first epoch that is worse. Other
    optimizers average from ``average_from`` on.

    Args:
        settings: of the run.
        epoch: counted from 1.
        valid: the validation perplexity of each earlier epoch.

    Source: Merity et al. (2018), algorithm 1; "the last epochs" are as in their program.
    """
    if settings.optimizer != "nt-asgd":
        return settings.average_from is not None and epoch >= settings.average_from
    n = settings.average_trigger
    return any(valid[e] > min(valid[: e - n]) for e in range(n + 1, len(valid)))
