"""Run several tasks in parallel, each in its own process, and stop them cleanly.

A task's function gets a :class:`Channel`. The child uses it to report to its parent and to learn
when to stop. It also stops if its parent is gone. The parent handles signals: it asks every child
to stop, and waits until all have. A child ignores them until its task handles them itself.
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

from torch import OutOfMemoryError

from tiedlm.errors import UserError
from tiedlm.native import share_gpu
from tiedlm.training.outcomes import Diverged, OutOfTime, Stopped
from tiedlm.training.signals import stop_signals

Task = TypeVar("Task")

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_LOOK_EVERY = 0.2  # seconds between checks of the clock and for signals
# The messages by which a child explains a missing result. All other messages are reports.
_RESULT = "result"
_FAILURES: dict[str, type[Exception]] = {
    "stopped": Stopped,
    "diverged": Diverged,
    "mistake": UserError,
}
_NO_MEMORY = "no memory"


class ChildDied(RuntimeError):
    """A child process ended without sending a result or a reason.

    Args:
        what: name of the task.
        code: exit code of the process; negative if a signal killed it.
    """

    def __init__(self, what: str, code: int | None) -> None:
        self.was_killed = code is not None and code < 0
        self.may_lack_memory = code == -9  # SIGKILL, which the system sends
        crash = _signal_name(-code) if code is not None and -9 != code < 0 else ""
        super().__init__(f"{what}: the process ended with {code}{crash}")


def _signal_name(number: int) -> str:
    """Return the name of a signal in brackets, "" for a number without a name."""
    try:
        return f" ({signal.Signals(number).name})"
    except ValueError:
        return ""


class Channel:
    """The child's end of the pipe to its parent."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def send(self, kind: str, *values: Any) -> None:
        """Send a report to the parent."""
        with suppress(OSError):  # the parent is gone; `should_stop` returns True
            self.connection.send((kind, values))

    def should_stop(self) -> bool:
        """Return whether the parent has asked to stop or is gone."""
        try:
            return self.connection.poll()
        except OSError:
            return True


@dataclass(frozen=True)
class Work(Generic[Task]):
    """The functions that run each task and handle its results.

    Args:
        run: runs a task in a child process; must be a module-level function, so that it pickles.
        on_result: called in the parent with a task's number and result.
        on_report: called in the parent with a task's number and each report.
        may_begin: returns whether a task may begin yet.
        name: returns a task's name for messages.
    """

    run: Callable[[Task, Channel], Any]
    on_result: Callable[[int, Any], None]
    on_report: Callable[[int, str, tuple[Any, ...]], None] = lambda number, kind, values: None
    may_begin: Callable[[Task], bool] = lambda task: True
    name: Callable[[Task], str] = str


def supervise(
    tasks: Sequence[Task], work: Work[Task], at_once: int, seconds: float = math.inf
) -> None:
    """Run tasks in parallel until all end, and stop the rest after a failure.

    Args:
        tasks: the tasks, in the order in which they begin.
        work: the functions that run them and handle their results.
        at_once: number of processes.
        seconds: time limit, after which every task is stopped.

    Raises:
        UserError: if a task raised it, or the GPU has too little memory for it.
        Stopped: after SIGINT or SIGTERM, once every task has stopped.
        OutOfTime: after the time limit, once every task has stopped.
        Diverged: if a task raised it.
        ChildDied: if a process was killed or failed in another way.
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
            if not running:  # stopped, or the remaining tasks can never begin
                break
            for number in _ready(running):
                kind, values = running[number].receive()
                if kind == _RESULT:
                    running.pop(number).end()
                    work.on_result(number, values[0])
                elif kind in _FAILURES:
                    running.pop(number).end()
                    failure = _graver(failure, _FAILURES[kind](*values))
                elif kind == _NO_MEMORY:
                    running.pop(number).end()
                    failure = _graver(failure, _no_memory(work.name(tasks[number]), *values))
                elif kind == "died":
                    code = running.pop(number).end()
                    failure = _graver(failure, ChildDied(work.name(tasks[number]), code))
                else:
                    work.on_report(number, kind, values)
    if failure is None and waiting:
        failure = Stopped("stopped before every model had begun; the same command continues")
    if isinstance(failure, Stopped) and time.monotonic() > deadline and not signalled():
        raise OutOfTime(str(failure))
    if failure is not None:
        raise failure


def _graver(known: Exception | None, new: Exception) -> Exception:
    """Return the failure to report: the first one, but not a task that stopped as it was asked."""
    if known is None or (isinstance(known, Stopped) and not isinstance(new, Stopped)):
        return new
    return known


def _no_memory(name: str, sharing: int) -> UserError:
    """Return the error for a task that needs more memory than the GPU has left."""
    if sharing == 1:
        return UserError(f"{name}: the GPU has too little memory for it")
    return UserError(
        f"{name}: the GPU has too little memory for {sharing} at once; give fewer --jobs: the same "
        "command continues"
    )


class _Child:
    """The parent's handle of a running task.

    Each child has a pipe of its own. If children shared a queue, a child that is killed while it
    writes would leave half a message, and a lock that nobody releases.
    """

    def __init__(self, process: SpawnProcess, connection: Connection) -> None:
        self.process = process
        self.connection = connection
        self.told = False

    def stop(self) -> None:
        if not self.told:
            self.told = True
            with suppress(OSError):  # the child has ended
                self.connection.send("stop")

    def receive(self) -> tuple[str, tuple[Any, ...]]:
        try:
            message: tuple[str, tuple[Any, ...]] = self.connection.recv()
        except (EOFError, OSError):  # possibly in the middle of a message
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
    """Start waiting tasks until ``at_once`` are running."""
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
        theirs.close()  # so that this end notices when the child's end closes
        running[number] = _Child(process, ours)


def _ready(running: dict[int, _Child]) -> list[int]:
    """Wait briefly for messages, and return the numbers of the tasks that sent one."""
    ready = wait([child.connection for child in running.values()], timeout=_LOOK_EVERY)
    return [number for number, child in running.items() if child.connection in ready]


def work_in_child(
    run: Callable[[Task, Channel], Any], task: Task, connection: Connection, sharing: int
) -> None:
    """Run a task in a child process and send its result, or the reason why it has none."""
    _ignore_signals()
    channel = Channel(connection)
    share_gpu(sharing)
    try:
        channel.send(_RESULT, run(task, channel))
    except Stopped as stopped:
        channel.send("stopped", str(stopped))
    except Diverged as diverged:
        channel.send("diverged", str(diverged), diverged.out)
    except UserError as error:
        channel.send("mistake", str(error))
    except OutOfMemoryError:
        channel.send(_NO_MEMORY, sharing)


@contextmanager
def _leaving_nobody(running: dict[int, _Child]) -> Iterator[None]:
    """Make the children save and end if the parent fails, for example in the progress display.

    Otherwise they would go on, and Python would wait for them when it exits.
    """
    try:
        yield
    except BaseException:
        for child in running.values():
            child.stop()
        for child in running.values():
            while child.receive()[0] != "died":  # drain the pipe: a full one would block the child
                pass
            child.process.join()
        raise


def _ignore_signals() -> None:
    """Ignore SIGINT and SIGTERM in a child until its task handles them; the parent does so, too."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


@contextmanager
def _held_signals() -> Iterator[None]:
    """Block signals while a child starts, because it first spends seconds on imports."""
    if not hasattr(signal, "pthread_sigmask"):  # not Unix
        yield
        return
    resource_tracker.ensure_running()  # if the first child started it, it would unblock the signals
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
