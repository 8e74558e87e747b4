"""Train one model: the loop over epochs and windows, with validation and checkpoints.

Shape letters: B streams, T steps of a window.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NoReturn

from tiedlm.data import Corpus
from tiedlm.evaluation import perplexity
from tiedlm.files import write_json, write_text
from tiedlm.folders import check_folder
from tiedlm.native.routes import as_recorded
from tiedlm.networks import State
from tiedlm.progress import Silent, Watcher, short_duration
from tiedlm.training import run, run_files
from tiedlm.training.build import build_model
from tiedlm.training.checkpoint import (
    Progress,
    buffers_of,
    check_buffers,
    products_of,
    save_checkpoint,
)
from tiedlm.training.distributed import Ranks, join
from tiedlm.training.hardware import arithmetic_of, device_of, threads_of
from tiedlm.training.held_out import HeldOut, check_parts
from tiedlm.training.kept_weights import KeptWeights
from tiedlm.training.outcomes import check_finite, diverged, is_over, result_of, stopped
from tiedlm.training.resume import RunFolder
from tiedlm.training.schedules import is_averaging, learning_rate
from tiedlm.training.settings import Settings
from tiedlm.training.signals import stop_signals
from tiedlm.training.soft_targets import TargetSource
from tiedlm.training.step import Objective
from tiedlm.training.text_units import TextUnits
from tiedlm.training.updater import Updater
from tiedlm.training.windows import Windows

SAVE_EVERY = 120.0  # seconds between two checkpoints within an epoch

ShouldStop = Callable[[], bool]
OnMetrics = Callable[[list[dict[str, Any]]], None]


def train(
    settings: Settings,
    corpus: Corpus,
    out: Path,
    *,
    save_every: float = SAVE_EVERY,
    watcher: Watcher | None = None,
    should_stop: ShouldStop = lambda: False,
    on_metrics: OnMetrics | None = None,
) -> dict[str, Any]:
    """Train a model and write its run folder; go on where an earlier call stopped.

    Args:
        settings: complete settings.
        corpus: the encoded corpus; its vocabulary is saved with the model.
        out: the run folder; it may hold an unfinished run of the same settings.
        save_every: seconds between two checkpoints within an epoch.
        watcher: what to report to; None reports to nobody.
        should_stop: asked after every step, besides the signals SIGINT and SIGTERM.
        on_metrics: called with the lines of ``metrics.jsonl`` so far, first and after each new one.

    Returns:
        What ``result.json`` holds.

    Raises:
        UserError: if the folder holds another run, is in use or cannot be written, or the corpus
            is too short.
        Stopped: after SIGINT or SIGTERM, with everything saved.
        Diverged: if the loss or the gradient stops being finite.
    """
    check_folder(out, run_files.CONFIG, "run")
    check_parts(corpus)
    with join(settings.device) as ranks, threads_of(settings):
        watcher = (watcher if ranks.is_first else None) or Silent()
        training = _Training(settings, corpus, out, save_every, watcher, ranks, on_metrics)
        # Rank 0 holds the folder; the others only read it.
        holder = run_files.lock(out) if ranks.is_first else nullcontext()
        made_before = as_recorded(products_of(out / run_files.LAST))
        with holder, made_before, arithmetic_of(settings, training.device):
            return training.run(should_stop)


class _Training:
    """A run under way: its model, its text and its progress."""

    def __init__(
        self,
        settings: Settings,
        corpus: Corpus,
        out: Path,
        save_every: float,
        watcher: Watcher,
        ranks: Ranks,
        on_metrics: OnMetrics | None,
    ) -> None:
        self.settings = settings
        self.corpus = corpus
        self.out = out
        self.save_every = save_every
        self.watcher = watcher
        self.ranks = ranks
        self.on_metrics = on_metrics
        ranks.check_batch(settings.batch_size, settings.accumulate)
        self.device = device_of(settings)
        resumes = run_files.has_checkpoint(out)
        self.model = build_model(settings, corpus, resumes)
        self.model.share_masks(ranks.rank, ranks.world)
        self.model.to(self.device).train()
        self.buffers = buffers_of(self.model)
        source = TargetSource(self.model, settings, corpus, resumes)
        self.target_source = source.to(self.device)
        objective = Objective(self.model, settings, self.target_source)
        self.updater = Updater(objective, settings, ranks, self.device)
        self.windows = Windows(corpus, settings, ranks, self.device)
        self.epoch_tokens = self.windows.epoch_tokens
        self.units = TextUnits(corpus)
        self.held_out = HeldOut(corpus, self.units, out, ranks, self.device)
        self.progress = Progress()
        self.state: State | None = None
        self.averages = False  # whether the weights of this epoch's updates are averaged
        self.kept = KeptWeights(out, settings)
        self.run_id = ""

    def run(self, should_stop: ShouldStop) -> dict[str, Any]:
        """Train to the end and return the result; a finished run is not trained again."""
        notes, is_finished = self._open_folder()
        if notes or not is_finished:
            total = self.settings.epochs * self.epoch_tokens
            self.watcher.start(self.out.name, total, self._seen())
            for note in notes:
                self.watcher.line(note)
        if is_finished:
            return run_files.read_result(self.out)
        self.ranks.wait()
        with stop_signals() as signalled:
            while not is_over(self.settings, self.progress):
                self._train_epoch(lambda: signalled() or should_stop())
                self._end_epoch()
            return self._finish(lambda: signalled() or should_stop())

    def _open_folder(self) -> tuple[list[str], bool]:
        """Begin or restore the run; return lines to show and whether it is finished."""
        folder = RunFolder(self.out, self.settings, self.model, self.corpus, self.device)
        start = folder.read()
        self.run_id, self.progress = start.run_id, start.progress
        self.state = self.ranks.share(start.state)
        if start.memory is not None:
            self.target_source.remember(start.memory, self.model.embedding.weight)
            self.updater.remember(start.memory)
        lost_checkpoints = start.is_finished and start.memory is None
        if self.ranks.is_first and not lost_checkpoints:
            folder.write(start)
            self._write_metrics()
        notes = self.windows.warnings() if folder.earlier is None else []
        notes += start.notes
        total = self.units.words(self.settings.epochs * self.epoch_tokens)
        notes += self.kept.notes(self.units.words(self._seen()), total)
        return notes, start.is_finished

    def _train_epoch(self, should_stop: ShouldStop) -> None:
        """Train on the windows of the epoch that are left, and save from time to time."""
        progress = self.progress
        self.windows.begin(progress.epoch)
        valid = [line["valid_ppl"] for line in progress.history]
        self.averages = is_averaging(self.settings, progress.epoch, valid)
        if self.averages and self.updater.average is None:
            self.watcher.line(f"averaging the weights from epoch {progress.epoch} on")
        saved = clock = time.monotonic()
        while progress.window < len(self.windows):
            stop = self._train_window(should_stop())
            now = time.monotonic()
            progress.seconds += now - clock
            progress.epoch_seconds += now - clock
            clock = now
            if stop:
                self._stop()
            if self.ranks.from_first(now - saved, self.device) >= self.save_every:
                self._checkpoint()
                saved = clock = time.monotonic()
        if self.ranks.sum([float(should_stop())], self.device)[0]:  # before a long validation
            self._stop()

    def _stop(self) -> NoReturn:
        """Save, and end the training as somebody asked."""
        self._checkpoint()
        place = f"at epoch {self.progress.epoch}, step {self.progress.step}"
        raise stopped(self.out, place)

    def _train_window(self, stop_requested: bool) -> bool:
        """Update the model on the next window; return whether any rank was asked to stop."""
        progress = self.progress
        inputs_BT, targets_BT = self.windows[progress.window]
        rate = self._rate(progress.window, progress.step)
        if self.settings.bptt_jitter:  # the objective is scaled to bptt steps for any window
            rate *= inputs_BT.shape[1] / self.settings.bptt
        self.updater.set_rate(rate)
        try:
            out = self.updater.update(inputs_BT, targets_BT, self.state, stop_requested)
        except FloatingPointError as error:
            raise diverged(
                self.out, progress.epoch, f"step {progress.step + 1}: {error}"
            ) from error
        check_buffers(self.model, self.buffers)
        if self.settings.unit_norm:
            self.model.normalize_word_vectors()
        if self.averages:
            self.updater.add_to_average()
        self.target_source.update(self.model.embedding.weight)
        self.state = out.state
        count, before = targets_BT.numel() * self.ranks.world, self._seen()
        progress.add_window(count, out.ce, out.aug)
        self.watcher.step(
            count,
            progress.epoch,
            self.settings.epochs,
            self._trained_per_word(),
        )
        self._after_update(before)
        return out.stop

    def _seen(self) -> int:
        """Return the number of tokens predicted in all epochs so far."""
        return (self.progress.epoch - 1) * self.epoch_tokens + self.progress.epoch_tokens

    def _after_update(self, before: int) -> None:
        """Keep the weights or evaluate, if the update reached such a number of words.

        This happens before a checkpoint of the same step is written, so that a resumed run has
        these results, too. It draws no random number and changes no weight.

        Args:
            before: tokens predicted before the update.
        """
        before, seen = self.units.words(before), self.units.words(self._seen())
        every = self.settings.evaluate_every
        if self.ranks.is_first:
            for line in self.kept.keep(self.updater.evaluated, before, seen, self.progress):
                self.watcher.line(line)
        # After the last window of an epoch comes the epoch's own evaluation.
        is_inside = self.progress.window < len(self.windows)
        if every is not None and is_inside and before // every < seen // every:
            self._evaluate_inside(seen)

    def _evaluate_inside(self, seen: int) -> None:
        """Add a line about the validation perplexity inside an epoch to ``metrics.jsonl``."""
        progress, started = self.progress, time.monotonic()
        valid = self.held_out.perplexity(self.updater.evaluated, "valid")
        lr = self._rate(progress.window - 1, progress.step - 1)
        seconds, found = time.monotonic() - started, self.units.per_word("valid", valid)
        progress.add_evaluation(seen, lr, valid, seconds, found.numbers() if found else {})
        self.watcher.line(
            f"epoch {progress.epoch:>3}/{self.settings.epochs}  {seen:,} words  "
            f"{self.units.shown(valid)}"
        )
        self._write_metrics()

    def _trained_per_word(self) -> float:
        """Return the training perplexity of the epoch so far, per word."""
        progress = self.progress
        return perplexity(progress.epoch_nll, max(self.units.words(progress.epoch_tokens), 1))

    def _rate(self, window: int, step: int) -> float:
        """Return the learning rate of a window of this epoch, for ``bptt`` steps."""
        valid = [line["valid_ppl"] for line in self.progress.history]
        share = self.windows.share(window)
        return learning_rate(self.settings, self.progress.epoch, share, step, valid)

    def _end_epoch(self) -> None:
        """Validate, keep the best weights, and save."""
        progress = self.progress
        train_seconds, started = progress.training_seconds(), time.monotonic()
        trained = perplexity(progress.epoch_nll, progress.epoch_tokens)
        check_finite(self.out, progress.epoch, "training", trained)
        model = self.updater.evaluated
        valid, further = self.held_out.checked(model, "valid", progress.epoch)
        seconds = time.monotonic() - started
        progress.seconds += seconds
        progress.epoch_seconds += seconds
        is_best = progress.best_valid is None or valid < progress.best_valid
        if is_best:
            progress.best_valid, progress.best_epoch = valid, progress.epoch
            if self.ranks.is_first:
                weights = self.out / run_files.WEIGHTS
                run.save_weights(model, weights, self.run_id)
        rate = self._rate(len(self.windows) - 1, progress.step - 1)
        tokens = self.epoch_tokens * progress.epoch
        further |= self.held_out.distance(model)
        line = progress.add_epoch(tokens, rate, valid, train_seconds, further)
        assert progress.best_valid is not None
        self.watcher.epoch_end(
            f"epoch {progress.epoch:>3}/{self.settings.epochs}  lr {rate:<7.4g} "
            f"train ppl {self._trained_per_word():8.2f}  {self.units.shown(valid)}"
            f"{' *' if is_best else '  '}  {line['tokens_per_second']:,.0f} tokens/s  "
            f"{short_duration(progress.epoch_seconds)}",
            self.units.ppl_per_word("valid", progress.best_valid),
        )
        progress.next_epoch()
        self.state = None  # the next epoch reads the text from its start
        self._checkpoint()  # first: a run resumed from it writes the metrics again
        self._write_metrics()

    def _finish(self, should_stop: ShouldStop) -> dict[str, Any]:
        """Measure the best model, and write and return the result."""
        self.ranks.wait()
        run.load_weights(self.model, self.out / run_files.WEIGHTS, self.run_id)
        measured = self.held_out.final(self.model, self.progress.best_epoch, should_stop)
        parameters = self.model.num_params()
        result = result_of(self.settings, self.progress, measured, self.epoch_tokens, parameters)
        if self.ranks.is_first:
            write_json(self.out / run_files.RESULT, result)
        return result

    def _checkpoint(self) -> None:
        """Save everything that an exact resume needs."""
        state = self.ranks.gather(self.state)
        if self.ranks.is_first:
            memory = {**self.target_source.memory(), **self.updater.memory()}
            last = self.out / run_files.LAST
            save_checkpoint(last, self.model, state, self.progress, self.run_id, memory)

    def _write_metrics(self) -> None:
        """Write ``metrics.jsonl`` anew, and report its lines."""
        if not self.ranks.is_first:
            return
        lines = [json.dumps(line) + "\n" for line in self.progress.lines()]
        write_text(self.out / run_files.METRICS, "".join(lines))
        if self.on_metrics is not None:
            self.on_metrics(self.progress.lines())
