"""Show the progress of long work: live bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

PLAIN_EVERY = 30.0  # seconds between two plain lines about a model
BYTES_EVERY = 10.0  # seconds between two plain lines about a file
BYTES_STEP = 1 << 18  # bytes between two updates
TABLE_WIDTH = 140  # of a table that goes into a file or a pipe
NARROWEST = 80  # of a table on a terminal: in less room its numbers would be cut
HALF_LIFE = 600.0  # half-life of earlier work in the rate, in seconds: the load changes


class Watcher(Protocol):
    """Receives the progress of a training run."""

    def start(self, title: str, total: int, done: int) -> None:
        """Training starts: of ``total`` targets in all epochs, ``done`` are trained already."""

    def step(self, tokens: int, epoch: int, epochs: int, perplexity: float) -> None:
        """One update on ``tokens`` targets; ``perplexity`` is the epoch's so far, per word."""

    def epoch_end(self, text: str, best_valid: float) -> None:
        """An epoch ended; ``text`` describes it.

        ``best_valid`` is the best validation perplexity so far, per word.
        """

    def line(self, text: str) -> None:
        """Show a message to the user."""


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
    """Format a duration as ``1:02:03`` or ``2:03``."""
    minutes, second = divmod(max(0, round(seconds)), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


class Output(Console):
    """A console on standard output whose reader may stop early, as ``head`` does."""

    def on_broken_pipe(self) -> None:
        """Raise the error again, so that the command ends in the same way as all others."""
        raise  # rich calls this while it handles the error


def table_console() -> Console:
    """Return a console for tables: no markup, and wide in a pipe or a file.

    A narrow terminal breaks the lines of a table itself.
    """
    console = Output(markup=False, emoji=False)
    console.width = max(console.width, NARROWEST if console.is_terminal else TABLE_WIDTH)
    return console


class ProgressView:
    """Show live bars for the current runs, as a context manager.

    A terminal that cannot move its cursor (``TERM=dumb``) gets plain lines.

    Args:
        console: the console to write to; standard error by default.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self.live: Progress | None = None
        if self.console.is_interactive:
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
        """Return a watcher for one more run."""
        return _Task(self)

    def line(self, text: str) -> None:
        """Write one line above the bars."""
        self.console.print(Text(text), soft_wrap=True)


class _Bar:
    """One task's progress: a live bar on a terminal, occasional plain lines elsewhere."""

    def __init__(
        self, view: ProgressView, title: str, total: int | None, done: int, every: float
    ) -> None:
        self.view, self.title, self.total, self.done = view, title, total, done
        self.every, self.last_line = every, time.monotonic()
        if view.live:
            self.task = view.live.add_task(title, total=total, completed=done, status="")

    def advance(self, count: int, status: str, line: str) -> None:
        """Add finished work and update the display.

        Args:
            count: amount of work.
            status: text beside the bar.
            line: text to write instead if there is no bar.
        """
        self.done += count
        if self.view.live:
            self.view.live.update(self.task, completed=self.done, status=status)
        elif time.monotonic() - self.last_line > self.every:
            self.last_line = time.monotonic()
            self.view.line(line)

    def percent(self, count: int) -> str:
        """Return the share of the total that is done after ``count`` more, in percent."""
        assert self.total is not None
        return f"{100 * (self.done + count) / self.total:3.0f}%"


class _Rate:
    """Tokens per second, weighted towards the last minutes."""

    def __init__(self) -> None:
        self.tokens = self.seconds = 0.0
        self.last = time.monotonic()

    def status(self, tokens: int, left: int) -> str:
        """Add tokens; return the rate and the estimated time for those left."""
        now = time.monotonic()
        passed, self.last = now - self.last, now
        kept = 0.5 ** (passed / HALF_LIFE)
        self.tokens = kept * self.tokens + tokens
        self.seconds = kept * self.seconds + passed
        rate = self.tokens / max(self.seconds, 1e-9)
        return f"{rate:,.0f} tokens/s  ETA {short_duration(left / rate)}"


class _Task:
    """The watcher of one run: shows tokens per second, perplexity, the best so far, and an ETA.

    The ETA includes validation.
    """

    def __init__(self, view: ProgressView) -> None:
        self.view = view
        self.best = ""

    def start(self, title: str, total: int, done: int) -> None:
        self.title, self.total = title, total
        self.bar, self.rate = _Bar(self.view, title, total, done, PLAIN_EVERY), _Rate()

    def step(self, tokens: int, epoch: int, epochs: int, perplexity: float) -> None:
        rate = self.rate.status(tokens, self.total - self.bar.done - tokens)
        status = f"epoch {epoch}/{epochs}  ppl {perplexity:.1f}{self.best}  {rate}"
        line = self._named(f"{self.bar.percent(tokens)}  {status}")
        self.bar.advance(tokens, status, line)
        if self.view.live and self.bar.done >= self.total:
            self.view.live.update(self.bar.task, visible=False)

    def epoch_end(self, text: str, best_valid: float) -> None:
        self.best = f"  best {best_valid:.2f}"
        self.bar.last_line = time.monotonic()
        self.line(text)

    def line(self, text: str) -> None:
        self.view.line(self._named(text))

    def _named(self, text: str) -> str:
        return f"{self.title:<16} {text}"


@contextmanager
def token_progress(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """Yield a function that counts tokens and shows the share done, the rate and the ETA.

    The first count is not part of the rate: an earlier process may have done that work.
    """
    rate: _Rate | None = None
    with ProgressView() as view:
        bar = _Bar(view, title, total, 0, PLAIN_EVERY)

        def advance(count: int) -> None:
            nonlocal rate
            if rate is None:
                rate = _Rate()
                bar.advance(count, "", f"{title}: {bar.percent(count)}")
                return
            status = rate.status(count, total - bar.done - count)
            bar.advance(count, status, f"{title}: {bar.percent(count)}  {status}")

        yield advance


@contextmanager
def byte_progress(
    title: str, total: int | None, done: int = 0, show: bool = True
) -> Iterator[Callable[[int], None]]:
    """Yield a function that counts bytes and shows the number done from time to time.

    Args:
        title: name of the task.
        total: bytes in all, if known.
        done: bytes done before.
        show: whether to show anything.
    """
    if not show:
        yield lambda count: None
        return
    waiting, started = 0, time.monotonic()
    with ProgressView() as view:
        bar = _Bar(view, title, total, done, BYTES_EVERY)

        def advance(count: int) -> None:
            nonlocal waiting
            waiting += count
            if waiting < BYTES_STEP:
                return
            now = bar.done + waiting
            megabytes = f"{now / 1e6:.1f}" + (f" of {total / 1e6:.1f}" if total else "") + " MB"
            status = megabytes
            if total:
                left = (time.monotonic() - started) * (total - now) / (now - done)
                status += f"  ETA {short_duration(left)}"
            bar.advance(waiting, status, f"{title}: {megabytes}")
            waiting = 0

        yield advance
