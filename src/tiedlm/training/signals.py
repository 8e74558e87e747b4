"""Let SIGINT and SIGTERM ask a run to stop."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """Give a function that tells whether SIGINT or SIGTERM has arrived."""
    requested = False

    def request(number: int, frame: FrameType | None) -> None:
        nonlocal requested
        requested = True

    numbers = (signal.SIGINT, signal.SIGTERM)
    try:
        old = [signal.signal(number, request) for number in numbers]
    except ValueError:  # not in the main thread: signals go where they went before
        yield lambda: False
        return
    try:
        yield lambda: requested
    finally:
        for number, handler in zip(numbers, old, strict=True):
            signal.signal(number, handler)
