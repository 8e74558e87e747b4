"""Check that the values of settings are of their type and in range."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, get_args

from tiedlm.errors import UserError, did_you_mean
from tiedlm.training.word_counts import parse_word_list

if TYPE_CHECKING:
    from tiedlm.training.settings import Settings

_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "dict[str, Any]": "options by name",
}
LARGEST = 3e38  # a 32-bit float holds it

Precision = Literal["auto", "fp32", "bf16"]
VocabFrom = Literal["part", "whole"]
Optimizer = Literal["sgd", "adam", "adamw", "nt-asgd"]
Shuffle = Literal["none", "documents"]
Schedule = Literal["exponential", "cosine", "plateau"]
SoftTarget = Literal[
    "own", "permuted", "permuted-grad", "permuted-band", "permuted-band-grad",
    "uniform", "smoothing", "unigram", "average", "frozen",
]  # fmt: skip

_CHOICES = {
    "shuffle": Shuffle, "vocab_from": VocabFrom, "soft_target": SoftTarget,
    "optimizer": Optimizer, "schedule": Schedule, "precision": Precision,
}  # fmt: skip


def check_ranges(settings: Settings) -> None:
    """Refuse settings of a wrong type or out of range, or that contradict each other.

    Raises:
        UserError: naming the setting, its value and what was expected.
    """
    require = partial(_require, settings)
    for field in dataclasses.fields(settings):
        _require_type(settings, field.name, str(field.type))
    for name, kind in _CHOICES.items():
        known, value = get_args(kind), getattr(settings, name)
        if value not in known:
            expected = f"one of {', '.join(known)}{did_you_mean(value, known)}"
            raise _wrong(name, expected, value)
    at_least_one = (
        "d_embed", "d_hidden", "n_layers", "batch_size", "bptt", "epochs",
        "accumulate", "vocab_size", "min_count", "patience", "threads",
        "plateau_patience", "average_from", "average_trigger", "evaluate_every",
    )  # fmt: skip
    for name in at_least_one:
        require(name, lambda x: x is None or x >= 1, "at least 1")
    for name in ("dropout_input", "dropout_hidden", "dropout_words"):
        require(name, lambda x: 0 <= x < 1, "a probability of dropping, 0 <= p < 1")
    for name in ("init_range", "temperature", "lr", "clip"):
        require(name, lambda x: x > 0, "a positive number")
    divides = f"a divisor of --batch-size {settings.batch_size}"
    require("accumulate", lambda x: settings.batch_size % x == 0, divides)
    for name in (
        "alpha", "ce_weight", "ar", "tar", "weight_decay", "warmup", "decay_after", "lr_min",
    ):  # fmt: skip
        require(name, lambda x: x >= 0, "0 or more")
    if settings.ce_weight == settings.alpha == 0:
        raise UserError("--ce-weight 0 and --alpha 0: no loss is left to train with")
    require("lr_decay", lambda x: 0 < x <= 1, "0 < factor <= 1")
    require("fraction", lambda x: 0 < x <= 1, "0 < share <= 1")
    require("skip", lambda x: 0 <= x < 1, "0 <= share < 1")
    require("field", lambda x: x != "", "a name")
    _check_soft_target(settings)
    _check_schedule(settings)
    require("seed", lambda x: -(2**63) <= x < 2**63, "a 64-bit integer")
    require("threads", lambda x: x is None or x <= 4096, "at most 4096")
    try:
        parse_word_list(settings.keep_at)
    except ValueError as error:
        raise UserError(f"--keep-at (setting 'keep_at'): {error}") from error


def _check_soft_target(settings: Settings) -> None:
    """Refuse a soft target that contradicts another setting."""
    if settings.soft_target == "frozen" and settings.soft_target_from is None:
        raise UserError("--soft-target frozen needs --soft-target-from RUN")
    if settings.soft_target != "frozen" and settings.soft_target_from is not None:
        raise UserError("--soft-target-from needs --soft-target frozen")
    if settings.soft_target == "smoothing" and settings.temperature != 1:
        raise UserError(
            f"--soft-target smoothing needs --temperature 1, got {settings.temperature:g}; label "
            "smoothing of e is --alpha e / (1 - e)"
        )


def _check_schedule(settings: Settings) -> None:
    """Refuse an optimizer or a schedule that contradicts another setting."""
    for name in ("beta1", "beta2"):
        _require(settings, name, lambda x: 0 <= x < 1, "0 <= beta < 1")
    if settings.lr_min > settings.lr:
        raise UserError(f"--lr-min {settings.lr_min:g} is above --lr {settings.lr:g}")
    if settings.weight_decay_inside and settings.optimizer == "adamw":
        raise UserError(
            "--weight-decay-inside: --optimizer adamw keeps weight decay out of the gradient; "
            "take --optimizer adam"
        )
    if settings.average_from is not None and settings.optimizer == "nt-asgd":
        raise UserError(
            f"--average-from {settings.average_from}: --optimizer nt-asgd starts to average by "
            "validation (--average-trigger); take --optimizer sgd"
        )
    if settings.unit_norm and (settings.average_from or settings.optimizer == "nt-asgd"):
        raise UserError(
            "--unit-norm: averaged word vectors have no norm of 1; leave out --average-from, and "
            "--optimizer nt-asgd"
        )


def _require_type(settings: Settings, name: str, annotation: str) -> None:
    """Refuse a value of another type than the annotation's, and numbers like NaN."""
    value = getattr(settings, name)
    kind = annotation.removesuffix(" | None")
    if value is None and kind != annotation:
        return
    holds = {
        "int": isinstance(value, int) and not isinstance(value, bool),
        "float": isinstance(value, (int, float))
        and not isinstance(value, bool)
        and abs(value) <= LARGEST,  # also no infinity and no NaN
        "bool": isinstance(value, bool),
        "dict[str, Any]": isinstance(value, dict) and all(isinstance(key, str) for key in value),
    }.get(kind, isinstance(value, str))
    if not holds:
        kind = _KINDS.get(kind, "a text")
        raise _wrong(name, kind, repr(value))


def _require(settings: Settings, name: str, holds: Callable[[Any], bool], expected: str) -> None:
    """Refuse the value of a setting unless ``holds`` is true of it."""
    value = getattr(settings, name)
    if not holds(value):
        raise _wrong(name, expected, value)


def _wrong(name: str, expected: str, value: object) -> UserError:
    """Return the error for a setting with a wrong value."""
    flag = "--" + name.replace("_", "-")
    return UserError(f"{flag} (setting {name!r}): expected {expected}, got {value}")
