"""One update: forward, loss, backward, clip, SGD."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from tiedlm.model import LanguageModel
from tiedlm.recurrent import LSTMState
from tiedlm.training.settings import Settings


class StepOutput(NamedTuple):
    """What an update leaves: means over its targets, the gradient's norm, the carried state."""

    ce: float
    aug: float
    grad_norm: float
    state: LSTMState


def train_step(
    model: LanguageModel,
    optimizer: torch.optim.Optimizer,
    inputs_BT: Tensor,
    targets_BT: Tensor,
    state: LSTMState | None,
    settings: Settings,
) -> StepOutput:
    """Update the model on one window.

    The objective is the loss summed over the steps of the window and averaged over the streams:
    that is the scale on which the paper's learning rate of 1 and clip of 5 work.

    Raises:
        FloatingPointError: if the loss or the gradient is not finite; nothing was updated.

    Source: PAPER section 2; Zaremba et al. (2014).
    """
    hidden, new_state = model(inputs_BT, state)
    out = model.loss(hidden, targets_BT, settings.alpha, settings.temperature, settings.target_grad)
    optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(out.loss * targets_BT.shape[1])
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
    ce, aug, grad_norm = torch.stack([out.ce, out.aug, norm]).tolist()
    if not all(map(math.isfinite, (ce, aug, grad_norm))):
        raise FloatingPointError(
            f"loss {ce:g}, augmented loss {aug:g}, gradient norm {grad_norm:g}"
        )
    optimizer.step()
    return StepOutput(ce, aug, grad_norm, new_state.detach())
