"""The view "Training": the curves of runs, also while they are being trained."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from tiedlm.errors import UserError
from tiedlm.training.run_files import (
    CONFIG,
    METRICS,
    RESULT,
    read_config,
    read_metrics,
    read_result,
)
from tiedlm.web.asked import Asked
from tiedlm.web.runs import Run, stamp_of
from tiedlm.web.views import Answer

KEYS = ("epoch", "train_ppl", "valid_ppl", "lr", "tokens_per_second", "aug")
STALE = 30 * 60  # seconds without a new epoch after which a run no longer counts as running


def answer(runs: Sequence[Run], asked: Asked) -> Answer:
    """Return the curve and the state of each run; a model is not needed."""
    found = []
    for run in runs:
        try:
            found.append({"name": run.name, **_of_run(run)})
        except UserError as error:
            found.append({"name": run.name, "error": str(error)})
    return {"runs": found}


def _of_run(run: Run) -> Answer:
    if not (run.folder / CONFIG).is_file():
        raise UserError(f"{run.folder} is gone, or is not a run folder any more")
    settings = read_config(run.folder)["settings"]
    lines = [{key: _number(line, key) for key in KEYS} for line in read_metrics(run.folder)]
    values = [line["valid_ppl"] for line in lines if line["valid_ppl"] is not None]
    best = min(values, default=None)
    result = read_result(run.folder) if (run.folder / RESULT).is_file() else None
    return {
        "curve": lines, "epochs": _number(settings, "epochs"), "best": best,
        "best_epoch": next((n["epoch"] for n in lines if n["valid_ppl"] == best), None),
        "test": None if result is None else _number(result, "test_ppl"),
        "state": "finished" if result is not None else _state(run),
    }  # fmt: skip


def _state(run: Run) -> str:
    """Return "running" if an epoch ended not long ago, else "stopped".

    Before the first epoch has ended it is "waiting". Weights that were imported, or kept from a
    training, have "no curve".
    """
    try:
        age = time.time() - (run.folder / METRICS).stat().st_mtime
    except OSError:
        return "waiting" if stamp_of(run.folder) is None else "no curve"
    return "running" if age < STALE else "stopped"


def _number(values: Mapping[str, Any], key: str) -> float | None:
    """Return a finite number, else None: a run folder from elsewhere may hold anything."""
    value = values.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if abs(value) < 1e300 and math.isfinite(value) else None
