"""Join the processes that ``torchrun`` started to train one model.

The streams of the batch are split over the processes, which are called ranks.
``DistributedDataParallel`` averages the gradients. The functions here make equal on every rank what
must be equal: the dropout masks, the decision to stop and the sums of the loss. Without
``torchrun`` there is one rank, and nothing here communicates.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import NoReturn

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from tiedlm.environment_variables import LOCAL_RANK, WORLD_SIZE, read
from tiedlm.errors import UserError
from tiedlm.networks.state import S, map_state, split

# The other ranks wait while the first one validates, and NCCL's limit of ten minutes would end
# them. A longer limit does no harm: if a rank dies, `torchrun` ends the others.
PATIENCE = timedelta(days=1)


@dataclass(frozen=True)
class Ranks:
    """The place of this process among the processes that train together.

    Args:
        rank: of this process, from 0; only 0 writes files and shows progress.
        world: how many there are.
    """

    rank: int = 0
    world: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def check_batch(self, batch_size: int, accumulate: int = 1) -> None:
        """Refuse a batch size that the number of processes does not divide.

        Raises:
            UserError: naming the numbers.
        """
        if batch_size % (self.world * accumulate):
            groups = f" of {accumulate} groups each (--accumulate)" if accumulate > 1 else ""
            raise UserError(
                f"--batch-size {batch_size} does not divide by {self.world} processes{groups}; "
                f"choose a multiple of {self.world * accumulate}"
            )

    def own(self, streams: Tensor) -> Tensor:
        """Return this rank's share of streams of text, a row each."""
        return streams.chunk(self.world)[self.rank] if self.world > 1 else streams

    def wrap(
        self, objective: nn.Module, device: torch.device, leaves_out: bool = False
    ) -> nn.Module:
        """Return a module whose backward pass averages gradients over the ranks.

        Args:
            objective: the module.
            device: where it is.
            leaves_out: whether a window may leave some parameters without a gradient. Finding them
                takes time in every window.
        """
        if self.world == 1:
            return objective
        ids = [device.index] if device.type == "cuda" else None
        with warnings.catch_warnings():
            # PyTorch 2.13 recommends an argument that PyTorch 2.6 does not have.
            warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
            return DistributedDataParallel(
                objective,
                device_ids=ids,
                # The buffers have the rows of the soft targets, which every rank computes alike.
                broadcast_buffers=False,
                find_unused_parameters=leaves_out,
            )

    def sum(self, values: Sequence[float], device: torch.device) -> list[float]:
        """Return the sums of some numbers over the ranks."""
        if self.world == 1:
            return list(values)
        totals = torch.tensor(values, dtype=torch.float64, device=device)
        dist.all_reduce(totals)
        return [float(total) for total in totals.tolist()]

    def gather(self, state: S | None) -> S | None:
        """Return the carried state of all streams, in the order of the global batch."""
        if self.world == 1 or state is None:
            return state

        def gathered(tensor: Tensor) -> Tensor:
            parts = [torch.empty_like(tensor) for _ in range(self.world)]
            dist.all_gather(parts, tensor.contiguous())
            return torch.cat(parts, dim=1)

        return map_state(gathered, state)

    def share(self, state: S | None) -> S | None:
        """Return this rank's streams of a carried state of all streams."""
        return None if state is None else split(state, self.world)[self.rank]

    def from_first(self, value: float, device: torch.device) -> float:
        """Return the first rank's value on every rank."""
        return self.sum([value if self.is_first else 0.0], device)[0]

    def on_first(self, compute: Callable[[], float], device: torch.device) -> float:
        """Compute a number on the first rank and return it on every rank."""
        return self.from_first(compute() if self.is_first else 0.0, device)

    def wait(self) -> None:
        """Wait until every rank is here."""
        if self.world > 1:
            dist.barrier()


def world_size() -> int:
    """Return how many processes ``torchrun`` started; without it there is one.

    Raises:
        UserError: if the environment variable is not a whole number of at least 1.
    """
    text = read(WORLD_SIZE)
    if not text.isdecimal() or int(text) < 1:
        raise UserError(
            f"{WORLD_SIZE}: expected a whole number of at least 1, got {text!r}; torchrun sets "
            "it, so without torchrun unset it"
        )
    return int(text)


@contextmanager
def join(device: str = "auto") -> Iterator[Ranks]:
    """Join the processes that ``torchrun`` started; without it there is one rank.

    They talk by NCCL where they train on GPUs, else by gloo.

    Raises:
        UserError: if the environment asks for several processes, but ``torchrun`` did not start
            this one, or if there is no GPU for it alone.
    """
    if world_size() == 1:
        yield Ranks()
        return
    on_gpus = device != "cpu" and torch.cuda.is_available()
    if on_gpus:
        _take_gpu(device)
    try:
        dist.init_process_group("nccl" if on_gpus else "gloo", timeout=PATIENCE)
    except ValueError as error:
        raise UserError(
            f"{WORLD_SIZE} asks for {world_size()} processes, but torchrun did not start this one "
            f"({error}); start it with torchrun, or unset {WORLD_SIZE}"
        ) from error
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size())
        dist.barrier()  # if a rank left while another still communicates, the other would abort
    finally:
        dist.destroy_process_group()


def _take_gpu(device: str) -> None:
    """Choose the GPU of this process: each process of a machine has one of its own.

    Raises:
        UserError: if the machine has fewer GPUs than processes, or ``device`` names one GPU.
    """
    if device not in ("auto", "cuda"):
        raise UserError(
            f"--device {device}: each of several processes trains on a GPU of its own; use "
            "--device cuda, or cpu"
        )
    number, gpus = int(read(LOCAL_RANK)), torch.cuda.device_count()
    if number >= gpus:
        raise UserError(
            f"there is no GPU for process {number + 1} of this machine; give torchrun "
            f"--nproc-per-node {gpus}, or train with --device cpu"
        )
    torch.cuda.set_device(number)


def end_process() -> NoReturn:
    """End one of several processes without the interpreter's cleanup.

    During the cleanup, a thread of gloo that is still running can abort the process ("terminate
    called without an active exception"), and ``torchrun`` would report a failure.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
