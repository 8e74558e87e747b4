"""Train several models at once, each in a process of its own.

Small recurrent models do not fill several cores: their products are small and their steps wait
for each other. Two models on one thread each are done sooner than one after the other on two.
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

_SEND_EVERY = 0.2  # seconds between two reports of a model's steps


@dataclass(frozen=True)
class Job:
    """One model to train.

    Args:
        settings: complete.
        out: its run folder.
        after: the run folder of another job that must have ended before this one begins.
    """

    settings: Settings
    out: Path
    after: Path | None = None


def train_all(
    jobs: Sequence[Job], at_once: int, view: ProgressView, seconds: float = math.inf
) -> list[dict[str, Any]]:
    """Train models, some at once; each goes on where an earlier call stopped.

    Args:
        jobs: the models, in the order in which they begin.
        at_once: how many processes.
        view: shows their progress.
        seconds: after so many every run is saved and stopped.

    Returns:
        What each run's ``result.json`` holds, in the order of ``jobs``.

    Raises:
        UserError: what a run raised.
        Stopped: after SIGINT or SIGTERM, when every run has saved.
        OutOfTime: after so many seconds, likewise.
        Diverged: what a run raised; the others have saved.
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

    corpus = job.settings.load_corpus(progress=False)
    watcher = _Remote(channel)
    return train(
        job.settings, corpus, job.out, watcher=watcher, stop_requested=channel.stop_requested
    )


class _Remote:
    """A watcher that reports to the parent process."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.tokens = 0
        self.sent = time.monotonic()

    def start(self, title: str, total: int, done: int) -> None:
        self.channel.send("start", title, total, done)

    def step(self, tokens: int, epoch: int, epochs: int, perplexity: float) -> None:
        self.tokens += tokens
        if time.monotonic() - self.sent > _SEND_EVERY:
            self.channel.send("step", self.tokens, epoch, epochs, perplexity)
            self.tokens, self.sent = 0, time.monotonic()

    def epoch_end(self, text: str, best_valid: float) -> None:
        self.channel.send("epoch_end", text, best_valid)

    def line(self, text: str) -> None:
        self.channel.send("line", text)
