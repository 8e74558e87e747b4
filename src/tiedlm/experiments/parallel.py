"""Train several models in parallel, each in its own process.

A small recurrent model cannot use several cores well: its matrix products are small, and each step
waits for the step before. So two models side by side, on one thread each, finish sooner than two
models one after the other, on two threads.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiedlm.experiments.supervisor import Channel, Work, supervise
from tiedlm.progress import ProgressView
from tiedlm.training.run_files import RESULT
from tiedlm.training.settings import Settings

_SEND_EVERY = 0.2  # seconds between progress reports


@dataclass(frozen=True)
class Job:
    """One model to train.

    Args:
        settings: the complete settings.
        out: the run folder.
        after: the run folder of another job, which must finish before this one begins.
    """

    settings: Settings
    out: Path
    after: Path | None = None


def train_all(
    jobs: Sequence[Job], at_once: int, view: ProgressView, seconds: float = math.inf
) -> list[dict[str, Any]]:
    """Train models in parallel, resuming runs that an earlier call stopped.

    Args:
        jobs: the models, in the order in which they begin.
        at_once: number of processes.
        view: shows the progress.
        seconds: time limit, after which every run saves and stops.

    Returns:
        The contents of each ``result.json``, in the order of ``jobs``.

    Raises:
        UserError: if a run raised it.
        Stopped: after SIGINT or SIGTERM, once every run has saved.
        OutOfTime: after the time limit, once every run has saved.
        Diverged: if a run diverged; the others have saved.
        ChildDied: if a run's process was killed; the others have saved.
    """
    watchers = [view.watcher() for _ in jobs]
    results: dict[int, dict[str, Any]] = {}
    work = Work(
        run=_train,
        on_result=results.__setitem__,
        on_report=lambda number, kind, values: getattr(watchers[number], kind)(*values),
        may_begin=_may_begin,
        name=lambda job: str(job.out),
    )
    supervise(jobs, work, at_once, seconds)
    return [results[number] for number in range(len(jobs))]


def _may_begin(job: Job) -> bool:
    return job.after is None or (job.after / RESULT).is_file()


def _train(job: Job, channel: Channel) -> dict[str, Any]:
    """Train one model in a child process."""
    from tiedlm.training.loop import train

    corpus = job.settings.load_corpus(progress=False, run=job.out)
    watcher = _Remote(channel)
    return train(job.settings, corpus, job.out, watcher=watcher, should_stop=channel.should_stop)


class _Remote:
    """A watcher that forwards progress to the parent process."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.tokens = 0
        self.sent = time.monotonic()

    def start(self, title: str, total: int, done: int) -> None:
        self.channel.send("start", title, total, done)

    def step(self, tokens: int, epoch: int, epochs: int, perplexity: float) -> None:
        self.tokens += tokens
        self.latest = (epoch, epochs, perplexity)
        if time.monotonic() - self.sent > _SEND_EVERY:
            self._send_steps()

    def epoch_end(self, text: str, best_valid: float) -> None:
        if self.tokens:  # so that the bar reaches its end
            self._send_steps()
        self.channel.send("epoch_end", text, best_valid)

    def _send_steps(self) -> None:
        """Report the targets since the last report."""
        self.channel.send("step", self.tokens, *self.latest)
        self.tokens, self.sent = 0, time.monotonic()

    def line(self, text: str) -> None:
        self.channel.send("line", text)
