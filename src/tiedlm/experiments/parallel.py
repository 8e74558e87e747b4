"""Train several models at once, each in a process of its own.

Small recurrent models do not fill several cores: their products are small and their steps wait
for each other. Two models on one thread each are done sooner than one after the other on two.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import queue
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.context import SpawnProcess
from multiprocessing.synchronize import Event
from pathlib import Path
from types import FrameType
from typing import Any

from tiedlm.errors import UserError
from tiedlm.native import share_gpu
from tiedlm.progress import ProgressView, Watcher
from tiedlm.training.run_files import RESULT
from tiedlm.training.settings import Settings

_FINAL = ("result", "stopped", "diverged", "mistake")
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
    from tiedlm.training.loop import Diverged, OutOfTime, Stopped

    context = multiprocessing.get_context("spawn")
    inbox: multiprocessing.Queue[tuple[int, str, tuple[Any, ...]]] = context.Queue()
    inbox.cancel_join_thread()  # of what this process puts in nothing must arrive
    stop = context.Event()
    waiting = list(range(len(jobs)))
    running: dict[int, SpawnProcess] = {}
    watchers: dict[int, Watcher] = {}
    results: dict[int, dict[str, Any]] = {}
    dead: set[int] = set()
    failure: Exception | None = None
    deadline = time.monotonic() + seconds
    with _stopping() as signals, _leaving_nobody(running, inbox, stop):
        while waiting or running:
            if signals or time.monotonic() > deadline:
                stop.set()
            while len(running) < at_once and not stop.is_set():
                index = next((i for i in waiting if _may_begin(jobs[i])), None)
                if index is None:
                    break
                waiting.remove(index)
                watchers[index] = view.watcher()
                running[index] = context.Process(
                    target=_work,
                    args=(index, jobs[index], inbox, stop, os.getpid(), min(at_once, len(jobs))),
                )
                with _held_signals():
                    running[index].start()
            if not running:  # asked to stop, or what the rest waits for is not among the jobs
                break
            for index in running.keys() - dead:
                if not running[index].is_alive():
                    dead.add(index)
                    inbox.put((index, "died", ()))  # comes out after all that it sent
            try:
                index, kind, values = inbox.get(timeout=0.2)
            except queue.Empty:
                gone = dead & running.keys()
                if not gone:
                    continue
                index, kind = gone.pop(), "died"  # it may have left the pipe locked
            if kind == "died":
                if index in running:
                    process = running.pop(index)
                    failure = failure or RuntimeError(
                        f"{jobs[index].out}: the process ended with {process.exitcode}"
                    )
                    stop.set()
                continue
            if kind not in _FINAL:
                getattr(watchers[index], kind)(*values)
                continue
            running.pop(index).join()
            if kind == "result":
                results[index] = values[0]
            else:
                kinds = {"stopped": Stopped, "diverged": Diverged, "mistake": UserError}
                failure = failure or kinds[kind](values[0])
                stop.set()
    if failure is None and len(results) < len(jobs):
        failure = Stopped("stopped before every model had begun; the same command goes on")
    if isinstance(failure, Stopped) and time.monotonic() > deadline and not signals:
        raise OutOfTime(str(failure))
    if failure is not None:
        raise failure
    return [results[index] for index in range(len(jobs))]


def _may_begin(job: Job) -> bool:
    return job.after is None or (job.after / RESULT).is_file()


class _Remote:
    """A watcher that sends what it is told to the parent process."""

    def __init__(
        self, index: int, inbox: multiprocessing.Queue[tuple[int, str, tuple[Any, ...]]]
    ) -> None:
        self.index = index
        self.inbox = inbox
        self.tokens = 0
        self.sent = time.monotonic()

    def send(self, kind: str, *values: Any) -> None:
        self.inbox.put((self.index, kind, values))

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


def _work(
    index: int,
    job: Job,
    inbox: multiprocessing.Queue[tuple[int, str, tuple[Any, ...]]],
    stop: Event,
    parent: int,
    sharing: int,
) -> None:
    """Train one model in a child process and send its result, or why there is none."""
    # Until the training listens for them: the parent does, and says through `stop` what came.
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    remote = _Remote(index, inbox)
    share_gpu(sharing)
    try:
        from tiedlm.training.loop import Diverged, Stopped, train

        settings = job.settings
        try:
            corpus = settings.load_corpus(progress=False)
            result = train(
                settings,
                corpus,
                job.out,
                watcher=remote,
                # A killed parent must not leave its children behind.
                stop_requested=lambda: stop.is_set() or os.getppid() != parent,
            )
            remote.send("result", result)
        except Stopped as stopped:
            remote.send("stopped", str(stopped))
        except Diverged as diverged:
            remote.send("diverged", str(diverged))
    except UserError as error:
        remote.send("mistake", str(error))
    finally:
        if os.getppid() != parent:  # nobody reads what is left
            inbox.cancel_join_thread()


@contextmanager
def _leaving_nobody(
    running: dict[int, SpawnProcess],
    inbox: multiprocessing.Queue[tuple[int, str, tuple[Any, ...]]],
    stop: Event,
) -> Iterator[None]:
    """Where something fails here, such as what shows the progress, let the children save and end.

    Otherwise they would train on, and Python would wait for them at its end.
    """
    try:
        yield
    except BaseException:
        stop.set()
        while any(process.is_alive() for process in running.values()):
            with suppress(queue.Empty):
                inbox.get(timeout=0.2)  # a full pipe would hold them
        raise


@contextmanager
def _held_signals() -> Iterator[None]:
    """Let a child begin with the signals held back: its first seconds are imports."""
    if not hasattr(signal, "pthread_sigmask"):  # not Unix
        yield
        return
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
