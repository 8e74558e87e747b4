"""Open a run folder: begin a run in it, or resume the run that it holds.

Everything is read and checked before anything is written. So a folder is untouched if its run
cannot be resumed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tiedlm.data import Corpus
from tiedlm.data.source import PARTS
from tiedlm.errors import UserError
from tiedlm.files import write_json
from tiedlm.folders import remove_temporary
from tiedlm.model import LanguageModel, ModelConfig
from tiedlm.networks import State
from tiedlm.training import run, run_files, same_run
from tiedlm.training.captured import can_capture
from tiedlm.training.checkpoint import Progress, restore_checkpoint
from tiedlm.training.distributed import Ranks, world_size
from tiedlm.training.outcomes import is_over
from tiedlm.training.settings import Settings
from tiedlm.training.tuned import RMS, TUNED


@dataclass
class Start:
    """Where a run begins or is resumed.

    Args:
        run_id: the name that its weights and checkpoints carry.
        progress: how far it is.
        state: the carried state of all streams.
        memory: further tensors of its checkpoint; None if there is no checkpoint.
        is_finished: whether the run has its result, so that nothing is left to do.
        notes: lines to show.
    """

    run_id: str
    progress: Progress = field(default_factory=Progress)
    state: State | None = None
    memory: dict[str, Tensor] | None = None
    is_finished: bool = False
    notes: list[str] = field(default_factory=list)


class RunFolder:
    """A run folder, and the run that a command wants to train in it.

    Args:
        out: the folder; it may hold an unfinished run of the same settings.
        settings: of the command.
        model: receives the parameters of a checkpoint.
        corpus: the encoded text.
        device: where the run will be trained.
    """

    def __init__(
        self,
        out: Path,
        settings: Settings,
        model: LanguageModel,
        corpus: Corpus,
        device: torch.device,
    ) -> None:
        self.out = out
        self.settings = settings
        self.model = model
        self.corpus = corpus
        self.device = device
        self.earlier: dict[str, Any] | None = None
        self.run_id = ""

    def read(self) -> Start:
        """Restore what the folder holds into the model, and return where the run begins.

        Raises:
            UserError: if the folder holds another run, or one that cannot go on.
        """
        path = self.out / run_files.CONFIG
        if path.is_file():
            self.earlier = run_files.read_config(self.out, "model", "corpus")
        if self.earlier is None:
            start = Start(self._new_id())
        else:
            self._check_same_run(self.earlier)
            start = Start(self.earlier.get("id", ""))
        self.run_id = start.run_id
        last = self.out / run_files.LAST
        restored = restore_checkpoint(last, self.model, start.notes.append, start.run_id)
        if restored is not None:
            start.state, start.progress, start.memory = restored
            self._check_progress(start)
        elif self.earlier is not None:
            self._check_without_checkpoint(self.earlier, start)
        over = is_over(self.settings, start.progress)
        start.is_finished = over and self._has_result()
        if start.is_finished:
            start.notes += self._lost_model()
        return start

    def write(self, start: Start) -> None:
        """Write the files that identify the run: configuration, vocabulary and environment."""
        # Remove what a process that was killed as it wrote left. Another command may be writing a
        # file of the user's, such as scores, into the folder.
        remove_temporary(self.out, (*run_files.WRITTEN, TUNED, RMS))
        for folder in (self.out / run_files.LAST, self.out / run_files.KEPT):
            remove_temporary(folder)
        if start.is_finished:
            self._write_new_place()
        else:
            # An old result belongs to fewer epochs. It is deleted before the configuration is
            # replaced.
            (self.out / run_files.RESULT).unlink(missing_ok=True)
            ran_in = self._environment()
            config = {**self._config(), "id": self.run_id, **self._origin(start)}
            write_json(self.out / run_files.CONFIG, config)  # first: without it this is no run
            write_json(self.out / run_files.ENVIRONMENT, ran_in)
        self.corpus.vocabulary.save(self.out / run_files.VOCABULARY)

    def _write_new_place(self) -> None:
        """Record where the text of a finished run is now, and nothing else."""
        assert self.earlier is not None
        settings = {**self.earlier["settings"], "data": self.settings.data}
        config = {**self.earlier, "settings": settings, "corpus": self._config()["corpus"]}
        write_json(self.out / run_files.CONFIG, config)

    def _config(self) -> dict[str, Any]:
        return run.config_of(self.model, self.settings.to_dict(), self.corpus.info)

    def _origin(self, start: Start) -> dict[str, str]:
        """Return the id of the run whose weights this one began from, as ``config.json`` has it."""
        if self.settings.init_from is None:
            return {}
        known = None
        if self.earlier is not None and start.memory is not None:  # it is resumed
            known = self.earlier.get(run_files.BEGAN_FROM)
        found = known or run_files.id_of(Path(self.settings.init_from))
        return {} if found is None else {run_files.BEGAN_FROM: found}

    def _has_result(self) -> bool:
        return (self.out / run_files.RESULT).is_file()

    def _new_id(self) -> str:
        """Return the id of a new run: a digest of everything that decides its weights."""
        config = {**self._config(), "settings": same_run.trajectory(self.settings)}
        model = config["model"]
        left_out = same_run.later_defaults(model)
        config["model"] = {name: value for name, value in model.items() if name not in left_out}
        return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:16]

    def _check_same_run(self, earlier: dict[str, Any]) -> None:
        """Refuse to go on with a run of another text or of other settings."""
        if run_files.CHECKPOINT in earlier:
            raise UserError(
                f"{self.out} is a checkpoint kept by --keep-at, and training would overwrite it; "
                f"choose another --out (--init-from {self.out} starts from its weights)"
            )
        # A run from before a setting existed had its default.
        old = Settings.from_dict(earlier["settings"])
        changed = same_run.changes(old, self.settings, same_run.fixed(self.settings))
        changed += _changed_origin(old, self.settings, earlier.get(run_files.BEGAN_FROM))
        changed += _changed_model(earlier["model"], self.model.config)
        new_corpus = json.loads(json.dumps(self.corpus.info))
        parts = run_files.changed_names(*map(_content, (earlier["corpus"], new_corpus)))
        if parts:
            changed.append(f"the corpus: another {', another '.join(parts)}")
        if changed:
            changed = list(dict.fromkeys(changed))  # a width is a setting and part of the model
            raise UserError(
                f"{self.out} holds a run with other settings ({'; '.join(changed)}); choose "
                "another --out, or repeat the command with the old settings"
            )

    def _check_progress(self, start: Start) -> None:
        """Refuse a checkpoint that has already passed the number of epochs asked for."""
        progress = start.progress
        done = progress.epoch - 1
        if self.settings.epochs < done and not self._has_result():
            raise UserError(
                f"{self.out} has trained {done} epochs, more than --epochs {self.settings.epochs}; "
                f"give --epochs {done} or more, or choose another --out"
            )
        if not is_over(self.settings, progress):
            self._check_best(progress)
            start.notes.append(f"resuming in epoch {progress.epoch}, after step {progress.step}")
            start.notes += self._changed_arithmetic()

    def _check_without_checkpoint(self, earlier: dict[str, Any], start: Start) -> None:
        """Accept a finished run that has lost its checkpoints; refuse an unfinished one."""
        if not (run_files.read_metrics(self.out) or self._has_result()):
            start.notes.append("no checkpoint was found: the training begins")
            return
        old = Settings.from_dict(earlier["settings"])
        if not (same_run.same_length(old, self.settings) and self._has_result()):
            raise UserError(
                f"{self.out} holds a run but none of its checkpoints ({run_files.LAST}/ is empty), "
                "so it cannot go on; choose another --out to train again"
            )
        start.progress.epoch = self.settings.epochs + 1

    def _check_best(self, progress: Progress) -> None:
        """Refuse to go on without the best weights so far, which the result may need."""
        if progress.best_epoch == 0:
            return
        try:
            run.read_weights(self.out / run_files.WEIGHTS, self.run_id)
        except UserError as error:
            raise UserError(
                f"{error} (the best model so far, of epoch {progress.best_epoch}, is needed "
                "for the result: put it back, or choose another --out)"
            ) from error

    def _lost_model(self) -> list[str]:
        """Return a note if a finished run has lost its model."""
        try:
            run.read_weights(self.out / run_files.WEIGHTS, self.run_id)
        except UserError as error:
            return [f"the run is finished, but its model is lost: {error}"]
        return []

    def _environment(self) -> dict[str, Any]:
        """Return the environment of this process, with the earlier environments of the run."""
        now = self._ran_now()
        before = run_files.read_environment(self.out) or now
        earlier = before.pop("earlier", [])
        if before != now:
            earlier.append(before)
        return {**now, "earlier": earlier} if earlier else now

    def _ran_now(self) -> dict[str, Any]:
        """Return the environment of this process."""
        now = {**run.environment(self.device), "processes": world_size()}
        if self.device.type == "cuda":
            ranks = Ranks(world=world_size())
            now["cuda_graph"] = can_capture(self.settings, ranks, self.device)
        return now

    def _changed_arithmetic(self) -> list[str]:
        """Warn that resuming on other hardware or versions will not be bit-identical."""
        before, now = run_files.read_environment(self.out), self._ran_now()
        if before is None:
            return []
        names = [name for name in run.ARITHMETIC if name in before]  # it may be of an older version
        changed = run_files.differences(
            *({name: known.get(name) for name in names} for known in (before, now))
        )
        return [f"not bit for bit as it began ({'; '.join(changed)})"] if changed else []


def _changed_origin(old: Settings, new: Settings, began_from: str | None) -> list[str]:
    """Describe another run to begin from, which may be the same one in a new place.

    Args:
        old: the settings of the run so far.
        new: those of the command.
        began_from: the id of the run whose weights it began from; None if it is not known.
    """
    if new.init_from is None or new.init_from == old.init_from:
        return []
    found = run_files.id_of(Path(new.init_from))
    if found is None:
        return [f"init_from: {new.init_from} is not the folder of a run"]
    return [] if began_from in (None, found) else [f"init_from: {new.init_from} is another run"]


def _changed_model(old: dict[str, Any], config: ModelConfig) -> list[str]:
    """Describe each difference from the model of an earlier run, which may lack newer fields."""
    new = dataclasses.asdict(config)
    defaults = dataclasses.asdict(ModelConfig(vocab_size=1, network=config.network))
    old = {**defaults, **old, "options": defaults["options"] | old.get("options", {})}
    for values in (old, new):  # compared with the settings, where a default has a meaning
        values.pop("decoder_bias", None)
    return run_files.differences(old, new)


def _content(corpus: dict[str, Any]) -> dict[str, Any]:
    """Return the facts about a corpus that identify its content, without names and places.

    Where there are three files, they are the parts, and the description of the split adds nothing.
    """
    hashes = run_files.text_hashes(corpus)
    left_out = {"name", "origin", "verified", "marks", "lacks_blanks"}
    if len(hashes) == len(PARTS):
        left_out.add("split")
    return {k: v for k, v in corpus.items() if k not in left_out} | {"sha256": hashes}
