"""Evaluate a run with methods on top of its model, with given, fitted or published settings.

The settings of each method come from the first of these places that has them:

1. the values that were given,
2. ``tuned.json`` in the run folder, for exactly this combination of methods,
3. ``tuned.json``, for the method alone,
4. the published defaults.

With ``--temperature fit`` the temperature is fitted when it is needed.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.torch import save
from torch import Tensor

from tiedlm.data import Corpus
from tiedlm.errors import UserError
from tiedlm.evaluation.cache import Cache
from tiedlm.evaluation.dynamic import Dynamic, defaults
from tiedlm.evaluation.gradients import gradient_rms
from tiedlm.evaluation.methods import Methods, method_losses
from tiedlm.evaluation.monte_carlo import monte_carlo_losses
from tiedlm.evaluation.perplexity import perplexity
from tiedlm.evaluation.temperature import GRID, with_temperature
from tiedlm.evaluation.tuning import CACHE_WORDS, TrialLog, Tuner, no_progress, temperature_outcome
from tiedlm.evaluation.unfinished import Pass, Unfinished, never, read_passes, text_digest
from tiedlm.files import write_bytes
from tiedlm.model import LanguageModel
from tiedlm.training.method_request import (
    ALONE,
    FITTED,
    GIVEN,
    OURS,
    PUBLISHED,
    Request,
    Resolved,
)
from tiedlm.training.run import read_tensors
from tiedlm.training.tuned import LOG, RMS, UNFINISHED, Tuned, weights_digest

FIT_WORDS = 250_000  # most words of validation for a temperature, a cache and a mixture
SEARCH_WORDS = 30_000  # most for a trial of dynamic evaluation, as in dynamiceval.py --gridfast


@dataclass
class Evaluated:
    """A run folder under evaluation: its model, its text, and what was fitted for it.

    Args:
        folder: the run folder.
        model: its model.
        load_text: loads its corpus; called when something has to be fitted.
        progress: takes a title and a number of words, and returns a function that counts words.
        stop: tells whether somebody asked the evaluation to stop.
        note: takes a line for the user.
    """

    folder: Path
    model: LanguageModel
    load_text: Callable[[], Corpus]
    progress: Callable[[str, int], Callable[[int], None]] = no_progress
    stop: Callable[[], bool] = never
    note: Callable[[str], None] = lambda text: None

    @cached_property
    def corpus(self) -> Corpus:
        """The run's corpus."""
        return self.load_text()

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of the weights."""
        return weights_digest(self.folder)

    @cached_property
    def tuned(self) -> Tuned:
        """The settings that earlier calls fitted for the run."""
        found = Tuned(self.folder, self.digest)
        if found.is_stale:
            self.note(f"{found.path} is for other weights of this run, and is not used")
        return found

    @cached_property
    def keeps(self) -> bool:
        """Whether the run folder can be written; if not, a note tells the user."""
        if os.access(self.folder, os.W_OK):
            return True
        self.note(f"{self.folder} cannot be written: what is fitted or interrupted is not kept")
        return False

    @cached_property
    def log(self) -> TrialLog:
        """The log of all trials that were run to fit settings."""
        return TrialLog(self.folder / LOG, keeps=self.keeps)

    def unfinished(self, key: Mapping[str, Any]) -> Unfinished | None:
        """Return the saved place of an evaluation, or None if the folder cannot be written.

        Args:
            key: everything on which the results depend, besides the weights and their type.
        """
        if not self.keeps:
            return None
        whole = {"weights": self.digest, "dtype": str(self.model.embedding.weight.dtype), **key}
        return Unfinished(self.folder / UNFINISHED, whole, self.stop)

    def counter(self, title: str, total: int) -> Callable[[int], None]:
        """Return a function that counts the words of an evaluation.

        If the folder cannot be written, there is no :class:`Unfinished` to stop the evaluation, so
        the counter stops it.

        Raises:
            KeyboardInterrupt: from the counter, if somebody asked the evaluation to stop.
        """
        advance = self.progress(title, total)
        if self.keeps:
            return advance

        def count(words: int) -> None:
            advance(words)
            if self.stop():
                raise KeyboardInterrupt

        return count

    def validation(self, words: int, purpose: str) -> npt.NDArray[np.integer]:
        """Return the ids of the first ``words + 1`` words of the validation text.

        Args:
            words: how many words are predicted at most.
            purpose: the flag that needs the text, for the message.

        Raises:
            UserError: if the text is empty.
        """
        if len(self.corpus.valid) < 2:
            raise UserError(
                f"{purpose} needs a validation text, and {self.folder} has an empty one"
            )
        return self.corpus.valid[: words + 1]

    @cached_property
    def rms(self) -> dict[str, Tensor]:
        """The RMS of each parameter's gradient, measured on the training text if not yet kept."""
        path = self.folder / RMS
        device = self.model.embedding.weight.device
        expected = {name: p.shape for name, p in self.model.named_parameters()}
        if path.is_file():
            tensors, metadata = read_tensors(path)
            shapes = {name: part.shape for name, part in tensors.items()}
            if metadata.get("weights") == self.digest and shapes == expected:
                like = self.model.embedding.weight
                return {name: part.to(device, like.dtype) for name, part in tensors.items()}
        train = self.corpus.train
        found = gradient_rms(
            self.model,
            train,
            unfinished=self.unfinished({"rms": text_digest(train)}),
            on_tokens=self.counter("gradient statistics", len(train)),
        )
        if self.keeps:
            kept = {name: part.cpu().contiguous() for name, part in found.items()}
            write_bytes(path, save(kept, metadata={"weights": self.digest}))
        return found

    def rms_for(self, dynamic: Dynamic | None) -> dict[str, Tensor] | None:
        """Return :attr:`rms` if dynamic evaluation with these settings needs it, else None."""
        return self.rms if dynamic is not None and dynamic.rule == "rms" else None

    def losses(
        self, ids: npt.NDArray[np.integer], request: Request, methods: Methods, title: str
    ) -> npt.NDArray[np.float32]:
        """Return the losses of a text, and go on where an earlier call was interrupted.

        Args:
            ids: ``(N,)`` word ids.
            request: its dropout masks (``samples``, ``window``, ``seed``) are used.
            methods: the settings of the other methods.
            title: of the progress bar.

        Returns:
            ``(N - 1,)`` float32, in nats.

        Raises:
            UserError: if the cache is longer than the text.
        """
        if methods.cache is not None and methods.cache.words >= len(ids):
            raise UserError(
                f"--cache-words {methods.cache.words}: the text has only {len(ids):,} words; take "
                "fewer"
            )
        unfinished = self.unfinished(self._key(ids, request, methods))
        on_tokens = self.counter(title, len(ids) - 1)
        if request.samples is not None:
            return monte_carlo_losses(
                with_temperature(self.model, methods.temperature),
                ids,
                request.samples,
                window=request.window,
                seed=request.seed,
                unfinished=unfinished,
                on_tokens=on_tokens,
            )
        return method_losses(
            self.model,
            ids,
            methods,
            rms=self.rms_for(methods.dynamic),
            unfinished=unfinished,
            on_tokens=on_tokens,
        )

    def as_pass(
        self, ids: npt.NDArray[np.integer], request: Request, methods: Methods, title: str
    ) -> Pass:
        """Return :meth:`losses` as one of several passes, for ``read_passes``."""
        place = self.unfinished({**self._key(ids, request, methods), "finished": True})
        return Pass(place, lambda: self.losses(ids, request, methods, title))

    def _key(
        self, ids: npt.NDArray[np.integer], request: Request, methods: Methods
    ) -> dict[str, Any]:
        """Return what the losses of a text depend on, besides the model."""
        key: dict[str, Any] = {"text": text_digest(ids), "methods": dataclasses.asdict(methods)}
        if request.samples is not None:
            key |= {"samples": request.samples, "window": request.window, "seed": request.seed}
            device = self.model.embedding.weight.device.type
            if device != "cpu":  # each kind of device draws masks of its own
                key["device"] = device
        return key

    def resolve(self, request: Request) -> Resolved:
        """Return the settings of all methods; fit the temperature if the request says "fit"."""
        entry = self.tuned.get(request.key())
        sources: dict[str, str] = {}
        dynamic = cache = None
        if request.dynamic is not None:
            start = defaults(request.dynamic["rule"])
            found, sources["dynamic"] = self._settings(request, entry, "dynamic", start)
            dynamic = Dynamic(**found)
        if request.cache is not None:
            found, sources["cache"] = self._settings(request, entry, "cache", Cache())
            cache = Cache(**found)
        temperature = 1.0
        if request.temperature == "fit":
            sources["temperature"] = FITTED
            known = entry
            if known is None and dynamic is None:  # the cache comes after the temperature
                known = self.tuned.get(dataclasses.replace(request, cache=None).key())
            temperature = known["temperature"] if known else self._temperature(request, dynamic)
        elif request.temperature is not None:
            temperature, sources["temperature"] = request.temperature, GIVEN
        methods = Methods(dynamic=dynamic, temperature=temperature, cache=cache)
        return Resolved(methods, sources, entry)

    def _settings(
        self, request: Request, entry: Mapping[str, Any] | None, method: str, start: Any
    ) -> tuple[dict[str, Any], str]:
        """Return the settings of a method, and where they come from."""
        given = getattr(request, method)
        values = dataclasses.asdict(start)
        source = OURS if values.get("rule") == "sgd" else PUBLISHED
        if set(values) <= set(given) | {"rule"}:
            source = GIVEN
        if source != GIVEN:
            alone = self.tuned.get(request.alone(method).key())
            if entry is not None:
                values, source = dict(entry[method]), FITTED
            elif alone is not None:
                values, source = dict(alone[method]), ALONE
            chosen = [name for name in given if name != "rule"]
            source += "".join(f", {name} given" for name in chosen)
        return values | dict(given), source

    def _temperature(
        self, request: Request, dynamic: Dynamic | None, words: int | None = None
    ) -> float:
        """Fit the temperature on validation, and keep it if the weights do not adapt."""
        ids = self.validation(words or FIT_WORDS, "--temperature fit")
        if request.samples is None:
            found, loss = self._tuner(ids, dynamic).temperature(dynamic)
        else:
            found, loss = self._monte_carlo_temperature(request, ids)
        if dynamic is None:  # kept, so that later calls do not need the text
            self.keep_fit(
                dataclasses.replace(request, cache=None).key(),
                {"temperature": found, "words": len(ids) - 1, "perplexity": perplexity(loss, 1)},
            )
        return found

    def _monte_carlo_temperature(
        self, request: Request, ids: npt.NDArray[np.integer]
    ) -> tuple[float, float]:
        """Fit the temperature of the averaged prediction; return it with its mean loss."""
        trial = {
            "model": self.digest, "text": text_digest(ids)[:16], "words": len(ids) - 1,
            "method": "temperature", "mc": [request.samples, request.window, request.seed],
            "grid": list(GRID),
        }  # fmt: skip
        found = self.log.find(trial)
        if found is None:
            passes = [
                self.as_pass(ids, request, Methods(temperature=one), f"tune: temperature {one}")
                for one in GRID
            ]
            found = temperature_outcome(np.stack(read_passes(passes)))
            self.log.add(trial, found)
        return float(found["temperature"]), float(found["loss"])

    def _tuner(self, ids: npt.NDArray[np.integer], dynamic: Dynamic | None) -> Tuner:
        return Tuner(
            self.model,
            ids,
            log=self.log,
            identity=self.digest,
            rms=self.rms_for(dynamic),
            progress=self.counter,
            unfinished=self.unfinished,
        )

    def tune(self, request: Request, words: int | None = None) -> Resolved:
        """Fit the settings that are not given on validation, and keep them in the run folder.

        Args:
            request: the methods. Settings that it gives are kept.
            words: how many words of validation to use; by default 30,000 for a trial of dynamic
                evaluation, and 250,000 for the others.
        """
        dynamic = cache = None
        if request.dynamic is not None:
            given = dict(request.dynamic)
            dynamic = Dynamic(**(dataclasses.asdict(defaults(given["rule"])) | given))
            if not {"lr", "decay"} <= set(given):
                ids = self.validation(words or SEARCH_WORDS, "--tune")
                dynamic, _ = self._tuner(ids, dynamic).dynamic(dynamic, given=list(given))
        temperature = 1.0 if request.temperature in (None, "fit") else float(request.temperature)
        if request.temperature == "fit":
            temperature = self._temperature(request, dynamic, words)
        if request.cache is not None:
            ids = self.validation(words or FIT_WORDS, "--tune")
            cache = self._tuned_cache(ids, request.cache, dynamic, temperature)
        methods = Methods(dynamic=dynamic, temperature=temperature, cache=cache)
        if self._is_fitted(request):
            entry = dataclasses.asdict(methods) | {"words": words, "log": LOG}
            self.keep_fit(request.key(), entry)
        return self.resolve(request)

    def keep_fit(self, key: str, entry: dict[str, Any]) -> None:
        """Keep an entry of ``tuned.json``: in the file, or in memory if it cannot be written."""
        self.tuned.put(key, entry, write=self.keeps)

    def _tuned_cache(
        self,
        ids: npt.NDArray[np.integer],
        given: Mapping[str, Any],
        dynamic: Dynamic | None,
        temperature: float,
    ) -> Cache:
        """Fit the settings of the cache that are not given."""
        if {"words", "theta", "weight"} <= set(given):
            return Cache(**given)
        fewest = given.get("words", CACHE_WORDS[0])
        if fewest >= len(ids):
            raise UserError(
                f"--cache-words {fewest}: the validation text has only {len(ids):,} words; take "
                "fewer"
            )
        found, _ = self._tuner(ids, dynamic).cache(
            dynamic, temperature, words=given.get("words"), theta=given.get("theta")
        )
        return dataclasses.replace(found, **given)

    @staticmethod
    def _is_fitted(request: Request) -> bool:
        return request.temperature == "fit" or bool(request.dynamic) or request.cache is not None
