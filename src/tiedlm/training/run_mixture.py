"""Fit the weights of a mixture of runs on the validation text of the first one."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from tiedlm.evaluation.mixture import fit_weights
from tiedlm.evaluation.perplexity import perplexity
from tiedlm.evaluation.unfinished import read_passes, text_digest
from tiedlm.training.evaluated import Evaluated
from tiedlm.training.method_request import FITTED, Request, Resolved
from tiedlm.training.method_settings import FIT_WORDS
from tiedlm.training.tuned import LOG


def mixture_weights(
    runs: Sequence[Evaluated],
    requests: Sequence[Request],
    resolved: Sequence[Resolved],
    *,
    tune: bool = False,
    words: int | None = None,
) -> tuple[list[float], str]:
    """Return the weights of a mixture of runs, and where they come from.

    They are fitted on the validation text of the first run, and kept in its folder. Weights kept
    earlier are returned.

    Args:
        runs: the runs.
        requests: the requested methods, one request for each run.
        resolved: the settings of the methods, for each run.
        tune: fit the weights even if some were kept earlier.
        words: how many words of validation to use; by default 250,000.
    """
    first = runs[0]
    members = [
        [run.digest, request.key(), dataclasses.asdict(one.methods)]
        for run, request, one in zip(runs, requests, resolved, strict=True)
    ]
    key = "mixture " + "+".join(run.digest[:12] for run in runs)
    key += f" {requests[0].key()}".rstrip()
    entry = first.tuned.get(key)
    if entry is not None and entry.get("members") == members and not tune:
        return first.tuned.value(entry, "weights", lambda found: _weights(found, len(runs))), FITTED
    ids = first.validation(words or FIT_WORDS, "--mix")
    trial = {"method": "mixture", "members": members, "text": text_digest(ids)[:16]}
    found = first.log.find(trial)
    if found is None:
        passes = [
            run.as_pass(ids, request, one.methods, f"validation, run {number} of {len(runs)}")
            for number, (run, request, one) in enumerate(
                zip(runs, requests, resolved, strict=True), start=1
            )
        ]
        losses_KN = np.stack(read_passes(passes))
        fitted = [round(float(one), 4) for one in fit_weights(losses_KN)]
        found = {
            "weights": [one / sum(fitted) for one in fitted],
            "perplexities": [perplexity(float(row.mean(dtype=np.float64)), 1) for row in losses_KN],
        }
        first.log.add(trial, found)
    names = [str(run.folder) for run in runs]
    entry = {"weights": found["weights"], "members": members, "runs": names, "log": LOG}
    first.keep_fit(key, entry)
    return list(found["weights"]), FITTED


def _weights(found: list[float], count: int) -> list[float]:
    """Return the weights of ``count`` runs that a file has.

    Raises:
        ValueError: if they are not the weights of so many runs.
    """
    if len(found) != count or min(found) < 0 or not math.isclose(sum(found), 1, rel_tol=1e-6):
        raise ValueError
    return list(found)
