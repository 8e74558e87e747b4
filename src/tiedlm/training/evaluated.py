"""A run under evaluation: its model, its text, and what evaluations keep in its folder."""

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
from tiedlm.evaluation.dynamic import Dynamic
from tiedlm.evaluation.gradients import WINDOW, gradient_rms
from tiedlm.evaluation.methods import Methods, method_losses
from tiedlm.evaluation.monte_carlo import monte_carlo_losses
from tiedlm.evaluation.temperature import with_temperature
from tiedlm.evaluation.tuning import TrialLog, no_progress
from tiedlm.evaluation.unfinished import Pass, Unfinished, never, text_digest
from tiedlm.files import read_json, write_bytes
from tiedlm.model import LanguageModel
from tiedlm.training.method_request import Request
from tiedlm.training.run import digest_of, read_tensors
from tiedlm.training.run_files import CONFIG, has_changed
from tiedlm.training.tuned import LOG, RMS, UNFINISHED, Tuned


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
        """The SHA-256 of the loaded weights; training may have replaced their file since."""
        return digest_of(self.model, read_json(self.folder / CONFIG).get("id", ""))

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
    def keeps_fits(self) -> bool:
        """Whether to keep what is fitted: not for another text than the run was trained on."""
        if not has_changed(self.folder, self.corpus.info):
            return self.keeps
        self.note(f"what is fitted on another text is not kept in {self.folder}")
        return False

    @cached_property
    def log(self) -> TrialLog:
        """The log of all trials that were run to fit settings."""
        return TrialLog(self.folder / LOG, keeps=self.keeps_fits)

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
        kept = self._kept_rms(path)
        if kept is not None:
            like = self.model.embedding.weight
            return {name: part.to(like.device, like.dtype) for name, part in kept.items()}
        train = self.corpus.train
        if len(train) <= WINDOW:
            raise UserError(
                f"--dynamic measures gradients on {WINDOW + 1} words or more, and the training "
                f"text has {len(train)}; take --dynamic-rule sgd"
            )
        found = gradient_rms(
            self.model,
            train,
            unfinished=self.unfinished({"rms": text_digest(train)}),
            on_tokens=self.counter("gradient statistics", len(train)),
        )
        if self.keeps_fits:
            kept = {name: part.cpu().contiguous() for name, part in found.items()}
            write_bytes(path, save(kept, metadata={"weights": self.digest}))
        return found

    def _kept_rms(self, path: Path) -> dict[str, Tensor] | None:
        """Return the statistics that are kept; None if there are none for these weights."""
        if not path.is_file():
            return None
        try:
            tensors, metadata = read_tensors(path)
        except UserError:  # damaged: they are measured again
            return None
        shapes = {name: part.shape for name, part in tensors.items()}
        expected = {name: p.shape for name, p in self.model.named_parameters()}
        fits = metadata.get("weights") == self.digest and shapes == expected
        return tensors if fits else None

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
            UserError: if the cache is given more words than the text has.
        """
        given = (request.cache or {}).get("words", 0)
        if given >= len(ids):
            raise UserError(
                f"--cache-words {given}: the text has only {len(ids):,} words; take fewer"
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

    def keep_fit(self, key: str, entry: dict[str, Any]) -> None:
        """Keep an entry of ``tuned.json``, in memory alone if :attr:`keeps_fits` is false."""
        self.tuned.put(key, entry, write=self.keeps_fits)
