"""Update a model window by window, each update launched as the device does it fastest.

Shape letters: B streams, T steps of a window.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tiedlm.networks import State
from tiedlm.training.captured import CapturedStep, can_capture
from tiedlm.training.distributed import Ranks
from tiedlm.training.settings import Settings
from tiedlm.training.step import Objective, StepOutput, train_step


class Updater:
    """The optimizer of a run and the step that it repeats; on a GPU a recorded one where it fits.

    Args:
        objective: the model together with its loss.
        settings: learning rate, clip and accumulation.
        ranks: this process among those that train together.
        device: where the model is.
    """

    def __init__(
        self, objective: Objective, settings: Settings, ranks: Ranks, device: torch.device
    ) -> None:
        self.settings = settings
        self.ranks = ranks
        self.device = device
        self.model = objective.model
        self.objective: nn.Module = ranks.wrap(objective, device)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=settings.lr)
        self.captured: CapturedStep | None = None

    def set_rate(self, lr: float) -> None:
        """Set the learning rate of the next updates."""
        self.lr = lr
        for group in self.optimizer.param_groups:
            group["lr"] = lr

    def update(
        self, inputs_BT: Tensor, targets_BT: Tensor, state: State | None, stop_requested: bool
    ) -> StepOutput:
        """Update the model on one window."""
        captures = can_capture(self.settings, self.ranks, self.device)
        if captures and self.captured is None and inputs_BT.shape[1] == self.settings.bptt:
            assert isinstance(self.objective, Objective)
            initial = self.model.initial_state(len(inputs_BT))
            self.captured = CapturedStep(self.objective, self.settings, inputs_BT, initial)
        if self.captured is not None and self.captured.fits(inputs_BT):
            return self.captured(inputs_BT, targets_BT, state, self.lr, stop_requested)
        return train_step(
            self.objective,
            self.optimizer,
            inputs_BT,
            targets_BT,
            state,
            self.settings,
            self.ranks,
            stop_requested,
        )
