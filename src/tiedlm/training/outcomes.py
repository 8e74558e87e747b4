"""How a run ends: finished, stopped, out of time or diverged."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiedlm.training.run_files import has_checkpoint
from tiedlm.training.settings import Settings

if TYPE_CHECKING:
    from tiedlm.training.checkpoint import Progress  # PyTorch


class Stopped(Exception):
    """The run was asked to stop; everything is saved and it can go on."""


class OutOfTime(Stopped):
    """The run was stopped because its time was over, not by a signal."""


class Diverged(Exception):
    """The loss or the gradient is not finite; the last good checkpoint is kept.

    Args:
        message: what happened.
        out: the run folder.
    """

    def __init__(self, message: str, out: Path) -> None:
        super().__init__(message, out)
        self.out = out

    def __str__(self) -> str:
        return str(self.args[0])


def stopped(out: Path, where: str) -> Stopped:
    """Return the exception of a run that was saved and stopped."""
    return Stopped(
        f"stopped {where}; everything is saved in {out}: the same command continues from there"
    )


def diverged(out: Path, epoch: int, what: str) -> Diverged:
    """Return the exception for a run whose loss or gradient is no longer finite."""
    kept = (
        f"the last good checkpoint in {out} is kept" if has_checkpoint(out) else "nothing is saved"
    )
    return Diverged(
        f"epoch {epoch}, {what}; {kept}; try a lower --lr or --clip, in another --out", out
    )


def check_finite(out: Path, epoch: int, text: str, ppl: float) -> None:
    """Refuse a perplexity that exceeds any number.

    Raises:
        Diverged: naming the epoch and the text.
    """
    if not math.isfinite(ppl):
        raise diverged(out, epoch, f"{text} perplexity is {ppl}")


def is_over(settings: Settings, progress: Progress) -> bool:
    """Tell whether a run has no epoch left, or its patience is exhausted."""
    waited = progress.epoch - 1 - progress.best_epoch
    return progress.epoch > settings.epochs or (
        settings.patience is not None and progress.epoch > 1 and waited >= settings.patience
    )


def result_of(
    settings: Settings,
    progress: Progress,
    perplexities: Mapping[str, float],
    epoch_tokens: int,
    parameters: int,
) -> dict[str, Any]:
    """Return the content of ``result.json``.

    Args:
        settings: of the run.
        progress: at its end.
        perplexities: of the best model, ``valid_ppl`` and ``test_ppl``; of a run of pieces, also
            per word and in bits per byte.
        epoch_tokens: targets of an epoch.
        parameters: the model's distinct parameters.
    """
    return {
        "recipe": settings.recipe,
        "seed": settings.seed,
        **perplexities,
        "tokens": epoch_tokens * len(progress.history),
        "parameters": parameters,
        "epochs": len(progress.history),
        "best_epoch": progress.best_epoch,
        "seconds": progress.seconds,
    }
