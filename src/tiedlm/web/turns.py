"""Give each question its turn, and drop those that a newer one of the same page has overtaken.

One thread computes, so that answers do not slow each other down. A page that asks faster than that
never waits for more than one answer: what has not begun when the next question comes is dropped.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Executor
from typing import TypeVar

T = TypeVar("T")

_END = object()


class Superseded(Exception):
    """A newer question of the same page has come."""


class Turns:
    """Run work in a thread, one piece after the other.

    Args:
        executor: the thread.
    """

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._lock = asyncio.Lock()
        self._newest: dict[str, object] = {}

    async def take(self, asker: str, work: Callable[[], T]) -> T:
        """Return what ``work`` returns, when its turn comes.

        Args:
            asker: who asks; a newer call by the same asker overtakes this one.
            work: runs in the thread.

        Raises:
            Superseded: if it was overtaken before it began.
        """
        ticket = self._newest[asker] = object()
        try:
            return await self._run(asker, ticket, work)
        finally:
            self._forget(asker, ticket)

    async def stream(self, asker: str, work: Callable[[], Iterator[T]]) -> AsyncIterator[T]:
        """Yield what ``work`` yields; other work may come between two steps.

        It ends early when it is overtaken.
        """
        ticket = self._newest[asker] = object()
        steps: Iterator[T] | None = None

        def step() -> T | object:
            nonlocal steps
            steps = work() if steps is None else steps
            return next(steps, _END)

        try:
            while (found := await self._run(asker, ticket, step)) is not _END:
                yield found  # type: ignore[misc]
        except Superseded:
            return
        finally:
            self._forget(asker, ticket)

    async def _run(self, asker: str, ticket: object, work: Callable[[], T]) -> T:
        async with self._lock:
            if self._newest.get(asker) is not ticket:
                raise Superseded
            return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    def _forget(self, asker: str, ticket: object) -> None:
        if self._newest.get(asker) is ticket:
            del self._newest[asker]
