"""Call a library that ignores Ctrl-C, and let Ctrl-C end the wait for it at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from threading import Thread
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

PATIENCE = 1.0  # seconds that a thread is given to stop reading


def interruptible(work: Callable[[Iterator[T]], R], items: Iterable[T]) -> R:
    """Return ``work(items)``, computed in a thread of its own.

    Python handles Ctrl-C in its main thread only, and not while that thread runs compiled code.
    After Ctrl-C, ``work`` is given no further items. Its thread ends when ``work`` returns, or with
    the process.

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
            thread.join(0.1)  # without a time limit, Windows would not interrupt the wait
        return done.result()
    except KeyboardInterrupt:
        is_over = True
        if thread.is_alive():  # a thread that runs Python while the process ends can crash it
            thread.join(PATIENCE)
        raise
