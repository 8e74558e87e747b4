"""Let SIGINT and SIGTERM ask a run to stop."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """Give a function that tells whether SIGINT or SIGTERM has arrived.

    A signal that a program around Python handles, such as R, goes where it went before. So do both
    outside the main thread.
    """
    requested = False

    def request(number: int, frame: FrameType | None) -> None:
        nonlocal requested
        requested = True

    old = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    taken = [number for number, handler in old.items() if handler is not None]
    try:
        for number in taken:
            signal.signal(number, request)
    except ValueError:  # not in the main thread
        yield lambda: False
        return
    try:
        yield lambda: requested
    finally:
        for number in taken:
            signal.signal(number, old[number])
