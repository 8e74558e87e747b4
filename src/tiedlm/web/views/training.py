"""The view "Training": the curves of runs, also while they are being trained."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from tiedlm.errors import UserError
from tiedlm.evaluation.perplexity import perplexity
from tiedlm.training.run_files import (
    CONFIG,
    METRICS,
    RESULT,
    predicted_text,
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
    """Return the curve and the state of each run; a model is not needed.

    Runs whose perplexities can be compared have the same number as their ``text``.
    """
    found: list[Answer] = []
    texts: list[Any] = []
    for run in runs:
        try:
            one = {"name": run.name, **_of_run(run)}
        except UserError as error:
            one = {"name": run.name, "error": str(error)}
        else:
            if one["text"] not in texts:
                texts.append(one["text"])
            one["text"] = texts.index(one["text"])
        found.append(one)
    return {"runs": found}


def _of_run(run: Run) -> Answer:
    if not (run.folder / CONFIG).is_file():
        raise UserError(f"{run.folder} is gone, or is not a run folder any more")
    config = read_config(run.folder)
    per_word = _pieces_of_a_word(config.get("corpus"))
    lines = [_line(line, per_word) for line in read_metrics(run.folder)]
    values = [line["valid_ppl"] for line in lines if line["valid_ppl"] is not None]
    best = min(values, default=None)
    result = read_result(run.folder) if (run.folder / RESULT).is_file() else None
    return {
        "curve": lines, "epochs": _number(config["settings"], "epochs"), "best": best,
        "best_epoch": next((n["epoch"] for n in lines if n["valid_ppl"] == best), None),
        "test": None if result is None else _per_word(result, "test_word_perplexity", "test_ppl"),
        "state": "finished" if result is not None else _state(run),
        "text": predicted_text(config, run.folder), "per_word": per_word is not None,
    }  # fmt: skip


def _pieces_of_a_word(corpus: Any) -> float | None:
    """Return how many pieces a word of the training text has; None for a run of words."""
    if not isinstance(corpus, dict) or "pieces" not in corpus:
        return None
    parts = corpus.get("parts")
    counts = parts.get("train") if isinstance(parts, dict) else None
    if not isinstance(counts, dict):
        return None
    pieces, words = (_number(counts, key) for key in ("tokens", "words"))
    return pieces / words if pieces and words else None


def _line(line: Mapping[str, Any], per_word: float | None) -> dict[str, float | None]:
    """Return the numbers of an epoch, those of a run of pieces per word."""
    found = {key: _number(line, key) for key in KEYS}
    if per_word is not None:
        found["valid_ppl"] = _per_word(line, "word_perplexity", "valid_ppl")
        trained, speed = found["train_ppl"], found["tokens_per_second"]
        nll = math.log(trained) * per_word if trained and trained > 0 else math.inf
        found["train_ppl"] = _number({"ppl": perplexity(nll, 1)}, "ppl")
        found["tokens_per_second"] = speed / per_word if speed is not None else None
    return found


def _per_word(values: Mapping[str, Any], key: str, per_token: str) -> float | None:
    return _number(values, key if key in values else per_token)


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
