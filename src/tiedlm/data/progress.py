"""A progress bar in bytes, on a terminal only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

_STEP = 1 << 18  # bytes between two updates


@contextmanager
def byte_progress(
    title: str, total: int | None, done: int = 0, show: bool = True
) -> Iterator[Callable[[int], None]]:
    """Give a function that counts bytes; a bar shows them if standard error is a terminal."""
    from rich.console import Console

    console = Console(stderr=True)
    if not (show and console.is_terminal):
        yield lambda count: None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bar:
        task = bar.add_task(title, total=total, completed=done)
        waiting = 0

        def advance(count: int) -> None:
            nonlocal waiting
            waiting += count
            if waiting >= _STEP:
                bar.update(task, advance=waiting)
                waiting = 0

        yield advance
