"""Bytes done, as a bar on a terminal and as a plain line now and then anywhere else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_STEP = 1 << 18  # bytes between two updates
_PLAIN_EVERY = 10.0  # seconds between two plain lines


@contextmanager
def byte_progress(
    title: str, total: int | None, done: int = 0, show: bool = True
) -> Iterator[Callable[[int], None]]:
    """Give a function that counts bytes and now and then shows how many there are.

    Args:
        title: what is being done.
        total: bytes in all, if that is known.
        done: bytes that were there before.
        show: False shows nothing.
    """
    if not show:
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn())
    bar = Progress(*columns, TimeRemainingColumn(), console=console, transient=True)
    task = bar.add_task(title, total=total, completed=done)
    waiting = 0
    last_line = time.monotonic()

    def advance(count: int) -> None:
        nonlocal waiting, last_line
        waiting += count
        if waiting < _STEP:
            return
        bar.update(task, advance=waiting)
        waiting = 0
        if not console.is_terminal and time.monotonic() - last_line > _PLAIN_EVERY:
            last_line = time.monotonic()
            of_total = f" of {total / 1e6:.1f}" if total else ""
            console.print(f"{title}: {bar.tasks[0].completed / 1e6:.1f}{of_total} MB")

    if console.is_terminal:
        with bar:
            yield advance
    else:
        yield advance
