"""Keep the settings that were fitted on validation for a run, in its folder.

``tuned.json`` has the settings of the evaluation methods that ``tiedlm evaluate --tune`` found, for
each combination of methods. ``tuning.jsonl`` is the log of the trials. Both name the SHA-256 of the
weights that they belong to. After a run has been trained further, they are not used.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from tiedlm.errors import UserError
from tiedlm.files import read_json, write_json

T = TypeVar("T")

TUNED = "tuned.json"
LOG = "tuning.jsonl"
RMS = "gradient_rms.safetensors"
UNFINISHED = "unfinished"


class Tuned:
    """The settings that were fitted for a run.

    Args:
        folder: the run folder.
        digest: the SHA-256 of the weights, as :func:`tiedlm.training.run.digest_of` returns it.

    Attributes:
        is_stale: whether the folder has settings for other weights, which are not used.
    """

    def __init__(self, folder: Path, digest: str) -> None:
        self.path, self.digest = folder / TUNED, digest
        self.entries: dict[str, Any] = {}
        self.is_stale = False
        if self.path.is_file():
            found = read_json(self.path)
            if not isinstance(found, dict) or not isinstance(found.get("tuned"), dict):
                raise UserError(f"{self.path} is damaged; delete it and give --tune again")
            self.is_stale = found.get("weights") != digest
            self.entries = {} if self.is_stale else found["tuned"]

    def get(self, key: str) -> dict[str, Any] | None:
        """Return the settings fitted for a combination of methods; None if there are none."""
        found = self.entries.get(key)
        return found if isinstance(found, dict) else None

    def value(self, entry: Mapping[str, Any], name: str, kind: Callable[[Any], T]) -> T:
        """Return a value of an entry.

        Args:
            entry: the entry.
            name: of the value.
            kind: makes the value of what the file has.

        Raises:
            UserError: if the file was changed to have something else there.
        """
        try:
            return kind(entry[name])
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{self.path} is damaged; delete it and give --tune again") from error

    def put(self, key: str, entry: dict[str, Any], *, write: bool = True) -> None:
        """Keep what was fitted for a combination of methods.

        Args:
            key: names the combination.
            entry: what was fitted.
            write: whether to write the file too; else this process alone knows it.

        Raises:
            UserError: if the file cannot be written.
        """
        entry = json.loads(json.dumps(entry))
        if self.entries.get(key) == entry:
            return
        # Another command may have written the file since it was read.
        written = Tuned(self.path.parent, self.digest).entries if write else {}
        self.entries = {**self.entries, **written, key: entry}
        if not write:
            return
        write_json(self.path, {"format": 1, "weights": self.digest, "tuned": self.entries})
        self.is_stale = False
