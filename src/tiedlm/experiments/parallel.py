"""Train several models at once, each in a process of its own.

Small recurrent models do not fill several cores: their products are small and their steps wait
for each other. Two models on one thread each are done sooner than one after the other on two.
"""

from __future__ import annotations

import math
import multiprocessing
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import FrameType
from typing import Any

from tiedlm.errors import UserError
from tiedlm.native import share_gpu
from tiedlm.progress import ProgressView, Watcher
from tiedlm.training.outcomes import Diverged, OutOfTime, Stopped
from tiedlm.training.run_files import RESULT
from tiedlm.training.settings import Settings

_FINAL = ("result", "stopped", "diverged", "mistake", "died")
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_SEND_EVERY = 0.2  # seconds between two reports of a model's steps


@dataclass(frozen=True)
class Job:
    """One model to train.

    Args:
        settings: complete.
        out: its run folder.
        after: the run folder of another job that must have ended before this one begins.
    """

    settings: Settings
    out: Path
    after: Path | None = None


def train_all(
    jobs: Sequence[Job], at_once: int, view: ProgressView, seconds: float = math.inf
) -> list[dict[str, Any]]:
    """Train models, some at once; each goes on where an earlier call stopped.

    Args:
        jobs: the models, in the order in which they begin.
        at_once: how many processes.
        view: shows their progress.
        seconds: after so many every run is saved and stopped.

    Returns:
        What each run's ``result.json`` holds, in the order of ``jobs``.

    Raises:
        UserError: what a run raised.
        Stopped: after SIGINT or SIGTERM, when every run has saved.
        OutOfTime: after so many seconds, likewise.
        Diverged: what a run raised; the others have saved.
    """
    waiting = list(range(len(jobs)))
    running: dict[int, _Child] = {}
    results: dict[int, dict[str, Any]] = {}
    failure: Exception | None = None
    stopping = False
    deadline = time.monotonic() + seconds
    with _stopping() as signals, _leaving_nobody(running):
        while waiting or running:
            stopping = stopping or bool(signals) or time.monotonic() > deadline
            if stopping:
                for child in running.values():
                    child.stop()
            while len(running) < at_once and not stopping:
                index = next((i for i in waiting if _may_begin(jobs[i])), None)
                if index is None:
                    break
                waiting.remove(index)
                running[index] = _start(jobs[index], view.watcher(), min(at_once, len(jobs)))
            if not running:  # asked to stop, or what the rest waits for is not among the jobs
                break
            ready = wait([child.connection for child in running.values()], timeout=0.2)
            for index, child in list(running.items()):
                if child.connection not in ready:
                    continue
                kind, values = child.receive()
                if kind not in _FINAL:
                    getattr(child.watcher, kind)(*values)
                    continue
                del running[index]
                child.process.join()
                child.connection.close()
                if kind == "result":
                    results[index] = values[0]
                    continue
                stopping = True
                if kind == "died":
                    what = f"{jobs[index].out}: the process ended with {child.process.exitcode}"
                    failure = failure or RuntimeError(what)
                else:
                    kinds = {"stopped": Stopped, "diverged": Diverged, "mistake": UserError}
                    failure = failure or kinds[kind](values[0])
    if failure is None and len(results) < len(jobs):
        failure = Stopped("stopped before every model had begun; the same command goes on")
    if isinstance(failure, Stopped) and time.monotonic() > deadline and not signals:
        raise OutOfTime(str(failure))
    if failure is not None:
        raise failure
    return [results[index] for index in range(len(jobs))]


def _may_begin(job: Job) -> bool:
    return job.after is None or (job.after / RESULT).is_file()


@dataclass
class _Child:
    """A model in training, as its parent sees it.

    Each has a pipe of its own. In a queue that all write to, one that is killed as it writes
    leaves the others half a message and a lock that nobody opens.
    """

    process: SpawnProcess
    connection: Connection
    watcher: Watcher
    told: bool = False

    def stop(self) -> None:
        if not self.told:
            self.told = True
            with suppress(OSError):  # it has ended
                self.connection.send("stop")

    def receive(self) -> tuple[str, tuple[Any, ...]]:
        try:
            message: tuple[str, tuple[Any, ...]] = self.connection.recv()
        except (EOFError, OSError):  # also in the middle of a message
            return "died", ()
        return message


def _start(job: Job, watcher: Watcher, sharing: int) -> _Child:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(job, theirs, sharing))
    with held_signals():
        process.start()
    theirs.close()  # so that this end sees when the child's is gone
    return _Child(process, ours, watcher)


class _Remote:
    """A watcher that sends what it is told to the parent process, and hears when to stop."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.tokens = 0
        self.sent = time.monotonic()

    def send(self, kind: str, *values: Any) -> None:
        with suppress(OSError):  # nobody reads any more; `stop_requested` says so
            self.connection.send((kind, values))

    def stop_requested(self) -> bool:
        """Whether the parent has asked for it, or is gone: a killed one must leave no children."""
        try:
            return self.connection.poll()
        except OSError:
            return True

    def start(self, title: str, total: int, done: int) -> None:
        self.send("start", title, total, done)

    def step(self, tokens: int, epoch: int, epochs: int, perplexity: float) -> None:
        self.tokens += tokens
        if time.monotonic() - self.sent > _SEND_EVERY:
            self.send("step", self.tokens, epoch, epochs, perplexity)
            self.tokens, self.sent = 0, time.monotonic()

    def epoch_end(self, text: str, best_valid: float) -> None:
        self.send("epoch_end", text, best_valid)

    def line(self, text: str) -> None:
        self.send("line", text)


def _work(job: Job, connection: Connection, sharing: int) -> None:
    """Train one model in a child process and send its result, or why there is none."""
    ignore_signals()  # until the training listens for them
    remote = _Remote(connection)
    share_gpu(sharing)
    try:
        from tiedlm.training.loop import train

        try:
            corpus = job.settings.load_corpus(progress=False)
            result = train(
                job.settings, corpus, job.out, watcher=remote, stop_requested=remote.stop_requested
            )
            remote.send("result", result)
        except Stopped as stopped:
            remote.send("stopped", str(stopped))
        except Diverged as diverged:
            remote.send("diverged", str(diverged))
    except UserError as error:
        remote.send("mistake", str(error))


@contextmanager
def _leaving_nobody(running: dict[int, _Child]) -> Iterator[None]:
    """Where something fails here, such as what shows the progress, let the children save and end.

    Otherwise they would train on, and Python would wait for them at its end.
    """
    try:
        yield
    except BaseException:
        for child in running.values():
            child.stop()
        for child in running.values():
            while child.receive()[0] != "died":  # a full pipe would hold it
                pass
            child.process.join()
        raise


def ignore_signals() -> None:
    """In a child, leave SIGINT and SIGTERM to the parent, which says what is to be done."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


@contextmanager
def held_signals() -> Iterator[None]:
    """Let children begin with the signals held back: their first seconds are imports."""
    if not hasattr(signal, "pthread_sigmask"):  # not Unix
        yield
        return
    resource_tracker.ensure_running()  # started with the first child it would let them through
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _stopping() -> Iterator[list[int]]:
    """Note SIGINT and SIGTERM, so that every child can be told to save and end; yield what came."""
    signals: list[int] = []

    def request(number: int, frame: FrameType | None) -> None:
        signals.append(number)  # no more: one signal may come while another is handled

    old = {number: signal.signal(number, request) for number in _SIGNALS}
    try:
        yield signals
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
