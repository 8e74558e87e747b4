"""Find or fit the settings of the methods that a run is evaluated with.

The settings of each method come from the first of these places that has them:

1. the values that were given,
2. ``tuned.json`` in the run folder, for exactly this combination of methods and given settings,
3. ``tuned.json``, for the method alone with its given settings,
4. the published defaults.

With ``--temperature fit`` the temperature is fitted when it is needed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tiedlm.errors import UserError
from tiedlm.evaluation.cache import Cache
from tiedlm.evaluation.dynamic import Dynamic, defaults
from tiedlm.evaluation.methods import Methods
from tiedlm.evaluation.perplexity import perplexity
from tiedlm.evaluation.temperature import GRID
from tiedlm.evaluation.tuning import CACHE_WORDS, Tuner, temperature_outcome
from tiedlm.evaluation.unfinished import read_passes, text_digest
from tiedlm.training.evaluated import Evaluated
from tiedlm.training.method_request import (
    ALONE,
    FITTED,
    GIVEN,
    OURS,
    PUBLISHED,
    Request,
    Resolved,
)
from tiedlm.training.tuned import LOG

FIT_WORDS = 250_000  # most words of validation for a temperature, a cache and a mixture
SEARCH_WORDS = 30_000  # most for a trial of dynamic evaluation, as in dynamiceval.py --gridfast


def find_settings(run: Evaluated, request: Request) -> Resolved:
    """Return the settings of all methods; fit the temperature if the request says "fit"."""
    entry = run.tuned.get(request.key())
    sources: dict[str, str] = {}
    dynamic = cache = None
    if request.dynamic is not None:
        start = defaults(request.dynamic["rule"])
        found, sources["dynamic"] = _settings(run, request, entry, "dynamic", start)
        dynamic = Dynamic(**found)
    if request.cache is not None:
        found, sources["cache"] = _settings(run, request, entry, "cache", Cache())
        cache = Cache(**found)
    temperature = 1.0
    if request.temperature == "fit":
        sources["temperature"] = FITTED
        known = entry
        if known is None:
            known = run.tuned.get(_temperature_key(request, dynamic))
        if known is None:
            temperature = _temperature(run, request, dynamic)
        else:
            temperature = run.tuned.value(known, "temperature", float)
    elif request.temperature is not None:
        temperature, sources["temperature"] = request.temperature, GIVEN
    methods = Methods(dynamic=dynamic, temperature=temperature, cache=cache)
    return Resolved(methods, sources, entry)


def _settings(
    run: Evaluated, request: Request, entry: Mapping[str, Any] | None, method: str, start: Any
) -> tuple[dict[str, Any], str]:
    """Return the settings of a method, and where they come from."""
    given = getattr(request, method)
    values = dataclasses.asdict(start)
    is_sgd = values.get("rule") == "sgd"
    source = OURS if is_sgd else PUBLISHED
    if set(values) - {"rule", "epsilon" if is_sgd else ""} <= set(given):
        source = GIVEN
    if source != GIVEN:
        alone = run.tuned.get(request.alone(method).key())
        known = alone if entry is None else entry
        if known is not None and _unfitted(request, method):
            kind = type(start)
            values = dataclasses.asdict(run.tuned.value(known, method, lambda found: kind(**found)))
            source = ALONE if entry is None else FITTED
        chosen = [name for name in given if name != "rule"]
        source += "".join(f", {name} given" for name in chosen)
    return values | dict(given), source


def _unfitted(request: Request, method: str) -> set[str]:
    """Return the settings of a method that a search can find and the request does not give."""
    found = {"dynamic": {"lr", "decay"}, "cache": {"words", "theta", "weight"}}[method]
    return found - set(getattr(request, method))


def _temperature(
    run: Evaluated, request: Request, dynamic: Dynamic | None, words: int | None = None
) -> float:
    """Fit the temperature on validation, and keep it, unless few words are asked for."""
    ids = run.validation(words or FIT_WORDS, "--temperature fit")
    if request.samples is None:
        found, loss = _tuner(run, ids, dynamic).temperature(dynamic)
    else:
        found, loss = _monte_carlo_temperature(run, request, ids)
    if words is None:  # later calls do not need the text
        run.keep_fit(
            _temperature_key(request, dynamic),
            {"temperature": found, "words": len(ids) - 1, "perplexity": perplexity(loss, 1)},
        )
    return found


def _temperature_key(request: Request, dynamic: Dynamic | None) -> str:
    """Return the name in ``tuned.json`` of a temperature fitted without a cache."""
    if dynamic is None:
        return dataclasses.replace(request, cache=None).key()
    settings = (f"{name}={value}" for name, value in dataclasses.asdict(dynamic).items())
    return f"temperature with dynamic {' '.join(settings)}"


def _monte_carlo_temperature(
    run: Evaluated, request: Request, ids: npt.NDArray[np.integer]
) -> tuple[float, float]:
    """Fit the temperature of the averaged prediction; return it with its mean loss."""
    trial = {
        "model": run.digest, "text": text_digest(ids)[:16], "words": len(ids) - 1,
        "method": "temperature", "mc": [request.samples, request.window, request.seed],
        "grid": list(GRID),
    }  # fmt: skip
    found = run.log.find(trial)
    if found is None:
        passes = [
            run.as_pass(ids, request, Methods(temperature=one), f"tune: temperature {one}")
            for one in GRID
        ]
        found = temperature_outcome(np.stack(read_passes(passes)))
        run.log.add(trial, found)
    return float(found["temperature"]), float(found["loss"])


def _tuner(run: Evaluated, ids: npt.NDArray[np.integer], dynamic: Dynamic | None) -> Tuner:
    return Tuner(
        run.model,
        ids,
        log=run.log,
        identity=run.digest,
        rms=run.rms_for(dynamic),
        progress=run.counter,
        unfinished=run.unfinished,
    )


def fit_settings(run: Evaluated, request: Request, words: int | None = None) -> Resolved:
    """Fit the settings that are not given on validation, and keep them in the run folder.

    Args:
        run: the run, whose validation text is used.
        request: the methods. Settings that it gives are kept.
        words: how many words of validation to use; by default 30,000 for a trial of dynamic
            evaluation, and 250,000 for the others.
    """
    dynamic = cache = None
    if request.dynamic is not None:
        given = dict(request.dynamic)
        dynamic = Dynamic(**(dataclasses.asdict(defaults(given["rule"])) | given))
        if _unfitted(request, "dynamic"):
            ids = run.validation(words or SEARCH_WORDS, "--tune")
            dynamic, _ = _tuner(run, ids, dynamic).dynamic(dynamic, given=list(given))
    temperature = 1.0 if request.temperature in (None, "fit") else float(request.temperature)
    if request.temperature == "fit":
        temperature = _temperature(run, request, dynamic, words)
    if request.cache is not None:
        cache = Cache(**request.cache)
        if _unfitted(request, "cache"):
            ids = run.validation(words or FIT_WORDS, "--tune")
            cache = _tuned_cache(run, ids, request.cache, dynamic, temperature, words)
    methods = Methods(dynamic=dynamic, temperature=temperature, cache=cache)
    if _is_fitted(request):
        entry = dataclasses.asdict(methods) | {"words": words, "log": LOG}
        run.keep_fit(request.key(), entry)
    return find_settings(run, request)


def _tuned_cache(
    run: Evaluated,
    ids: npt.NDArray[np.integer],
    given: Mapping[str, Any],
    dynamic: Dynamic | None,
    temperature: float,
    words: int | None,
) -> Cache:
    """Fit the settings of the cache that are not given."""
    fewest = given.get("words", CACHE_WORDS[0])
    if words is not None and fewest > words:
        raise UserError(
            f"--tune-words {words} is too few for a cache of {fewest} words; give more, or fewer "
            "--cache-words"
        )
    if fewest >= len(ids):
        raise UserError(
            f"--cache-words {fewest}: the validation text has only {len(ids):,} words; take fewer"
        )
    found, _ = _tuner(run, ids, dynamic).cache(dynamic, temperature, **given)
    return found


def _is_fitted(request: Request) -> bool:
    """Tell whether a search finds anything that the request does not give."""
    if request.temperature == "fit":
        return True
    asked = [name for name in ("dynamic", "cache") if getattr(request, name) is not None]
    return any(_unfitted(request, name) for name in asked)
