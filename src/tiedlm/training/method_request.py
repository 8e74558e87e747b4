"""Describe the evaluation methods that a user requests, and the settings that they resolve to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tiedlm.evaluation.methods import Methods

# Where the settings of a method come from, as the commands show it.
GIVEN = "given"
PUBLISHED = "published default"
OURS = "default of ours"
FITTED = "fitted on validation"
ALONE = "fitted on validation without the other methods"


@dataclass(frozen=True)
class Request:
    """The evaluation methods that a user requested.

    Args:
        dynamic: the given settings of dynamic evaluation by name, always with the rule; None
            leaves the method out.
        temperature: a number, "fit", or None.
        cache: the given settings of the cache by name; None leaves the method out.
        samples: number of dropout masks to average over; None drops nothing.
        window: words that share a mask.
        seed: seed of the masks.
    """

    dynamic: Mapping[str, Any] | None = None
    temperature: float | Literal["fit"] | None = None
    cache: Mapping[str, Any] | None = None
    samples: int | None = None
    window: int = 35
    seed: int = 1

    def key(self) -> str:
        """Return the name of this combination in ``tuned.json``."""
        parts = []
        for name, given in (("dynamic", self.dynamic), ("cache", self.cache)):
            if given is not None:
                parts.append(" ".join([name, *(f"{k}={v}" for k, v in sorted(given.items()))]))
        if self.temperature is not None:
            parts.append(f"temperature {self.temperature}")
        if self.samples is not None:
            parts.append(f"mc {self.samples} window={self.window} seed={self.seed}")
        return ", ".join(parts)

    def alone(self, method: str) -> Request:
        """Return the request for one method without the others."""
        return Request(**{method: getattr(self, method)})


@dataclass(frozen=True)
class Resolved:
    """The settings of all methods, and where each comes from.

    Args:
        methods: the settings.
        sources: method -> where its settings come from.
        entry: the entry of ``tuned.json`` for exactly this combination of methods, if there is one.
    """

    methods: Methods
    sources: dict[str, str] = field(default_factory=dict)
    entry: Mapping[str, Any] | None = None
