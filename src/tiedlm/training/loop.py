"""Train one model: epochs, validation, checkpoints, the run folder.

Shape letters: B streams, S tokens of a stream, T steps of a window.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tiedlm import matmul
from tiedlm.analysis.subspace import subspace_distance
from tiedlm.data import Corpus
from tiedlm.data.source import PARTS
from tiedlm.data.streams import batch_streams
from tiedlm.errors import UserError
from tiedlm.evaluation import evaluate, perplexity
from tiedlm.files import check_folder, read_json, remove_temporary, write_json, write_text
from tiedlm.model import LanguageModel, ModelConfig
from tiedlm.networks import State
from tiedlm.progress import Silent, Watcher, short_duration
from tiedlm.training import run, run_files
from tiedlm.training.captured import CapturedStep, can_capture
from tiedlm.training.checkpoint import Progress, restore_checkpoint, save_checkpoint
from tiedlm.training.distributed import Ranks, join
from tiedlm.training.hardware import arithmetic, prepare
from tiedlm.training.settings import Settings
from tiedlm.training.signals import stop_signals
from tiedlm.training.soft_targets import SoftTargets
from tiedlm.training.step import Objective, StepOutput, train_step

SAVE_EVERY = 120.0  # seconds between two checkpoints within an epoch
# Settings that do not decide which run it is. One that goes on may change them, the device, and the
# places of its text, whose content `_content` compares, and of the run that it began from.
OF_NO_RESULT = ("epochs", "patience", "threads")
MAY_CHANGE = (*OF_NO_RESULT, "device", "data", "init_from")
FEW_UPDATES = 10  # an epoch: fewer hardly move a model


class Stopped(Exception):
    """The run was asked to stop; it was saved and can go on."""


class OutOfTime(Stopped):
    """It was stopped because its time was over, not by a signal."""


class Diverged(Exception):
    """The loss or the gradient is not finite; the last good checkpoint stays."""


def train(
    settings: Settings,
    corpus: Corpus,
    out: Path,
    *,
    save_every: float = SAVE_EVERY,
    watcher: Watcher | None = None,
    stop_requested: Callable[[], bool] = lambda: False,
    on_metrics: Callable[[list[dict[str, Any]]], None] | None = None,
) -> dict[str, Any]:
    """Train a model and write its run folder; go on where an earlier call stopped.

    Args:
        settings: complete settings.
        corpus: the encoded corpus; its vocabulary is saved with the model.
        out: the run folder; it may hold an unfinished run of the same settings.
        save_every: seconds between two checkpoints within an epoch.
        watcher: what to report to; None reports to nobody.
        stop_requested: asked after every step, besides the signals SIGINT and SIGTERM.
        on_metrics: called with the metrics of all epochs so far, first and after each epoch.

    Returns:
        What ``result.json`` holds.

    Raises:
        UserError: if the folder holds another run, is in use or cannot be written, or the corpus
            is too short.
        Stopped: after SIGINT or SIGTERM, with everything saved.
        Diverged: if the loss or the gradient stops being finite.
    """
    check_folder(out, run_files.CONFIG, "run")
    with join(settings.device) as ranks:
        training = _Run(settings, corpus, out, save_every, watcher or Silent(), ranks, on_metrics)
        # Rank 0 holds the folder; the others only read it.
        holder = run_files.lock(out) if ranks.is_first else nullcontext()
        with holder, arithmetic(settings, training.device):
            return training.train(stop_requested)


class _Run:
    """The parts of a run that its steps share."""

    def __init__(
        self,
        settings: Settings,
        corpus: Corpus,
        out: Path,
        save_every: float,
        watcher: Watcher,
        ranks: Ranks,
        on_metrics: Callable[[list[dict[str, Any]]], None] | None,
    ) -> None:
        for part in ("valid", "test"):
            if len(getattr(corpus, part)) < 2:
                raise UserError(
                    f"the {part} text of {corpus.name} has {len(getattr(corpus, part))} tokens; a "
                    "perplexity needs at least two"
                )
        self.settings = settings
        self.corpus = corpus
        self.out = out
        self.save_every = save_every
        self.watcher = watcher if ranks.is_first else Silent()
        self.ranks = ranks
        ranks.check_batch(settings.batch_size, settings.accumulate)
        self.device = prepare(settings)
        torch.manual_seed(settings.seed)
        self.model = LanguageModel(model_config(settings, len(corpus.vocabulary)))
        self.model.network.share_masks(ranks.rank, ranks.world)
        if settings.init_from is not None and not self._has_checkpoint():
            start_from(self.model, Path(settings.init_from), corpus)
        if settings.unit_norm:
            self.model.normalize_word_vectors()
        self.model.to(self.device).train()
        resumes = self._has_checkpoint()
        self.soft_targets = SoftTargets(self.model, settings, corpus, resumes).to(self.device)
        objective = Objective(self.model, settings, self.soft_targets)
        self.objective = ranks.wrap(objective, self.device)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=settings.lr)
        streams = torch.from_numpy(batch_streams(corpus.train, settings.batch_size))
        self.epoch_tokens = streams[:, 1:].numel()
        self.streams_BS = ranks.own(streams).to(self.device)
        self.windows = math.ceil((self.streams_BS.shape[1] - 1) / settings.bptt)
        self.progress = Progress()
        self.state: State | None = None
        self.captured: CapturedStep | None = None
        self.on_metrics = on_metrics
        self.id = ""

    def train(self, stop_requested: Callable[[], bool]) -> dict[str, Any]:
        notes = self._open_folder()
        result = self.out / run_files.RESULT
        if self._finished() and result.is_file():
            return dict(read_json(result))
        self.ranks.wait()
        self.watcher.start(
            self.out.name,
            self.settings.epochs * self.epoch_tokens,
            (self.progress.epoch - 1) * self.epoch_tokens + self.progress.epoch_tokens,
        )
        for note in notes:
            self.watcher.line(note)
        with stop_signals() as signalled:
            while not self._finished():
                self._train_epoch(lambda: signalled() or stop_requested())
                self._end_epoch()
            return self._finish(lambda: signalled() or stop_requested())

    def _finished(self) -> bool:
        patience = self.settings.patience
        waited = self.progress.epoch - 1 - self.progress.best_epoch
        return self.progress.epoch > self.settings.epochs or (
            patience is not None and self.progress.epoch > 1 and waited >= patience
        )

    def _train_epoch(self, stop_requested: Callable[[], bool]) -> None:
        progress, settings = self.progress, self.settings
        lr = settings.lr_at(progress.epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        saved = clock = time.monotonic()
        while progress.window < self.windows:
            inputs_BT, targets_BT = self._window(progress.window)
            try:
                out = self._update(inputs_BT, targets_BT, lr, stop_requested())
            except FloatingPointError as error:
                raise self._diverged(f"step {progress.step + 1}: {error}") from error
            if settings.unit_norm:
                self.model.normalize_word_vectors()
            self.soft_targets.update(self.model.embedding.weight)
            self.state = out.state
            count = targets_BT.numel() * self.ranks.world
            progress.window += 1
            progress.step += 1
            progress.epoch_nll += out.ce * count
            progress.epoch_aug += out.aug * count
            progress.epoch_tokens += count
            now = time.monotonic()
            progress.seconds += now - clock
            progress.epoch_seconds += now - clock
            clock = now
            self.watcher.step(
                count,
                progress.epoch,
                settings.epochs,
                perplexity(progress.epoch_nll, progress.epoch_tokens),
            )
            if out.stop:
                self._checkpoint()
                raise self._stopped(f"at epoch {progress.epoch}, step {progress.step}")
            if self.ranks.from_first(now - saved, self.device) >= self.save_every:
                self._checkpoint()
                saved = clock = time.monotonic()

    def _update(
        self, inputs_BT: Tensor, targets_BT: Tensor, lr: float, stop_requested: bool
    ) -> StepOutput:
        """Update the model on one window, on a GPU by a recorded step where its shape fits."""
        captures = can_capture(self.settings, self.ranks, self.device)
        if captures and self.captured is None and inputs_BT.shape[1] == self.settings.bptt:
            assert isinstance(self.objective, Objective)
            state = self.model.initial_state(len(inputs_BT))
            self.captured = CapturedStep(self.objective, self.settings, inputs_BT, state)
        if self.captured is not None and self.captured.fits(inputs_BT):
            return self.captured(inputs_BT, targets_BT, self.state, lr, stop_requested)
        return train_step(
            self.objective,
            self.optimizer,
            inputs_BT,
            targets_BT,
            self.state,
            self.settings,
            self.ranks,
            stop_requested,
        )

    def _stopped(self, where: str) -> Stopped:
        return Stopped(
            f"stopped {where}; everything is saved in {self.out}: the same command goes on from "
            "there"
        )

    def _has_checkpoint(self) -> bool:
        return any((self.out / run_files.LAST).glob("*.json"))

    def _diverged(self, what: str) -> Diverged:
        kept = (
            f"the last good checkpoint in {self.out} is kept"
            if self._has_checkpoint()
            else "nothing is saved"
        )
        return Diverged(
            f"epoch {self.progress.epoch}, {what}; {kept}; try a lower --lr or --clip, "
            "in another --out"
        )

    def _window(self, index: int) -> tuple[Tensor, Tensor]:
        start = index * self.settings.bptt
        piece_BT = self.streams_BS[:, start : start + self.settings.bptt + 1]
        return piece_BT[:, :-1], piece_BT[:, 1:]

    def _end_epoch(self) -> None:
        progress = self.progress
        started = time.monotonic()
        valid = self._on_first(partial(self._perplexity, self.corpus.valid))
        trained = perplexity(progress.epoch_nll, progress.epoch_tokens)
        for name, value in (("training", trained), ("validation", valid)):
            if not math.isfinite(value):
                raise self._diverged(f"{name} perplexity is {value}")
        seconds = time.monotonic() - started
        progress.seconds += seconds
        train_seconds = progress.epoch_seconds
        progress.epoch_seconds += seconds
        is_best = progress.best_valid is None or valid < progress.best_valid
        if is_best:
            progress.best_valid, progress.best_epoch = valid, progress.epoch
            if self.ranks.is_first:
                run.save_weights(self.model, self.out / run_files.WEIGHTS, self.id)
        metrics: dict[str, Any] = {
            "epoch": progress.epoch,
            "step": progress.step,
            "tokens": self.epoch_tokens * progress.epoch,
            "lr": self.settings.lr_at(progress.epoch),
            "train_ppl": trained,
            "valid_ppl": valid,
            "aug": progress.epoch_aug / progress.epoch_tokens,
            "tokens_per_second": progress.epoch_tokens / max(train_seconds, 1e-9),
            "seconds": progress.epoch_seconds,
        }
        if not self.settings.tied and self.ranks.is_first:
            metrics["subspace_distance"] = subspace_distance(
                self.model.decoder.weight, self.model.embedding.weight
            )
        progress.history.append(metrics)
        assert progress.best_valid is not None
        self.watcher.epoch_end(
            f"epoch {progress.epoch:>3}/{self.settings.epochs}  lr {metrics['lr']:.4f}  "
            f"train ppl {metrics['train_ppl']:8.2f}  valid ppl {valid:8.2f}"
            f"{' *' if is_best else '  '}  {metrics['tokens_per_second']:,.0f} tokens/s  "
            f"{short_duration(progress.epoch_seconds)}",
            progress.best_valid,
        )
        progress.next_epoch()
        self.state = None  # the next epoch reads the text from its start
        self._checkpoint()  # first: who goes on from it writes the metrics again
        self._write_metrics()

    def _perplexity(self, ids: npt.NDArray[np.integer]) -> float:
        return evaluate(self.model, ids).perplexity

    def _on_first(self, compute: Callable[[], float]) -> float:
        """Compute a number on the first rank and give it to all."""
        value = compute() if self.ranks.is_first else 0.0
        return self.ranks.from_first(value, self.device)

    def _finish(self, stop_requested: Callable[[], bool]) -> dict[str, Any]:
        progress, settings = self.progress, self.settings
        self.ranks.wait()
        run.load_weights(self.model, self.out / run_files.WEIGHTS, self.id)
        measured = {}
        for name in ("valid", "test"):
            if self._on_first(lambda: float(stop_requested())):
                raise self._stopped(f"before the perplexity of its {name} text was measured")
            ids = getattr(self.corpus, name)
            with matmul.precision("fp32", self.device):  # as `tiedlm evaluate` does
                measured[f"{name}_ppl"] = self._on_first(partial(self._perplexity, ids))
        result = {
            "recipe": settings.recipe,
            "seed": settings.seed,
            **measured,
            "tokens": self.epoch_tokens * len(progress.history),
            "parameters": self.model.num_params(),
            "epochs": len(progress.history),
            "best_epoch": progress.best_epoch,
            "seconds": progress.seconds,
        }
        if self.ranks.is_first:
            write_json(self.out / run_files.RESULT, result)
        return result

    def _checkpoint(self) -> None:
        state = self.ranks.gather(self.state)
        if self.ranks.is_first:
            memory = self.soft_targets.memory()
            last = self.out / run_files.LAST
            save_checkpoint(last, self.model, state, self.progress, self.id, memory)

    def _write_metrics(self) -> None:
        if not self.ranks.is_first:
            return
        lines = [json.dumps(metrics) + "\n" for metrics in self.progress.history]
        write_text(self.out / run_files.METRICS, "".join(lines))
        if self.on_metrics is not None:
            self.on_metrics(self.progress.history)

    def _config(self) -> dict[str, Any]:
        return run.config_of(self.model, self.settings.to_dict(), self.corpus.info)

    def _new_id(self) -> str:
        """Return a name for this run that no other has, unless it is the same run elsewhere."""
        config = self._config()
        config["settings"] = {k: v for k, v in config["settings"].items() if k not in OF_NO_RESULT}
        return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:16]

    def _changed_config(self, old: dict[str, Any]) -> list[str]:
        """Name what differs from the run that the folder holds and must not."""
        new = json.loads(json.dumps(self._config()))
        # A run from before a setting existed had its default.
        old = {
            **old,
            "settings": Settings.from_dict(old["settings"]).to_dict(),
            "model": run.MODEL_DEFAULTS | old["model"],
        }
        begun_from = [part["settings"]["init_from"] is not None for part in (old, new)]
        for name in MAY_CHANGE:
            old["settings"].pop(name, None)
            new["settings"].pop(name, None)
        found = [
            line
            for part in ("settings", "model")
            for line in run_files.differences(old[part], new[part])
        ]
        parts = run_files.changed_names(*(_content(c["corpus"]) for c in (old, new)))
        if begun_from[0] != begun_from[1]:
            found.append(f"init_from: {'given' if begun_from[0] else 'not given'} before")
        if parts:
            found.append(f"the corpus: another {', another '.join(parts)}")
        return list(dict.fromkeys(found))  # a width is a setting and part of the model

    def _open_folder(self) -> list[str]:
        """Write the files that come first, or restore what is there; return lines to show."""
        config = self.out / run_files.CONFIG
        earlier = read_json(config) if config.is_file() else None
        changed = [] if earlier is None else self._changed_config(earlier)
        if changed:
            raise UserError(
                f"{self.out} holds a run with other settings ({'; '.join(changed)}); choose "
                "another --out, or repeat the command with the old settings"
            )
        self.id = self._new_id() if earlier is None else earlier.get("id", "")
        notes = self._short_text() if earlier is None else []
        restored = restore_checkpoint(self.out / run_files.LAST, self.model, notes.append, self.id)
        if restored is not None:
            state, self.progress, memory = restored
            self.soft_targets.remember(memory, self.model.embedding.weight)
            self.state = self.ranks.share(state)
            self._check_epochs()
            if not self._finished():
                self._check_best()
                notes.append(
                    f"going on in epoch {self.progress.epoch}, after step {self.progress.step}"
                )
                notes += self._changed_arithmetic()
        elif earlier is not None and (
            run_files.read_metrics(self.out) or (self.out / run_files.RESULT).is_file()
        ):
            if self._was_finished(earlier):
                self.progress.epoch = self.settings.epochs + 1
                return notes
            raise UserError(
                f"{self.out} holds a run but none of its checkpoints ({run_files.LAST}/ is empty), "
                "so it cannot go on; choose another --out to train again"
            )
        if not self.ranks.is_first:
            return notes
        for folder in (self.out, self.out / run_files.LAST):
            remove_temporary(folder)  # of a process that was killed as it wrote
        described = {**self._config(), "id": self.id}
        if self._finished() and (self.out / run_files.RESULT).is_file():
            # What it was trained with stays; where its text is may be told anew.
            assert earlier is not None
            settings = {**earlier["settings"], "data": self.settings.data}
            described = {**earlier, "settings": settings, "corpus": described["corpus"]}
            ran_in = None
        else:
            # Of fewer epochs than asked for now: gone before the configuration says how many.
            (self.out / run_files.RESULT).unlink(missing_ok=True)
            ran_in = self._environment()
        write_json(config, described)  # first: a folder without it is not a run's
        if ran_in is not None:
            write_json(self.out / run_files.ENVIRONMENT, ran_in)
        self.corpus.vocabulary.save(self.out / run_files.VOCABULARY)
        self._write_metrics()
        return notes

    def _environment(self) -> dict[str, Any]:
        """Describe where the run goes on, and where it was before if that was elsewhere."""
        now, path = run.environment(self.device), self.out / run_files.ENVIRONMENT
        before = read_json(path) if path.is_file() else now
        earlier = before.pop("earlier", [])
        if before != now:
            earlier.append(before)
        return {**now, "earlier": earlier} if earlier else now

    def _short_text(self) -> list[str]:
        """Warn of a text that is too short for its batch."""
        if self.windows >= FEW_UPDATES:
            return []
        return [
            f"a short text: {len(self.corpus.train):,} words are {self.windows} updates an epoch, "
            f"{self.settings.batch_size} streams at a time; a smaller --batch-size makes more"
        ]

    def _was_finished(self, earlier: dict[str, Any]) -> bool:
        """Tell whether the folder holds the result of this run, with checkpoints or without."""
        names = ("epochs", "patience")
        same = all(earlier["settings"].get(name) == getattr(self.settings, name) for name in names)
        return same and (self.out / run_files.RESULT).is_file()

    def _check_epochs(self) -> None:
        """Refuse to end an unfinished run before epochs that it has behind it."""
        done = self.progress.epoch - 1
        if self.settings.epochs < done and not (self.out / run_files.RESULT).is_file():
            raise UserError(
                f"{self.out} has trained {done} epochs, which --epochs {self.settings.epochs} "
                f"would not say; give --epochs {done} or more, or choose another --out"
            )

    def _check_best(self) -> None:
        """Refuse to go on for hours towards a result that needs a file that is not there."""
        if self.progress.best_epoch == 0:
            return
        try:
            run.read_weights(self.out / run_files.WEIGHTS, self.id)
        except UserError as error:
            raise UserError(
                f"{error} (the best model so far, of epoch {self.progress.best_epoch}, is needed "
                "for the result: put it back, or choose another --out)"
            ) from error

    def _changed_arithmetic(self) -> list[str]:
        """Say that a run goes on in another arithmetic, so that its bits will be others."""
        path = self.out / run_files.ENVIRONMENT
        if not path.is_file():
            return []
        before, now = read_json(path), run.environment(self.device)
        names = [name for name in run.ARITHMETIC if name in before]  # it may be of an older version
        changed = run_files.differences(
            *({name: known.get(name) for name in names} for known in (before, now))
        )
        return [f"not bit for bit as it began ({'; '.join(changed)})"] if changed else []


def model_config(settings: Settings, vocab_size: int) -> ModelConfig:
    """Return the model that some settings ask for."""
    names = {field.name for field in dataclasses.fields(ModelConfig)} & settings.to_dict().keys()
    shared = {name: getattr(settings, name) for name in names - {"vocab_size"}}
    return ModelConfig(vocab_size=vocab_size, **shared)


def start_from(model: LanguageModel, folder: Path, corpus: Corpus) -> None:
    """Give a model the best weights of an earlier run: a second session (footnote 4)."""
    earlier = run.load(folder)
    for name in ("network", "d_embed", "d_hidden", "n_layers", "tied", "has_decoder_bias"):
        theirs, ours = getattr(earlier.config, name), getattr(model.config, name)
        if theirs != ours:
            raise UserError(
                f"--init-from {folder} has {name.removeprefix('has_')} {theirs}, this run {ours}: "
                "give it the same"
            )
    if earlier.vocabulary != corpus.vocabulary:
        raise UserError(f"--init-from {folder}: its vocabulary is not this corpus's")
    run.load_weights(model, folder / run_files.WEIGHTS, run.run_id(folder))


def _content(corpus: dict[str, Any]) -> dict[str, Any]:
    """Return what a configuration says of its corpus, without names and places.

    Three files are the parts themselves; how they came to be named so says nothing more.
    """
    hashes = run_files.text_hashes(corpus)
    left_out = {"name", "origin", "verified", "marks", "lacks_blanks"}
    if len(hashes) == len(PARTS):
        left_out.add("split")
    return {k: v for k, v in corpus.items() if k not in left_out} | {"sha256": hashes}
