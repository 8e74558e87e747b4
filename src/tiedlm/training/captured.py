"""Record an update once in a CUDA graph, and replay it for every window.

A step of a recurrent model is hundreds of small kernels, and a GPU executes them faster than Python
can launch them. A graph launches all of them at once.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from tiedlm.environment_variables import CUDA_GRAPH, read
from tiedlm.errors import UserError
from tiedlm.networks.state import State, map_state
from tiedlm.training.distributed import Ranks
from tiedlm.training.settings import Settings
from tiedlm.training.step import Objective, StepOutput, check_finite

_WARM_UP = 3  # steps before the recording, as PyTorch's manual asks for


def can_capture(settings: Settings, ranks: Ranks, device: torch.device) -> bool:
    """Tell whether the updates of a run can be recorded.

    That needs one GPU, SGD without weight decay, no ``--accumulate`` and windows of one length.
    """
    is_wanted = read(CUDA_GRAPH) != "0"
    is_sgd = settings.optimizer in ("sgd", "nt-asgd") and settings.weight_decay == 0
    is_alike = settings.accumulate == 1 and not settings.bptt_jitter
    return is_wanted and device.type == "cuda" and ranks.world == 1 and is_sgd and is_alike


class CapturedStep:
    """Does the work of :func:`tiedlm.training.step.train_step`, for one shape of window on a GPU.

    It draws the same random numbers as an ordinary step, so a run may use both. There is one
    difference: if the loss or the gradient is not finite, the same error is raised, but the weights
    have been overwritten.

    Args:
        objective: whose parameters are updated.
        settings: clip.
        inputs_BT: a window, for its shape.
        state: the initial state.
    """

    def __init__(
        self, objective: Objective, settings: Settings, inputs_BT: Tensor, state: State
    ) -> None:
        self.objective = objective
        self.clip = settings.clip
        self.parameters = [p for p in objective.parameters() if p.requires_grad]
        self.inputs_BT, self.targets_BT = inputs_BT.clone(), inputs_BT.clone()
        self.state = map_state(torch.zeros_like, state)
        # Otherwise an ordinary step begins an epoch. It also trains an initial state.
        self.starts_from_zeros = not any(part.requires_grad or part.any() for part in state)
        self.rate = torch.zeros((), device=inputs_BT.device)
        self._record()

    def _record(self) -> None:
        """Record an update in a graph; parameters and random numbers stay as they were.

        Raises:
            UserError: if the update cannot be recorded.
        """
        device = self.inputs_BT.device
        random_state = torch.cuda.get_rng_state(device)
        side = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(side):
            for _ in range(_WARM_UP):
                self._update()  # at a learning rate of 0
        torch.cuda.current_stream(device).wait_stream(side)
        torch.cuda.set_rng_state(random_state, device)
        self.graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(self.graph, stream=side):
                self.stats = self._update()
        except RuntimeError as error:  # such as a network that reads a value in Python
            reason = str(error).partition("\n")[0]
            raise UserError(
                f"the steps of this run cannot be recorded in a CUDA graph ({reason}); set "
                f"{CUDA_GRAPH}=0 to train without one"
            ) from error
        torch.cuda.set_rng_state(random_state, device)

    def _update(self) -> Tensor:
        """Update the model and the state; return J, J_aug and the norm of the gradient."""
        loss, ce, aug, state = self.objective(self.inputs_BT, self.targets_BT, self.state)
        grads = torch.autograd.grad(loss, self.parameters, allow_unused=True)
        norm = get_total_norm([grad for grad in grads if grad is not None])
        scale = self.rate * (self.clip / (norm + 1e-6)).clamp(max=1.0)
        with torch.no_grad():
            for parameter, grad in zip(self.parameters, grads, strict=True):
                if grad is not None:
                    parameter.addcmul_(grad, scale, value=-1.0)
            for part, new in zip(self.state, state, strict=True):
                part.copy_(new)
        return torch.stack([ce, aug, norm])

    def fits(self, inputs_BT: Tensor, state: State | None) -> bool:
        """Tell whether the recording serves a window: its shape, and the state before it."""
        is_of_shape = inputs_BT.shape == self.inputs_BT.shape
        return is_of_shape and (state is not None or self.starts_from_zeros)

    def __call__(
        self,
        inputs_BT: Tensor,
        targets_BT: Tensor,
        state: State | None,
        rate: float,
        stop_requested: bool,
    ) -> StepOutput:
        """Update the model on one window.

        Args:
            inputs_BT: words.
            targets_BT: the next words.
            state: what the last window left; None is zeros, which must be the initial state.
            rate: learning rate.
            stop_requested: becomes ``stop`` of the result.

        Returns:
            As ``train_step`` does. The next call overwrites the state.

        Raises:
            FloatingPointError: if the loss or the gradient is not finite.
        """
        self.inputs_BT.copy_(inputs_BT)
        self.targets_BT.copy_(targets_BT)
        for index, part in enumerate(self.state):
            if state is None:
                part.zero_()
            elif state[index] is not part:
                part.copy_(state[index])
        self.rate.fill_(rate)
        self.graph.replay()
        ce, aug, norm = self.stats.tolist()
        check_finite(ce, aug, norm)
        return StepOutput(ce, aug, norm, stop_requested, self.state)
