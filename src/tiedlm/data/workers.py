"""Encode blocks of lines in several processes.

Each process runs :func:`main`: it reads an encoder and then blocks of lines from its standard
input, and writes the encoded blocks to its standard output. :mod:`multiprocessing` is not used,
because it would run the caller's main script again.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import BinaryIO, TypeVar

from tiedlm.data.encoder import Block, Encoder
from tiedlm.environment_variables import of_child
from tiedlm.errors import UserError

T = TypeVar("T")


def encode_blocks(
    encoder: Encoder, blocks: Iterable[tuple[T, list[str]]], processes: int
) -> Iterator[tuple[T, Block]]:
    """Encode blocks of lines, and yield the results in the order of the blocks.

    Args:
        encoder: maps lines to ids.
        blocks: pairs. The first member can be anything, and is yielded with the result. The second
            has lines without newlines.
        processes: how many blocks are encoded at a time; with 1 this process encodes them.

    Raises:
        UserError: if a process ends before it has encoded its block.
    """
    if processes <= 1:
        for tag, lines in blocks:
            yield tag, encoder.encode_lines(lines)
        return
    with ExitStack() as stack:
        workers = [stack.enter_context(_worker(encoder)) for _ in range(processes)]
        busy: deque[tuple[T, _Worker]] = deque()
        for number, (tag, lines) in enumerate(blocks):
            worker, done = workers[number % processes], None
            if number >= processes:  # results come in the order in which blocks were sent
                done = busy[0][0], worker.receive()
                busy.popleft()
            worker.send("\n".join(lines).encode())
            busy.append((tag, worker))
            if done is not None:
                yield done
        for tag, worker in busy:
            yield tag, worker.receive()


class _Worker:
    """A process that encodes one block at a time."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def send(self, thing: object) -> None:
        assert self._process.stdin is not None
        try:
            pickle.dump(thing, self._process.stdin, protocol=pickle.HIGHEST_PROTOCOL)
            self._process.stdin.flush()
        except OSError as error:  # a broken pipe, which is an invalid argument on Windows
            raise self._ended() from error

    def receive(self) -> Block:
        """Return the next encoded block, or raise the exception of the process."""
        assert self._process.stdout is not None
        try:
            found = pickle.load(self._process.stdout)
        except (EOFError, pickle.UnpicklingError) as error:
            raise self._ended() from error
        if isinstance(found, BaseException):
            raise found
        assert isinstance(found, Block)
        return found

    def _ended(self) -> UserError:
        status = self._process.wait()
        why = signal.Signals(-status).name if status < 0 else f"status {status}"
        return UserError(
            f"a process that encodes the text ended early ({why}); if memory is short, close other "
            "programs, and try again"
        )


@contextmanager
def _worker(encoder: Encoder) -> Iterator[_Worker]:
    """Yield a process that encodes; end it afterwards."""
    path = [os.path.abspath(folder) for folder in sys.path]
    code = (
        f"import sys; sys.path = {path!r}; "
        # Ctrl-C reaches this process, too. The others must not show an error, even at their start.
        "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); "
        "from tiedlm.data.workers import main; main()"
    )
    command = [sys.executable, "-c", code]
    # The processes share the cores, so the library for pieces takes no threads of its own.
    environment = of_child(TOKENIZERS_PARALLELISM="false")
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    )
    try:
        worker = _Worker(process)
        worker.send(encoder)
        yield worker
    finally:
        for stream in (process.stdin, process.stdout):
            assert stream is not None
            with suppress(OSError):
                stream.close()
        process.kill()
        process.wait()


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Encode blocks until there are no more requests."""
    with suppress(EOFError, OSError):
        encoder: Encoder = pickle.load(requests)
        while True:
            lines = pickle.load(requests).decode().split("\n")
            answer: Block | Exception
            try:
                answer = encoder.encode_lines(lines)
            except Exception as error:  # raised again by the process that asked
                answer = error
            pickle.dump(answer, answers, protocol=pickle.HIGHEST_PROTOCOL)
            answers.flush()


def main() -> None:
    """Encode blocks for the process that started this one."""
    serve(sys.stdin.buffer, sys.stdout.buffer)
