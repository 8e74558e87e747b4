"""Save the progress of a long evaluation, so that the same call can continue it.

Each evaluation has one file. Its name is a digest of everything on which the results depend: the
weights, the text and the settings. The file is replaced as a whole, and removed at the end. If
several evaluations are needed together, the losses of those that are finished are kept as well.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from tiedlm.files import write_bytes
from tiedlm.model import LanguageModel
from tiedlm.networks.state import State, from_named, named

EVERY = 60.0  # seconds between two saves
LEAST_PAUSE = 20  # least pause, in durations of a save: saving costs at most 5% of the time


class Interrupted(Exception):
    """The evaluation was asked to stop; it is saved and can go on."""


def never() -> bool:
    """Return False: nobody asks the evaluation to stop."""
    return False


class Unfinished:
    """The saved place of one evaluation.

    Args:
        folder: the folder of the file, which is created when it is needed.
        key: everything on which the results depend, as JSON-able values.
        stop: tells whether somebody asked the evaluation to stop.
        every: seconds between two saves.
    """

    def __init__(
        self,
        folder: Path,
        key: Mapping[str, Any],
        stop: Callable[[], bool] = never,
        every: float = EVERY,
    ) -> None:
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
        self.path = folder / f"{digest[:24]}.safetensors"
        self.stop, self.every = stop, every
        self._last, self._took = time.monotonic(), 0.0

    def restore(self) -> dict[str, Tensor] | None:
        """Return the tensors that were saved; None if there are none, or they are damaged."""
        try:
            return load(self.path.read_bytes())
        except (OSError, SafetensorError, ValueError):
            return None

    def checkpoint(self, tensors: Callable[[], Mapping[str, Tensor]]) -> None:
        """Save if it is time, or if somebody asked the evaluation to stop.

        Args:
            tensors: returns the tensors to save, which :meth:`restore` will return.

        Raises:
            Interrupted: after saving, if somebody asked the evaluation to stop.
            UserError: if the file cannot be written.
        """
        stops, now = self.stop(), time.monotonic()
        if not stops and now - self._last < max(self.every, LEAST_PAUSE * self._took):
            return
        self.save(tensors())
        self._last = time.monotonic()
        self._took = self._last - now
        if stops:
            raise Interrupted

    def save(self, tensors: Mapping[str, Tensor]) -> None:
        """Save tensors, which :meth:`restore` will return."""
        data = {name: part.detach().cpu().contiguous() for name, part in tensors.items()}
        write_bytes(self.path, save(data))

    def finish(self) -> None:
        """Remove the file, and its folder if nothing else is in it."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)
            self.path.parent.rmdir()


class Pass(NamedTuple):
    """One of several evaluations whose losses are needed together.

    Args:
        place: where its losses are kept once it is finished; None if nothing can be kept.
        losses: evaluates, and goes on where an earlier call was interrupted.
    """

    place: Unfinished | None
    losses: Callable[[], npt.NDArray[np.floating]]


def read_passes(passes: Sequence[Pass]) -> list[npt.NDArray[np.floating]]:
    """Return the losses of several passes; one that is finished is kept until all are."""
    found = []
    for number, (place, losses) in enumerate(passes, start=1):
        kept = None if place is None else place.restore()
        found.append(losses() if kept is None else kept["losses"].numpy())
        if kept is None and place is not None and number < len(passes):
            place.save({"losses": torch.from_numpy(found[-1])})
    for place, _ in passes:
        if place is not None:
            place.finish()
    return found


def text_digest(ids: npt.NDArray[np.integer]) -> str:
    """Return the SHA-256 of a text's word ids; their integer type does not matter."""
    digest = hashlib.sha256()
    for first in range(0, len(ids), 2**20):
        digest.update(np.asarray(ids[first : first + 2**20], dtype="<i8").tobytes())
    return digest.hexdigest()


def state_tensors(state: State | None) -> dict[str, Tensor]:
    """Return a network's state as tensors to save."""
    return {} if state is None else {f"state.{name}": part for name, part in named(state).items()}


def saved_state(model: LanguageModel, tensors: Mapping[str, Tensor]) -> State | None:
    """Return the state that :func:`state_tensors` saved, on the device of the model."""
    device = model.embedding.weight.device
    parts = {n.removeprefix("state."): p for n, p in tensors.items() if n.startswith("state.")}
    if not parts:
        return None
    like: State = model.initial_state(1)
    return from_named(like, {name: part.to(device) for name, part in parts.items()})
