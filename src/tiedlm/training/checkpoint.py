"""Save and restore checkpoints, which have everything that an exact resume needs.

A checkpoint is two files in ``last/``:

- ``<step>-<epoch>.safetensors`` has the parameters, the carried state, the state of the random
  generator, and what the optimizer, the averages and the soft targets remember.
- ``<step>-<epoch>.json`` is written after it. It has the progress, the id of the run, how matrix
  products were computed (``tiedlm.native.routes``), the SHA-256 of the first file and its own.

The newest two checkpoints are kept. If the JSON of a checkpoint is missing, a digest is wrong or it
belongs to another run, a message names it and the checkpoint before it is used. A checkpoint that
was passed over stays, and does not count, until training has passed its step. The file's name
contains the epoch, because the end of an epoch and a stop just before it have the same step, and no
file of a sound checkpoint may be overwritten.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load, save
from torch import Tensor

from tiedlm.errors import UserError
from tiedlm.evaluation import perplexity
from tiedlm.files import read_json, write_bytes, write_json
from tiedlm.model import LanguageModel
from tiedlm.native import routes
from tiedlm.networks.state import State, from_named, named
from tiedlm.training.run import put_tensors
from tiedlm.training.run_files import INSIDE

KEPT = 2


@dataclass
class Progress:
    """How far a run is, and its numbers so far.

    Args:
        epoch: the current epoch, counted from 1.
        window: the next window of the epoch, counted from 0.
        step: updates made so far.
        epoch_nll: summed cross-entropy of this epoch's targets so far, in nats.
        epoch_aug: summed augmented loss of this epoch's targets so far.
        epoch_tokens: targets of this epoch so far.
        seconds: time spent in training and validation so far.
        epoch_seconds: the part of ``seconds`` that belongs to this epoch.
        best_valid: lowest validation perplexity so far; None before the first.
        best_epoch: its epoch.
        history: the lines of metrics.jsonl about whole epochs.
        evaluations: the lines of metrics.jsonl about evaluations inside an epoch.
    """

    epoch: int = 1
    window: int = 0
    step: int = 0
    epoch_nll: float = 0.0
    epoch_aug: float = 0.0
    epoch_tokens: int = 0
    seconds: float = 0.0
    epoch_seconds: float = 0.0
    best_valid: float | None = None
    best_epoch: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    evaluations: list[dict[str, Any]] = field(default_factory=list)

    def add_window(self, tokens: int, ce: float, aug: float) -> None:
        """Count an update: its targets and the means of its losses over them."""
        self.window += 1
        self.step += 1
        self.epoch_nll += ce * tokens
        self.epoch_aug += aug * tokens
        self.epoch_tokens += tokens

    def add_evaluation(
        self,
        tokens: int,
        lr: float,
        valid: float,
        seconds: float,
        more: Mapping[str, float] | None = None,
    ) -> None:
        """Add the line of an evaluation inside the epoch.

        Args:
            tokens: words read in all epochs so far.
            lr: learning rate of the last update.
            valid: validation perplexity.
            seconds: how long the evaluation took.
            more: further measures by name.
        """
        trained = perplexity(self.epoch_nll, self.epoch_tokens)
        line: dict[str, Any] = {INSIDE: self.epoch, "step": self.step, "tokens": tokens, "lr": lr}
        for name, value in {"train_ppl": trained, "valid_ppl": valid, **(more or {})}.items():
            line[name] = value if math.isfinite(value) else None
        self.evaluations.append(line | {"seconds": seconds})

    def add_epoch(
        self, tokens: int, lr: float, valid: float, seconds: float, more: Mapping[str, float]
    ) -> dict[str, Any]:
        """Add the line of this epoch at its end, and return the line.

        Args:
            tokens: words read in all epochs so far.
            lr: learning rate of the last update.
            valid: validation perplexity.
            seconds: time spent in training, from :meth:`training_seconds`.
            more: further measures by name.
        """
        line = {
            "epoch": self.epoch,
            "step": self.step,
            "tokens": tokens,
            "lr": lr,
            "train_ppl": perplexity(self.epoch_nll, self.epoch_tokens),
            "valid_ppl": valid,
            "aug": self.epoch_aug / self.epoch_tokens,
            "tokens_per_second": self.epoch_tokens / max(seconds, 1e-9),
            "seconds": self.epoch_seconds,
            **more,
        }
        self.history.append(line)
        return line

    def training_seconds(self) -> float:
        """Return the seconds of this epoch that its evaluations did not take."""
        own = [float(line["seconds"]) for line in self.evaluations if line[INSIDE] == self.epoch]
        return self.epoch_seconds - sum(own)

    def lines(self) -> list[dict[str, Any]]:
        """Return the lines of metrics.jsonl, in the order of training."""
        return sorted([*self.history, *self.evaluations], key=lambda line: int(line["step"]))

    def next_epoch(self) -> None:
        """Go to the start of the next epoch."""
        self.epoch += 1
        self.window = 0
        self.epoch_nll = self.epoch_aug = self.epoch_seconds = 0.0
        self.epoch_tokens = 0


class Restored(NamedTuple):
    """A checkpoint without the parameters: carried state, progress and other tensors."""

    state: State | None
    progress: Progress
    memory: dict[str, Tensor]


def save_checkpoint(
    folder: Path,
    model: LanguageModel,
    state: State | None,
    progress: Progress,
    run_id: str,
    memory: Mapping[str, Tensor] | None = None,
) -> None:
    """Write a checkpoint, and keep only one of those before it.

    Args:
        folder: ``last/`` of a run.
        model: its parameters are saved.
        state: the carried state.
        progress: where the run is.
        run_id: which run it is.
        memory: further tensors that depend on the steps so far.

    Raises:
        UserError: if the folder cannot be written; earlier checkpoints are untouched.
    """
    tensors: dict[str, Tensor] = {
        f"parameter.{name}": parameter.detach() for name, parameter in model.named_parameters()
    }
    if state is not None:
        tensors |= {f"state.{name}": part.detach() for name, part in named(state).items()}
    tensors |= {f"memory.{name}": tensor for name, tensor in (memory or {}).items()}
    tensors["rng.cpu"] = torch.get_rng_state()
    if model.embedding.weight.is_cuda:
        tensors["rng.cuda"] = torch.cuda.get_rng_state(model.embedding.weight.device)
    data = save({name: tensor.contiguous() for name, tensor in tensors.items()})
    stem = folder / f"{progress.step:09d}-{progress.epoch:05d}"
    write_bytes(stem.with_suffix(".safetensors"), data)
    described = {
        "run": run_id,
        "sha256": hashlib.sha256(data).hexdigest(),
        "progress": asdict(progress),
        "products": routes.in_use(),
    }
    write_json(stem.with_suffix(".json"), {**described, "own_sha256": _own_digest(described)})
    # A later one was passed over as damaged. It must not push out the one just written.
    until_now = sorted(path for path in folder.glob("*.json") if path.stem <= stem.name)
    for old in until_now[:-KEPT]:
        with suppress(OSError):  # on Windows, another program may read it: then the next save
            old.unlink()
            old.with_suffix(".safetensors").unlink(missing_ok=True)
    for orphan in folder.glob("*.safetensors"):  # its writer was killed before it came to the JSON
        if orphan.stem < stem.name and not orphan.with_suffix(".json").exists():
            with suppress(OSError):
                orphan.unlink(missing_ok=True)


def buffers_of(model: LanguageModel) -> dict[str, Tensor]:
    """Return copies of the buffers that a model's ``state_dict`` has."""
    kept = model.state_dict().keys()
    return {name: part.clone() for name, part in model.named_buffers() if name in kept}


def check_buffers(model: LanguageModel, before: Mapping[str, Tensor]) -> None:
    """Refuse a model that changed a buffer, because a run's files have its parameters only.

    Args:
        model: under training.
        before: from :func:`buffers_of`, before training.

    Raises:
        UserError: naming the buffer.
    """
    for name, constant in before.items():
        if not torch.equal(model.get_buffer(name), constant):
            raise UserError(
                f"the network {model.config.network!r} changed its buffer {name!r} in training, "
                "but a run keeps parameters only; let its buffers be constants"
            )


def _own_digest(described: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a checkpoint's description, independent of its JSON layout."""
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def products_of(folder: Path) -> dict[str, Any] | None:
    """Return how the newest checkpoint's run computed matrix products; None if not recorded.

    Args:
        folder: ``last/`` of a run, perhaps one of an earlier version, or damaged.
    """
    for sidecar in sorted(folder.glob("*.json"), reverse=True):
        with suppress(UserError):
            found: dict[str, Any] | None = _description(sidecar).get("products")
            return found
    return None


def restore_checkpoint(
    folder: Path,
    model: LanguageModel,
    note: Callable[[str], None],
    run_id: str,
) -> Restored | None:
    """Restore a model and the random generators from the newest sound checkpoint.

    Args:
        folder: ``last/`` of a run.
        model: receives the parameters.
        note: called with one line for each damaged checkpoint that is passed over.
        run_id: which run it must be.

    Returns:
        The rest of the checkpoint's content, or None if there is no checkpoint.

    Raises:
        UserError: when there are checkpoints but none is sound.
    """
    errors = []
    for sidecar in sorted(folder.glob("*.json"), reverse=True):
        try:
            return _restore(sidecar, model, run_id)
        except UserError as error:
            note(f"checkpoint passed over: {error}")
            errors.append(str(error))
    if errors:
        raise UserError(
            f"{folder}: no checkpoint is sound ({'; '.join(errors)}); delete the run folder to "
            "start again, or restore one from a backup"
        )
    return None


def _description(sidecar: Path) -> dict[str, Any]:
    """Return the content of a checkpoint's JSON file, or raise UserError if it is not sound."""
    described = read_json(sidecar)
    promised = described.pop("own_sha256", None) if isinstance(described, dict) else None
    if promised is None or promised != _own_digest(described):
        raise UserError(f"{sidecar} is damaged: its SHA-256 is not the one that it names")
    return dict(described)


def _restore(sidecar: Path, model: LanguageModel, run_id: str) -> Restored:
    """Restore the checkpoint with this JSON file, or raise UserError if it is not sound."""
    path = sidecar.with_suffix(".safetensors")
    described = _description(sidecar)
    if described["run"] != run_id:
        raise UserError(f"{sidecar} is a checkpoint of another run")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    if hashlib.sha256(data).hexdigest() != described["sha256"]:
        raise UserError(f"{path} is damaged: its SHA-256 is not the one in {sidecar.name}")
    tensors = load(data)
    device = model.embedding.weight.device

    def group(prefix: str) -> dict[str, Tensor]:
        names = [name for name in tensors if name.startswith(prefix)]
        return {name.removeprefix(prefix): tensors[name].to(device) for name in names}

    put_tensors(group("parameter."), model, path)
    torch.set_rng_state(tensors["rng.cpu"])
    if "rng.cuda" in tensors and device.type == "cuda":
        torch.cuda.set_rng_state(tensors["rng.cuda"], device)
    carried = group("state.")
    try:
        state = from_named(model.initial_state(1), carried) if carried else None
    except ValueError as error:
        raise UserError(f"{path}: {error}; has the network changed since?") from error
    return Restored(state, Progress(**described["progress"]), group("memory."))
