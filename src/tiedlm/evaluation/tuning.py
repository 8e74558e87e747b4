r"""Fit the settings of the evaluation methods on a validation text.

The methods are fitted in the order in which they are applied: dynamic evaluation, temperature,
cache. Each is fitted with the earlier ones switched on. Every trial is logged, and a trial in the
log is not run again. So an interrupted search continues.

* Dynamic evaluation: the learning rate is doubled or halved as long as that helps, then the decay
  (rule "rms" only), and then the learning rate is changed by a factor of sqrt 2.
* Temperature: the loss at ten temperatures, computed in one pass, and the minimum of the parabola
  through the best three.
* Cache: 100, 500 and 2,000 words and twelve values of theta, computed in one pass. Theta is scaled
  by the mean square of the hidden states. Lambda is fitted for each by expectation maximisation.
  A setting that is given is kept, and the others are the best with it.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tiedlm.errors import UserError
from tiedlm.evaluation.cache import Cache
from tiedlm.evaluation.dynamic import Diverged, Dynamic, scaled
from tiedlm.evaluation.methods import Look, Part, read_losses
from tiedlm.evaluation.mixture import fit_weights, mixture_losses
from tiedlm.evaluation.perplexity import perplexity
from tiedlm.evaluation.segments import read_block
from tiedlm.evaluation.temperature import GRID, best_temperature
from tiedlm.evaluation.unfinished import Unfinished, text_digest
from tiedlm.files import explain, write_bytes
from tiedlm.json_text import parse_json
from tiedlm.model import LanguageModel

CACHE_WORDS = (100, 500, 2000)
# The values of theta to try, times the mean squared norm of the hidden states.
EXPONENTS = (0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 11.0, 16.0, 23.0, 32.0, 64.0)
MOST_STEPS = 8  # of a search in one direction
# The numbers that a search reads in the outcome of its trials.
NUMBERS = {
    "dynamic": ("loss",),
    "temperature": ("temperature", "loss"),
    "cache": ("words", "theta", "weight", "loss"),
}


class TrialLog:
    """The trials of all searches, one line of JSON each.

    Args:
        path: the file, read at the start and appended to; None keeps the trials in memory alone.
        keeps: whether the file is written; if not, new trials are kept in memory alone.

    Raises:
        UserError: if a line of the file is not a trial and its outcome.
    """

    def __init__(self, path: Path | None = None, *, keeps: bool = True) -> None:
        self.path = path if keeps else None
        self.lines: list[dict[str, Any]] = []
        if path is not None and path.is_file():
            data = path.read_bytes()
            complete = data[: data.rfind(b"\n") + 1]  # the writer may have been killed
            self.lines = [_trial_line(line, path) for line in complete.splitlines()]
            if keeps and complete != data:
                write_bytes(path, complete)

    def find(self, trial: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the outcome of a trial; None if it has not been run."""
        wanted = json.loads(json.dumps(trial))
        found = (line["outcome"] for line in reversed(self.lines) if line["trial"] == wanted)
        return next(found, None)

    def add(self, trial: Mapping[str, Any], outcome: Mapping[str, Any]) -> None:
        """Append a trial and its outcome.

        Raises:
            UserError: if the file cannot be written.
        """
        line = json.dumps({"trial": trial, "outcome": outcome}, ensure_ascii=False)
        self.lines.append(json.loads(line))
        if self.path is None:
            return
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
        except OSError as error:
            raise explain(error, self.path) from error


def _trial_line(line: bytes, path: Path) -> dict[str, Any]:
    """Return a trial and its outcome, from a line of the log."""
    try:
        found = parse_json(line.decode(), str(path))
    except UnicodeDecodeError:
        found = None
    if not _is_trial(found):
        raise UserError(f"{path} is damaged; delete it, and its trials are run again")
    return cast(dict[str, Any], found)


def _is_trial(line: object) -> bool:
    """Tell whether a line has a trial and the numbers of its outcome."""
    if not isinstance(line, dict):
        return False
    trial, outcome = line.get("trial"), line.get("outcome")
    if not isinstance(trial, dict) or not isinstance(outcome, dict):
        return False
    if outcome.get("diverged"):
        return outcome.get("loss", 0) is None
    if trial.get("method") == "mixture":
        numbers = outcome.get("weights")
    else:
        numbers = [outcome.get(name) for name in NUMBERS.get(str(trial.get("method")), ())]
    return isinstance(numbers, list) and all(isinstance(one, int | float) for one in numbers)


def no_progress(title: str, total: int) -> Callable[[int], None]:
    """Return a counter of words that shows nothing."""
    return lambda count: None


def _save_nothing(key: Mapping[str, Any]) -> Unfinished | None:
    return None


@dataclass
class Tuner:
    """Fits settings for one model on one text.

    Args:
        model: the model; it never changes.
        ids: ``(N,)`` word ids of the validation text, never of the test text.
        log: receives every trial.
        identity: names the model in the log: the digest of its weights.
        rms: as in :func:`tiedlm.evaluation.methods.method_losses`.
        progress: takes a title and a number of words, and returns a function that counts words.
        unfinished: takes what identifies a trial, and returns where its progress is saved, or None.
    """

    model: LanguageModel
    ids: npt.NDArray[np.integer]
    log: TrialLog = field(default_factory=TrialLog)
    identity: str = ""
    rms: Mapping[str, Tensor] | None = None
    progress: Callable[[str, int], Callable[[int], None]] = no_progress
    unfinished: Callable[[Mapping[str, Any]], Unfinished | None] = _save_nothing

    def __post_init__(self) -> None:
        self._text = {
            "model": self.identity,
            "text": text_digest(self.ids)[:16],
            "words": len(self.ids) - 1,
        }

    def dynamic(self, start: Dynamic, *, given: Sequence[str] = ()) -> tuple[Dynamic, float]:
        """Return the best settings of dynamic evaluation, and their mean loss.

        Args:
            start: the first settings to try; the rule, epsilon and the segment are kept.
            given: names of further settings to keep.
        """
        loss, best = self._dynamic_loss, start
        if "lr" not in given:
            best = _climb(loss, best, lambda s, factor: scaled(s, lr=factor), 2.0)
        if "decay" not in given and start.decay:
            best = _climb(loss, best, lambda s, factor: scaled(s, decay=factor), 2.0)
        if "lr" not in given:
            near = [scaled(best, lr=factor) for factor in (2**-0.5, 2**0.5)]
            best = min([best, *near], key=loss)
        return best, loss(best)

    def _dynamic_loss(self, settings: Dynamic) -> float:
        """Return the mean loss with these settings; infinity if the adaptation diverges."""
        trial = self._text | {"method": "dynamic", "dynamic": dataclasses.asdict(settings)}
        title = f"lr {settings.lr:g}, decay {settings.decay:g}"

        def run() -> dict[str, Any]:
            try:
                losses = self._read(trial, title, Look(settings), lambda part: part.nll_GT)
            except Diverged:
                return {"diverged": True, "loss": None, "perplexity": None}
            return _mean_loss(losses[0])

        found = self._trial(trial, run)
        return math.inf if found["loss"] is None else float(found["loss"])

    def temperature(self, dynamic: Dynamic | None = None) -> tuple[float, float]:
        """Return the best temperature, and its mean loss.

        Args:
            dynamic: how the weights adapt, if they do.
        """
        trial = self._text | {"method": "temperature", **_dynamic_key(dynamic), "grid": list(GRID)}

        def run() -> dict[str, Any]:
            look = Look(dynamic, GRID)
            losses_GN = self._read(trial, "temperature", look, lambda part: part.nll_GT)
            return temperature_outcome(losses_GN)

        found = self._trial(trial, run)
        return float(found["temperature"]), float(found["loss"])

    def cache(
        self,
        dynamic: Dynamic | None = None,
        temperature: float = 1.0,
        *,
        words: int | None = None,
        theta: float | None = None,
        weight: float | None = None,
    ) -> tuple[Cache, float]:
        """Return the best settings of a cache, and their mean loss.

        Args:
            dynamic: how the weights adapt, if they do.
            temperature: of the model's probabilities.
            words: the number of words; None tries several.
            theta: theta; None tries several values.
            weight: lambda; None fits it for each number of words and each theta.

        Raises:
            ValueError: if the cache is longer than the text.
        """
        lengths = [n for n in CACHE_WORDS if n < len(self.ids)] if words is None else [words]
        if not lengths or max(lengths) >= len(self.ids):
            raise ValueError(
                f"words: expected a cache below the {len(self.ids)} words of the text, got "
                f"{words or CACHE_WORDS[0]}"
            )
        trial = self._text | {
            "method": "cache", **_dynamic_key(dynamic), "temperature": temperature,
            "cache_words": lengths, "theta": theta,
        }  # fmt: skip
        if weight is not None:
            trial["weight"] = weight

        def run() -> dict[str, Any]:
            thetas = self._thetas() if theta is None else (theta,)
            look = Look(dynamic, (temperature,), tuple((n, thetas) for n in lengths))
            rows = self._read(trial, "cache", look, _with_caches)
            tried = [
                _cache_outcome(rows[0], row, n, value, weight)
                for row, (n, value) in zip(
                    rows[1:], ((n, value) for n in lengths for value in thetas), strict=True
                )
            ]
            return {**min(tried, key=lambda one: float(one["loss"])), "tried": tried}

        found = self._trial(trial, run)
        cache = Cache(words=found["words"], theta=found["theta"], weight=found["weight"])
        return cache, float(found["loss"])

    def _thetas(self) -> tuple[float, ...]:
        """Return the values of theta to try, on the scale of the model's hidden states."""
        hidden_NH = read_block(self.model, self.ids[:2049], 0, None).hidden_NH
        square = float(hidden_NH.square().sum(dim=1).mean())
        return tuple(float(f"{exponent / square:.3g}") for exponent in EXPONENTS)

    def _read(
        self,
        trial: Mapping[str, Any],
        title: str,
        look: Look,
        combine: Callable[[Part], Tensor],
    ) -> npt.NDArray[np.float32]:
        """Read the text once for a trial; see :func:`tiedlm.evaluation.methods.read_losses`."""
        return read_losses(
            self.model,
            self.ids,
            look,
            combine,
            rms=self.rms,
            unfinished=self.unfinished(trial),
            on_tokens=self.progress(f"tune: {title}", len(self.ids) - 1),
        )

    def _trial(self, trial: Mapping[str, Any], run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return the outcome of a trial: from the log, or by running it."""
        found = self.log.find(trial)
        if found is None:
            start = time.perf_counter()
            found = run()
            found["seconds"] = round(time.perf_counter() - start, 2)
            self.log.add(trial, found)
        return found


def temperature_outcome(losses_GN: npt.NDArray[np.floating]) -> dict[str, Any]:
    """Return the best temperature, its loss, and the perplexity at each temperature of ``GRID``.

    Args:
        losses_GN: the losses of N words at each temperature of ``GRID``, in nats.
    """
    best, loss = best_temperature(GRID, losses_GN)
    tried = [_mean_loss(losses_N)["perplexity"] for losses_N in losses_GN]
    return {"temperature": best, "loss": loss, "perplexity": perplexity(loss, 1), "tried": tried}


def _cache_outcome(
    nll_N: npt.NDArray[np.float32],
    log_cache_N: npt.NDArray[np.float32],
    words: int,
    theta: float,
    weight: float | None,
) -> dict[str, Any]:
    """Fit lambda unless it is given; return the settings and their loss."""
    losses_2N = np.stack([nll_N, -log_cache_N])
    if weight is None:
        weight = min(round(float(fit_weights(losses_2N)[1]), 4), 0.9999)
    losses_N = mixture_losses(losses_2N, [1 - weight, weight])
    return {"words": words, "theta": theta, "weight": weight, **_mean_loss(losses_N)}


def _with_caches(part: Part) -> Tensor:
    """Return the model's losses, then each cache's log-probabilities: one row for each theta."""
    return torch.cat([part.nll_GT, *part.log_caches])


def _mean_loss(losses_N: npt.NDArray[np.floating]) -> dict[str, Any]:
    """Return the mean loss and its perplexity, as an outcome has them."""
    total = float(losses_N.sum(dtype=np.float64))
    return {"loss": total / len(losses_N), "perplexity": perplexity(total, len(losses_N))}


def _dynamic_key(dynamic: Dynamic | None) -> dict[str, Any]:
    return {"dynamic": None if dynamic is None else dataclasses.asdict(dynamic)}


def _climb(
    loss: Callable[[Dynamic], float],
    start: Dynamic,
    change: Callable[[Dynamic, float], Dynamic],
    factor: float,
) -> Dynamic:
    """Change a setting by a factor, up or down, as long as the loss falls.

    If the start diverges, the setting is first divided by 8 until it does not.
    """
    best = start
    for _ in range(MOST_STEPS):
        if not math.isinf(loss(best)):
            break
        best = change(best, 1 / 8)
    steps = 0
    for direction in (factor, 1 / factor):
        while steps < MOST_STEPS and loss(after := change(best, direction)) < loss(best):
            best, steps = after, steps + 1
        if steps:
            break
    return best
