"""Hold the runs that the page shows, and follow changes in their folders.

Models are loaded in the background: at the start, and when training has saved a better one. While
a model is loading, the earlier one answers. Nothing is written.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Executor, Future
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from torch import Tensor

from tiedlm.analysis.predictions import next_hidden
from tiedlm.data import Vocabulary
from tiedlm.data.piece_form import BLANK
from tiedlm.data.pieces import PieceVocabulary
from tiedlm.data.vocabulary import Ids
from tiedlm.errors import UserError, visible
from tiedlm.model import LanguageModel
from tiedlm.scoring.pieces import has_pieces
from tiedlm.training.run import load
from tiedlm.training.run_files import (
    CONFIG,
    METRICS,
    RESULT,
    WEIGHTS,
    check_is_run,
    corpus_info,
    model_files,
    read_config,
)

T = TypeVar("T")

TEMPERATURE = 20.0  # the paper's, for a run that does not say


class Pending(Exception):
    """Something is being computed or loaded; ask again."""


class Loaded:
    """A loaded model, with results that are computed from it only once.

    Args:
        folder: the run folder.
        background: computes what takes long.
    """

    def __init__(self, folder: Path, background: Executor) -> None:
        self.stamp = stamp_of(folder)
        self.model: LanguageModel = load(folder)
        vocabulary = self.model.vocabulary
        assert vocabulary is not None
        self.vocabulary: Vocabulary = vocabulary
        self.is_raw = corpus_info(folder)["tokenizer"] == "tiedlm"
        self.has_pieces = isinstance(vocabulary, PieceVocabulary) or has_pieces(vocabulary)
        settings = read_config(folder)["settings"]
        self.temperature = _positive(settings.get("temperature"), TEMPERATURE)
        self.alpha = _positive(settings.get("alpha"), 0.0)
        self._background = background
        self._made: dict[Hashable, Any] = {}
        self._newest: dict[str, tuple[Hashable, Any]] = {}
        self._read: tuple[Ids, Tensor, Any] | None = None

    def hidden_after(self, ids: Ids) -> Tensor:
        """Return the hidden state ``(H,)`` after a context of at least one word.

        If the context continues the last one, as when one types, only the new words are read.
        """
        state = None
        rest = ids
        if self._read is not None:
            before, hidden_H, reached = self._read
            if np.array_equal(before, ids[: len(before)]):
                if len(before) == len(ids):
                    return hidden_H
                rest, state = ids[len(before) :], reached
        hidden_H, state = next_hidden(self.model, rest, state)
        self._read = (ids, hidden_H, state)
        return hidden_H

    def once(self, name: Hashable, make: Callable[[], T]) -> T:
        """Return the result of ``make``, computed in the first call only."""
        if name not in self._made:
            self._made[name] = make()
        made: T = self._made[name]
        return made

    def newest(self, name: str, key: Hashable, make: Callable[[], T]) -> T:
        """Return the result of ``make``, computed again only if the key has changed."""
        kept = self._newest.get(name)
        if kept is None or kept[0] != key:
            kept = self._newest[name] = (key, make())
        made: T = kept[1]
        return made

    def later(self, name: Hashable, make: Callable[[], T]) -> T:
        """Return the result of ``make``, computed in the background.

        Raises:
            Pending: until the result is ready.
        """
        future: Future[T] = self.once(name, lambda: self._background.submit(make))
        if not future.done():
            raise Pending("is being computed")
        return future.result()

    def example(self) -> str:
        """Return an example word: a long one near the start of the vocabulary."""
        words = self.vocabulary.words
        start = BLANK if self.has_pieces else ""
        found = (
            word.removeprefix(BLANK)
            for word in words[min(50, len(words) // 2) :]
            if word.startswith(start) and len(word) > 4
        )
        return next(filter(str.isalpha, found), words[-1])

    def describe(self) -> str:
        """Return the model in a few words: network, size, tie and augmented loss."""
        config = self.model.config
        width = (
            f"{config.d_hidden}"
            if config.n_layers == 1
            else f"{config.n_layers} x {config.d_hidden}"
        )
        parts = [f"{config.network.replace('_', '-').upper()} {width}"]
        parts.append("tied" if config.tied else "untied")
        if self.alpha:
            parts.append(f"alpha {self.alpha:g}")
        return visible(", ".join(parts))


def _positive(value: object, default: float) -> float:
    """Return a setting if it is a positive number that a slider can show."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if is_number and 0 < value < 1e6 else default  # type: ignore[arg-type, operator]


Stamp = tuple[tuple[str, int, int], ...]  # name, time and size of each file of a model


def stamp_of(folder: Path) -> Stamp | None:
    """Return the stamp of a run's model; None if it has no weights, or no folder.

    It covers all files of the model: a copy of a run may get its vocabulary after its weights.
    """
    found = []
    for file in model_files(folder):
        with suppress(OSError):
            stat = file.stat()
            found.append((file.name, stat.st_mtime_ns, stat.st_size))
    return tuple(found) if any(name == WEIGHTS for name, *_ in found) else None


def has_curve(folder: Path) -> bool:
    """Tell whether a folder is of a run in training; imported and kept weights have no curve."""
    return (folder / METRICS).is_file()


class Run:
    """A run folder, with its model once that is loaded.

    Args:
        name: what the page calls it.
        folder: the folder.
        background: loads and computes.
    """

    def __init__(self, name: str, folder: Path, background: Executor) -> None:
        self.name, self.folder = name, folder
        self._background = background
        self._loading: Future[Loaded] | None = None
        self._tried: Stamp | None = None
        self._loaded: Loaded | None = None

    def loaded(self) -> Loaded:
        """Return the newest loaded model, and begin to load a newer one if the folder has one.

        Raises:
            Pending: while the first one is loaded.
            UserError: if there is none, or it cannot be loaded.
        """
        stamp = stamp_of(self.folder)
        failure: Exception | None = None
        if self._loading is not None and self._loading.done():
            failure = self._loading.exception()  # type: ignore[assignment]
            if failure is None:
                self._loaded = self._loading.result()
                self._loading = None
        if stamp is not None and stamp != self._tried and (self._loading is None or failure):
            self._tried, failure = stamp, None
            self._loading = self._background.submit(Loaded, self.folder, self._background)
        if self._loaded is not None:
            return self._loaded
        if failure is not None:
            raise failure
        if self._loading is not None:
            raise Pending("is being loaded")
        if not (self.folder / CONFIG).is_file():
            raise UserError(f"{self.folder} is gone, or is not a run folder any more")
        raise UserError(f"{self.folder} has no trained model yet; the first epoch saves one")

    def state(self) -> dict[str, Any]:
        """Return the run's name, its description, and its current state."""
        found: dict[str, Any] = {"name": self.name, "folder": visible(str(self.folder))}
        try:
            loaded = self.loaded()
        except Pending as pending:
            return found | {"pending": str(pending)}
        except UserError as error:
            return found | {"error": str(error)}
        found |= {
            "about": loaded.describe(), "words": len(loaded.vocabulary),
            "temperature": loaded.temperature, "gamma": loaded.alpha / loaded.temperature,
            "example": loaded.example(), "pieces": loaded.has_pieces,
            "model": str(loaded.stamp),  # the page asks again when another one is loaded
        }  # fmt: skip
        if stamp_of(self.folder) is None:
            found["note"] = "its folder is gone: the page shows what was read before"
        elif has_curve(self.folder) and not (self.folder / RESULT).is_file():
            found["note"] = "not finished: the page follows it"
        return found


def open_runs(folders: Sequence[Path], background: Executor) -> list[Run]:
    """Return the runs of some folders, each with a name of its own, and begin to load them.

    Raises:
        UserError: if a folder is not a run's.
    """
    for folder in folders:
        check_is_run(folder)
    return [
        Run(name, folder, background)
        for name, folder in zip(names_of(folders), folders, strict=True)
    ]


def names_of(folders: Sequence[Path]) -> list[str]:
    """Return the shortest different ends of paths; unprintable characters are escaped."""
    parts = [folder.absolute().parts for folder in folders]
    names = [visible(folder.absolute().name) or str(folder) for folder in folders]
    for length in range(2, max(map(len, parts), default=0) + 1):
        alike = {name for name in names if names.count(name) > 1}
        for place, name in enumerate(names):
            if name in alike:
                names[place] = visible("/".join(parts[place][-length:]))
    seen: dict[str, itertools.count[int]] = {}
    for place, name in enumerate(names):  # one folder, given twice
        number = next(seen.setdefault(name, itertools.count(1)))
        names[place] = name if number == 1 else f"{name} ({number})"
    return names
