"""One update of the model: forward, loss, backward, clip, optimizer.

Shape letters: B streams, T steps.
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from tiedlm.loss import LossOutput
from tiedlm.model import LanguageModel
from tiedlm.networks.state import State, detach, join, split
from tiedlm.training.distributed import Ranks
from tiedlm.training.settings import Settings
from tiedlm.training.soft_targets import TargetSource
from tiedlm.tying import TwoUses


class StepOutput(NamedTuple):
    """The result of an update.

    Args:
        ce: mean cross-entropy of the window's targets, of all ranks, in nats.
        aug: their mean augmented loss.
        grad_norm: global norm of the gradient before clipping.
        stop: whether any rank was asked to stop.
        state: the carried state of this rank's streams, detached.
    """

    ce: float
    aug: float
    grad_norm: float
    stop: bool
    state: State


class Objective(nn.Module):
    r"""The model together with the loss that training minimises, ``ce_weight J + alpha J_aug``.

    The loss is summed over the steps of a window and averaged over its streams. The paper's
    learning rate of 1 and clip of 5 work on this scale. For T steps the objective is

    .. math::
        T (w J + \alpha J_{aug})
        + T / bptt \, (ar \cdot mean(h^2) + tar \cdot mean((r_t - r_{t-1})^2))

    with the network's output after dropout ``h`` and before dropout ``r``. If the windows vary in
    length, ``bptt`` takes the place of T here, and the learning rate is scaled instead.

    Args:
        model: what is trained.
        settings: the weights of the losses.
        target_source: gives the rows of the soft target; None takes the model's embedding.

    Source: Inan et al. (2017); Zaremba et al. (2014); Merity et al. (2018), section 4.4.
    """

    def __init__(
        self, model: LanguageModel, settings: Settings, target_source: TargetSource | None = None
    ) -> None:
        super().__init__()
        self.model = model
        self.target_source = target_source
        # The objective is ce_weight (J + alpha / ce_weight J_aug). A weight of 0 is replaced by
        # 2^-64, which makes J negligible.
        self.scale = max(settings.ce_weight, 2.0**-64)
        alpha = settings.alpha / self.scale
        self.loss_settings = (alpha, settings.temperature, settings.target_grad)
        self.smooths = settings.soft_target == "smoothing"
        self.ar, self.tar, self.bptt = settings.ar, settings.tar, settings.bptt
        self.jitters = settings.bptt_jitter

    def forward(
        self, inputs_BT: Tensor, targets_BT: Tensor, state: State | None
    ) -> tuple[Tensor, Tensor, Tensor, State]:
        """Return ``(objective, ce, aug, state)`` of a window."""
        weight = self.model.embedding.weight
        for_output = None
        if self.model.config.tied:
            weight, for_output = TwoUses.apply(weight)  # type: ignore[no-untyped-call]
        sparse = for_output is not None  # TwoUses adds the sparse rows to the other gradient
        hidden, raw, new_state = self.model.read_with_raw(inputs_BT, state, weight, sparse=sparse)
        rows = None
        if self.target_source is not None:
            rows = self.target_source(weight if for_output is None else for_output)
        if self.smooths:
            out = self._smoothed(hidden, targets_BT, for_output)
        else:
            out = self.model.loss(
                hidden, targets_BT, *self.loss_settings, embedding=rows, weight=for_output
            )
        steps = self.bptt if self.jitters else targets_BT.shape[1]
        objective = out.loss * (self.scale * steps)
        if self.ar:
            objective = objective + hidden.square().mean() * (self.ar * steps / self.bptt)
        if self.tar and raw.shape[1] > 1:
            changes = (raw[:, 1:] - raw[:, :-1]).square().mean()
            objective = objective + changes * (self.tar * steps / self.bptt)
        return objective, out.ce, out.aug, detach(new_state)

    def _smoothed(
        self, hidden: Tensor, targets_BT: Tensor, for_output: Tensor | None
    ) -> LossOutput:
        """Return the loss of "smoothing", where J_aug = KL(uniform || y^) and y^ has the bias.

        With the logits z, ``-log y^`` is ``J + z_target - z`` for each word. So ``J_aug`` is
        ``J + z_target - mean(z) - log V``, and the other logits are not needed.
        """
        decoder = self.model.decoder
        weight = decoder.weight if for_output is None else for_output
        ce = self.model.loss(hidden, targets_BT, weight=for_output).loss
        # `embedding` instead of indexing: its gradient is summed in the same order for any number
        # of threads.
        above_mean = functional.embedding(targets_BT, weight) - weight.mean(0)
        scores = (decoder.project(hidden) * above_mean).sum(-1)
        if decoder.bias is not None:
            bias = functional.embedding(targets_BT, decoder.bias.unsqueeze(1)).squeeze(-1)
            scores = scores + bias - decoder.bias.mean()
        aug = ce + scores.mean() - math.log(len(weight))
        return LossOutput(ce + self.loss_settings[0] * aug, ce.detach(), aug.detach())


def train_step(
    objective: nn.Module,
    optimizer: torch.optim.Optimizer,
    inputs_BT: Tensor,
    targets_BT: Tensor,
    state: State | None,
    settings: Settings,
    ranks: Ranks | None = None,
    stop_requested: bool = False,
) -> StepOutput:
    """Update the model on one window.

    With ``settings.accumulate`` above 1 the streams are read in that many groups, one after
    another. This gives the same gradient in less memory.

    Args:
        objective: an :class:`Objective`, perhaps wrapped for several ranks.
        optimizer: of its parameters.
        inputs_BT: this rank's words.
        targets_BT: the next words.
        state: what the last window left.
        settings: weight decay, clip and accumulation.
        ranks: this process among those that train together.
        stop_requested: whether this rank was asked to stop.

    Raises:
        FloatingPointError: if the loss or the gradient is not finite; nothing was updated.
    """
    ranks = ranks or Ranks()
    groups = settings.accumulate
    optimizer.zero_grad(set_to_none=True)
    parts = []
    states = [None] * groups if state is None else split(state, groups)
    for group, own_state in enumerate(states):
        is_last = group == groups - 1
        quiet = isinstance(objective, DistributedDataParallel) and not is_last
        with objective.no_sync() if quiet else nullcontext():  # type: ignore[operator]
            loss, ce, aug, new_state = objective(
                inputs_BT.chunk(groups)[group], targets_BT.chunk(groups)[group], own_state
            )
            torch.autograd.backward(loss / groups)
        parts.append((ce, aug, new_state))
    if settings.weight_decay_inside:
        add_weight_decay(objective, settings.weight_decay)
    norm = get_total_norm([p.grad for p in objective.parameters() if p.grad is not None])
    mean_ce, mean_aug = (torch.stack([part[i] for part in parts]).mean() for i in (0, 1))
    ce, aug, grad_norm = torch.stack([mean_ce, mean_aug, norm]).tolist()
    ce, aug, stop = ranks.sum([ce, aug, float(stop_requested)], inputs_BT.device)
    ce, aug = ce / ranks.world, aug / ranks.world
    check_finite(ce, aug, grad_norm)
    clipped_step(optimizer, grad_norm, settings.clip)
    return StepOutput(ce, aug, grad_norm, stop > 0, join([part[2] for part in parts]))


def is_plain_sgd(optimizer: torch.optim.Optimizer) -> bool:
    """Tell whether an update is ``p -= lr * gradient`` and no more."""
    groups = optimizer.param_groups
    return isinstance(optimizer, torch.optim.SGD) and not any(g["weight_decay"] for g in groups)


def check_finite(ce: float, aug: float, grad_norm: float) -> None:
    """Refuse a loss or a gradient that is not finite.

    Raises:
        FloatingPointError: with the three numbers.
    """
    if not all(map(math.isfinite, (ce, aug, grad_norm))):
        raise FloatingPointError(
            f"loss {ce:g}, augmented loss {aug:g}, gradient norm {grad_norm:g}"
        )


def add_weight_decay(module: nn.Module, weight_decay: float) -> None:
    """Add ``weight_decay * p`` to the gradient of each parameter ``p``."""
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.grad is not None:
                parameter.grad.add_(parameter, alpha=weight_decay)


def clipped_step(optimizer: torch.optim.Optimizer, grad_norm: float, clip: float) -> None:
    """Update with the gradient scaled down to a global norm of at most ``clip``.

    For plain SGD the learning rate is scaled instead of the gradient. The update is the same, and a
    pass over all gradients is saved.
    """
    if not is_plain_sgd(optimizer):
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        clip_grads_with_norm_(parameters, clip, parameters[0].new_tensor(grad_norm))
        optimizer.step()
        return
    scale = min(1.0, clip / (grad_norm + 1e-6))
    rates = [group["lr"] for group in optimizer.param_groups]
    for group, lr in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = lr * scale
    optimizer.step()
    for group, lr in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = lr
