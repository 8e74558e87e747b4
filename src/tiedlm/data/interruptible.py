"""Wait for a library that does not hear Ctrl-C, so that Ctrl-C ends the wait at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from threading import Thread
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

PATIENCE = 1.0  # seconds in which a thread may still read what it has begun to read


def interruptible(work: Callable[[Iterator[T]], R], items: Iterable[T]) -> R:
    """Return ``work(items)``, computed in a thread of its own.

    Python hears Ctrl-C in its main thread, and only between its own instructions. After Ctrl-C,
    ``items`` end. The thread then ends with ``work``, or with the process.

    Args:
        work: the call of the library. Its exceptions are raised here.
        items: what it reads.
    """
    done: Future[R] = Future()
    is_over = False

    def read() -> Iterator[T]:
        for item in items:
            if is_over:
                return
            yield item

    def run() -> None:
        try:
            done.set_result(work(read()))
        except BaseException as error:
            done.set_exception(error)

    thread = Thread(target=run, daemon=True)
    try:
        thread.start()
        while thread.is_alive():
            thread.join(0.1)  # a wait without end does not hear Ctrl-C on Windows
        return done.result()
    except KeyboardInterrupt:
        is_over = True
        if thread.is_alive():  # one that runs Python as the process ends may crash it
            thread.join(PATIENCE)
        raise
