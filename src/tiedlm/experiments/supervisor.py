"""Run several tasks at once, each in a process of its own, and stop them cleanly.

A task's function gets a :class:`Channel`. Through it the child reports to its parent and hears when
it is to stop; a child whose parent is gone hears the same. Signals go to the parent only, which
asks every child to stop and waits until it has.
"""

from __future__ import annotations

import math
import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, Generic, TypeVar

from tiedlm.errors import UserError
from tiedlm.native import share_gpu
from tiedlm.training.outcomes import Diverged, OutOfTime, Stopped
from tiedlm.training.signals import stop_signals

Task = TypeVar("Task")

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_LOOK_EVERY = 0.2  # seconds between two looks at the clock and for a signal
# How a child says why it has no result; what else it sends is a report.
_RESULT = "result"
_FAILURES: dict[str, type[Exception]] = {
    "stopped": Stopped,
    "diverged": Diverged,
    "mistake": UserError,
}


class ChildDied(RuntimeError):
    """A child process ended without a word.

    Args:
        what: the task.
        code: the process's exit code; below 0 a signal killed it.
    """

    def __init__(self, what: str, code: int | None) -> None:
        super().__init__(f"{what}: the process ended with {code}")
        self.was_killed = code is not None and code < 0


class Channel:
    """The child's end of the pipe to its parent."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def send(self, kind: str, *values: Any) -> None:
        """Report to the parent."""
        with suppress(OSError):  # nobody reads any more; `stop_requested` says so
            self.connection.send((kind, values))

    def stop_requested(self) -> bool:
        """Tell whether the parent has asked to stop, or is gone."""
        try:
            return self.connection.poll()
        except OSError:
            return True


@dataclass(frozen=True)
class Work(Generic[Task]):
    """What is done with each task, and with what comes of it.

    Args:
        run: does a task in a child process; a function of a module, so that it can be sent there.
        on_result: called in the parent with a task's number and its result.
        on_report: called in the parent with a task's number and what it reported.
        may_begin: whether a task can begin yet.
        name: of a task, for messages.
    """

    run: Callable[[Task, Channel], Any]
    on_result: Callable[[int, Any], None]
    on_report: Callable[[int, str, tuple[Any, ...]], None] = lambda number, kind, values: None
    may_begin: Callable[[Task], bool] = lambda task: True
    name: Callable[[Task], str] = str


def supervise(
    tasks: Sequence[Task], work: Work[Task], at_once: int, seconds: float = math.inf
) -> None:
    """Run tasks to their ends, some at once; after a failure the others are stopped.

    Args:
        tasks: in the order in which they begin.
        work: what is done with them.
        at_once: how many processes.
        seconds: after so many every task is stopped.

    Raises:
        UserError: what a task raised.
        Stopped: after SIGINT or SIGTERM, when every task has stopped.
        OutOfTime: after so many seconds, likewise.
        Diverged: what a task raised.
        ChildDied: if a process was killed or failed otherwise.
    """
    waiting = list(range(len(tasks)))
    running: dict[int, _Child] = {}
    failure: Exception | None = None
    deadline = time.monotonic() + seconds
    with stop_signals() as signalled, _leaving_nobody(running):
        while waiting or running:
            if failure or signalled() or time.monotonic() > deadline:
                for child in running.values():
                    child.stop()
            else:
                _begin(tasks, work, waiting, running, at_once)
            if not running:  # asked to stop, or what the rest waits for is not among the tasks
                break
            for number in _ready(running):
                kind, values = running[number].receive()
                if kind == _RESULT:
                    running.pop(number).end()
                    work.on_result(number, values[0])
                elif kind in _FAILURES:
                    running.pop(number).end()
                    failure = failure or _FAILURES[kind](values[0])
                elif kind == "died":
                    code = running.pop(number).end()
                    failure = failure or ChildDied(work.name(tasks[number]), code)
                else:
                    work.on_report(number, kind, values)
    if failure is None and waiting:
        failure = Stopped("stopped before every model had begun; the same command goes on")
    if isinstance(failure, Stopped) and time.monotonic() > deadline and not signalled():
        raise OutOfTime(str(failure))
    if failure is not None:
        raise failure


class _Child:
    """A task under way, as its parent sees it.

    Each has a pipe of its own. In a queue that all write to, one that is killed as it writes
    leaves the others half a message and a lock that nobody opens.
    """

    def __init__(self, process: SpawnProcess, connection: Connection) -> None:
        self.process = process
        self.connection = connection
        self.told = False

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

    def end(self) -> int | None:
        """Wait for the process to end and return its exit code."""
        self.process.join()
        self.connection.close()
        return self.process.exitcode


def _begin(
    tasks: Sequence[Task],
    work: Work[Task],
    waiting: list[int],
    running: dict[int, _Child],
    at_once: int,
) -> None:
    """Start waiting tasks until so many run."""
    context = multiprocessing.get_context("spawn")
    while len(running) < at_once:
        number = next((i for i in waiting if work.may_begin(tasks[i])), None)
        if number is None:
            return
        waiting.remove(number)
        ours, theirs = context.Pipe()
        sharing = min(at_once, len(tasks))
        process = context.Process(
            target=work_in_child, args=(work.run, tasks[number], theirs, sharing)
        )
        with _held_signals():
            process.start()
        theirs.close()  # so that this end sees when the child's is gone
        running[number] = _Child(process, ours)


def _ready(running: dict[int, _Child]) -> list[int]:
    """Return the tasks that have sent something, after waiting a moment for one."""
    ready = wait([child.connection for child in running.values()], timeout=_LOOK_EVERY)
    return [number for number, child in running.items() if child.connection in ready]


def work_in_child(
    run: Callable[[Task, Channel], Any], task: Task, connection: Connection, sharing: int
) -> None:
    """Do a task in a child process and send its result, or why there is none."""
    _ignore_signals()
    channel = Channel(connection)
    share_gpu(sharing)
    try:
        channel.send(_RESULT, run(task, channel))
    except Stopped as stopped:
        channel.send("stopped", str(stopped))
    except Diverged as diverged:
        channel.send("diverged", str(diverged))
    except UserError as error:
        channel.send("mistake", str(error))


@contextmanager
def _leaving_nobody(running: dict[int, _Child]) -> Iterator[None]:
    """Let the children save and end where the parent fails, as in showing the progress.

    Otherwise they would work on, and Python would wait for them at its end.
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


def _ignore_signals() -> None:
    """In a child, leave SIGINT and SIGTERM to the parent, which says what is to be done."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


@contextmanager
def _held_signals() -> Iterator[None]:
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
