"""Decide whether two runs are the same.

"The same" means something else in each place that asks, so each question compares other settings.
A setting declares what it counts for in its :class:`~tiedlm.training.settings.Identity`:

========================================  ====================================================
question                                  settings that must be equal
========================================  ====================================================
May these settings resume the run?        all but those that may change; also, both or neither
                                          began from another run
Does a file belong to this run?           the same, and the places of the text and of other runs
Is a resumed run already finished?        those that may change and affect the result
Does a run belong to a cell of a table?   the settings of the cell
Do two runs differ only in their seed?    those that affect the result; texts and other runs are
                                          compared by their content
========================================  ====================================================

Settings are compared in their canonical form, so that a default and its value spelled out are
equal.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from tiedlm.training.run_files import differences
from tiedlm.training.settings import Identity, Settings


def names(holds: Callable[[Identity], bool]) -> frozenset[str]:
    """Return the names of the settings whose identity passes a test."""
    fields = dataclasses.fields(Settings)
    return frozenset(field.name for field in fields if holds(field.metadata["identity"]))


FIXED = names(lambda identity: not identity.may_change)
PLACES = names(lambda identity: identity.decides == "content")  # of texts and other runs
LENGTH = names(lambda identity: identity.may_change and identity.decides == "value")  # of training
OF_CELL = names(lambda identity: identity.of_cell)
LATER = names(lambda identity: identity.later)
DECIDING = names(lambda identity: identity.decides == "value")


def fixed(settings: Settings) -> frozenset[str]:
    """Return the names of the settings that may not change in a run with these.

    A cosine schedule ends at the last epoch, so every learning rate depends on the number of
    epochs.
    """
    return FIXED | {"epochs"} if settings.schedule == "cosine" else FIXED


def canonical(settings: Settings) -> Settings:
    """Return equal settings for equal computations: defaults are replaced by what they mean."""
    precision = "fp32" if settings.precision == "auto" else settings.precision
    return settings.resolved().replace(precision=precision)


def changes(old: Settings, new: Settings, compared: Collection[str]) -> list[str]:
    """Describe each difference between the compared settings, with both values.

    Whether a run began from another one is always compared: a second session is not a first.
    """
    before, now = (
        {name: value for name, value in canonical(one).to_dict().items() if name in compared}
        for one in (old, new)
    )
    found = differences(before, now)
    if "init_from" not in compared and (old.init_from is None) != (new.init_from is None):
        found.append(f"init_from: {'not given' if old.init_from is None else 'given'} before")
    return found


def trajectory(settings: Settings) -> dict[str, Any]:
    """Return the settings that distinguish a run from others, without its length."""
    values = canonical(settings).to_dict()
    left_out = later_defaults(values)
    named = (fixed(settings) | PLACES) - left_out
    return {name: value for name, value in values.items() if name in named}


def later_defaults(values: dict[str, Any]) -> set[str]:
    """Return the names of later settings at their default, which older runs had implicitly."""
    defaults = Settings().to_dict()
    return {name for name in LATER if name in values and values[name] == defaults[name]}


def same_length(old: Settings, new: Settings) -> bool:
    """Tell whether two settings train the same run equally long."""
    return all(getattr(old, name) == getattr(new, name) for name in LENGTH)


def of_cell(settings: Settings) -> Settings:
    """Return the settings that all runs of a cell share, with defaults for all other settings.

    A setting that names another run keeps only the name of its folder, not the place.
    """
    values = {name: value for name, value in settings.to_dict().items() if name in OF_CELL}
    for name in PLACES - {"data"}:
        if values.get(name) is not None:
            values[name] = Path(values[name]).name
    return Settings().replace(**values).resolved()


def of_result(settings: Settings) -> dict[str, Any]:
    """Return the settings that are equal in two runs that differ in their seed only.

    They include the folders of other runs. The caller replaces such a folder by a description of
    its run.
    """
    compared = DECIDING - {"seed"} | PLACES - {"data"}
    return {name: v for name, v in canonical(settings).to_dict().items() if name in compared}
