"""What a person sees of long work: live bars on a terminal, plain lines anywhere else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

PLAIN_EVERY = 30.0  # seconds between two plain lines of one task
TABLE_WIDTH = 140  # of a table that goes into a file or a pipe
HALF_LIFE = 600.0  # seconds after which work counts half in a rate: machines get busy, and idle


class Watcher(Protocol):
    """What a training run reports to."""

    def start(self, title: str, total: int, done: int) -> None:
        """Training begins: targets of all epochs, and those that an earlier process has done."""

    def step(self, tokens: int, epoch: int, epochs: int, perplexity: float) -> None:
        """An update on so many targets; the training perplexity of the epoch so far."""

    def epoch_end(self, text: str, best_valid: float) -> None:
        """An epoch has ended: a line about it, and the best validation perplexity so far."""

    def line(self, text: str) -> None:
        """Something that a person should know."""


class Silent:
    """A watcher that shows nothing."""

    def start(self, title: str, total: int, done: int) -> None:
        """Show nothing."""

    def step(self, tokens: int, epoch: int, epochs: int, perplexity: float) -> None:
        """Show nothing."""

    def epoch_end(self, text: str, best_valid: float) -> None:
        """Show nothing."""

    def line(self, text: str) -> None:
        """Show nothing."""


def short_duration(seconds: float) -> str:
    """Write a duration as ``1:02:03`` or ``2:03``."""
    minutes, second = divmod(max(0, round(seconds)), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def table_console() -> Console:
    """Return where tables are printed: nothing in them is markup, and a pipe or file is wide."""
    console = Console(markup=False, emoji=False)
    if not console.is_terminal:
        console.width = max(console.width, TABLE_WIDTH)
    return console


class ProgressView:
    """Live bars for the runs that are under way; a context manager.

    Args:
        console: where to write; standard error by default.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self.live: Progress | None = None
        if self.console.is_terminal:
            self.live = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=20),
                TextColumn("{task.fields[status]}", markup=False),
                console=self.console,
                transient=True,
            )

    def __enter__(self) -> ProgressView:
        if self.live:
            self.live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.live:
            self.live.stop()

    def watcher(self) -> Watcher:
        """Return the watcher of one more run."""
        return _Task(self)

    def line(self, text: str) -> None:
        """Write one line above the bars."""
        self.console.print(Text(text), soft_wrap=True)


class _Rate:
    """Tokens per second of what a process has done, the last minutes most of all."""

    def __init__(self) -> None:
        self.tokens = self.seconds = 0.0
        self.last = time.monotonic()

    def status(self, tokens: int, left: int) -> str:
        """Count some more tokens; return the rate and how long those that are left will take."""
        now = time.monotonic()
        passed, self.last = now - self.last, now
        kept = 0.5 ** (passed / HALF_LIFE)
        self.tokens = kept * self.tokens + tokens
        self.seconds = kept * self.seconds + passed
        rate = self.tokens / max(self.seconds, 1e-9)
        return f"{rate:,.0f} tokens/s  ETA {short_duration(left / rate)}"


class _Task:
    """Tokens per second, loss, best so far and an ETA of one run.

    The ETA counts everything that takes time, validation too.
    """

    def __init__(self, view: ProgressView) -> None:
        self.view = view
        self.best = ""

    def start(self, title: str, total: int, done: int) -> None:
        self.title, self.total, self.done = title, total, done
        self.rate, self.last_line = _Rate(), time.monotonic()
        if self.view.live:
            self.task = self.view.live.add_task(title, total=total, completed=done, status="")

    def step(self, tokens: int, epoch: int, epochs: int, perplexity: float) -> None:
        self.done += tokens
        now = time.monotonic()
        rate = self.rate.status(tokens, self.total - self.done)
        status = f"epoch {epoch}/{epochs}  ppl {perplexity:.1f}{self.best}  {rate}"
        if self.view.live:
            self.view.live.update(self.task, completed=self.done, status=status)
            if self.done >= self.total:
                self.view.live.update(self.task, visible=False)
        elif now - self.last_line > PLAIN_EVERY:
            self.last_line = now
            self.line(f"{100 * self.done / self.total:3.0f}%  {status}")

    def epoch_end(self, text: str, best_valid: float) -> None:
        self.best = f"  best {best_valid:.2f}"
        self.last_line = time.monotonic()
        self.line(text)

    def line(self, text: str) -> None:
        self.view.line(f"{self.title:<16} {text}")


@contextmanager
def token_progress(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """Give a function that counts tokens and shows how many are done, how fast, and the ETA."""
    rate, last_line = _Rate(), time.monotonic()
    done = 0
    with ProgressView() as view:
        task = view.live.add_task(title, total=total, status="") if view.live else None

        def advance(count: int) -> None:
            nonlocal done, last_line
            done += count
            now = time.monotonic()
            status = rate.status(count, total - done)
            if view.live and task is not None:
                view.live.update(task, completed=done, status=status)
            elif now - last_line > PLAIN_EVERY:
                last_line = now
                view.line(f"{title}: {100 * done / total:3.0f}%  {status}")

        yield advance
