"""Answer requests one after another, and drop those that a newer request of the page replaces.

One thread computes all answers, so that they do not slow each other down. If a page sends requests
faster than they are answered, a request that has not begun is dropped when the next one comes. So
the page waits for one earlier answer at most.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Executor
from typing import TypeVar

T = TypeVar("T")

_END = object()


class Superseded(Exception):
    """A newer request of the same page has arrived."""


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
        """Run ``work`` when its turn comes, and return its result.

        Args:
            asker: the page that asks; a newer call with the same asker replaces this one.
            work: runs in the thread.

        Raises:
            Superseded: if it was replaced before it began.
        """
        ticket = self._newest[asker] = object()
        try:
            return await self._run(asker, ticket, work)
        finally:
            self._forget(asker, ticket)

    async def stream(self, asker: str, work: Callable[[], Iterator[T]]) -> AsyncIterator[T]:
        """Run an iterator step by step, and yield its values; other work may come in between.

        It ends early if a newer call replaces it.
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
