"""Hold the optimizer of a run, its averaged weights, and the fastest way to make an update.

Shape letters: B streams, T steps of a window.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from tiedlm.model import LanguageModel
from tiedlm.networks import State
from tiedlm.training.captured import CapturedStep, can_capture
from tiedlm.training.distributed import Ranks
from tiedlm.training.settings import Settings
from tiedlm.training.step import Objective, StepOutput, train_step

UPDATES = "averaged_updates"  # name in a checkpoint: how many updates are in its averages
AVERAGE, OPTIMIZER = "average.", "optimizer."  # prefixes of names in a checkpoint


def make_optimizer(model: nn.Module, settings: Settings) -> torch.optim.Optimizer:
    """Return PyTorch's optimizer of all parameters; weight decay before the clip is not part of it.

    Args:
        model: its parameters are updated.
        settings: optimizer, weight decay and Adam's betas.
    """
    parameters = list(model.parameters())
    decay = 0.0 if settings.weight_decay_inside else settings.weight_decay
    if settings.optimizer in ("adam", "adamw"):
        kind = torch.optim.Adam if settings.optimizer == "adam" else torch.optim.AdamW
        betas = (settings.beta1, settings.beta2)
        return kind(parameters, lr=settings.lr, betas=betas, weight_decay=decay)
    return torch.optim.SGD(parameters, lr=settings.lr, weight_decay=decay)


class Updater:
    """The optimizer of a run. It updates the model window by window, on a GPU by a recorded step.

    It also keeps the mean of the weights, for runs that evaluate averaged weights.

    Args:
        objective: the model together with its loss.
        settings: optimizer, weight decay, clip and accumulation.
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
        # A network of the user's own may leave parameters out, such as a learned initial state in
        # windows that carry a state.
        is_own = not type(self.model.network).__module__.startswith("tiedlm.")
        self.objective: nn.Module = ranks.wrap(objective, device, leaves_out=is_own)
        self.optimizer = make_optimizer(self.model, settings)
        self.lr = settings.lr
        self.average: AveragedModel | None = None
        self.captured: CapturedStep | None = None

    @property
    def evaluated(self) -> LanguageModel:
        """The model to evaluate and to save: the averaged one once averaging has begun."""
        if self.average is None:
            return self.model
        averaged = self.average.module
        assert isinstance(averaged, LanguageModel)
        return averaged

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
        if self.captured is not None and self.captured.fits(inputs_BT, state):
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

    def add_to_average(self) -> None:
        """Add the current weights to the mean of the weights since averaging began."""
        if self.average is None:
            self.average = AveragedModel(self.model)
        self.average.update_parameters(self.model)

    def memory(self) -> dict[str, Tensor]:
        """Return the tensors for a checkpoint: the optimizer's state and the averaged weights."""
        names = [name for name, _ in self.model.named_parameters()]
        states = self.optimizer.state_dict()["state"]
        tensors = {
            f"{OPTIMIZER}{names[index]}.{key}": tensor
            for index, state in states.items()
            for key, tensor in state.items()
            if tensor is not None  # SGD has an entry for the momentum that it lacks
        }
        if self.average is not None:
            averaged = self.evaluated.named_parameters()
            tensors |= {f"{AVERAGE}{name}": p.detach() for name, p in averaged}
            tensors[UPDATES] = self.average.n_averaged
        return tensors

    def remember(self, memory: Mapping[str, Tensor]) -> None:
        """Restore what :meth:`memory` gave to a checkpoint."""
        described = self.optimizer.state_dict()
        for index, (name, _) in enumerate(self.model.named_parameters()):
            prefix = f"{OPTIMIZER}{name}."
            state = {
                key.removeprefix(prefix): tensor
                for key, tensor in memory.items()
                if key.startswith(prefix)
            }
            if state:
                # Adam counts its steps on the CPU, wherever its moments are.
                state = {k: t.cpu() if k == "step" else t.clone() for k, t in state.items()}
                described["state"][index] = state
        self.optimizer.load_state_dict(described)
        if UPDATES in memory:
            self.average = AveragedModel(self.model)
            self.average.n_averaged.copy_(memory[UPDATES])
            with torch.no_grad():
                for name, parameter in self.evaluated.named_parameters():
                    parameter.copy_(memory[f"{AVERAGE}{name}"])
