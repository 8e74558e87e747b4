"""The flags of evaluation methods, shared by several commands. This file imports no PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Group, Parameter

from tiedlm.cli.numbers import MaybeWhole, keeps_logits_finite
from tiedlm.errors import UserError

if TYPE_CHECKING:
    from tiedlm.training.method_request import Request

METHODS = Group("Methods", sort_key=2.5)  # before "Output" and "Machine" of most commands


def _flag(text: str, **options: Any) -> Parameter:
    return Parameter(group=METHODS, help=text, **options)


@Parameter(name="*")
@dataclass(kw_only=True)
class TemperatureFlags:
    """The flags of methods that need no text to learn from: temperature and mixture."""

    temperature: Annotated[
        str | None,
        _flag(
            "Divide the logits by this number; not the temperature of the augmented loss. fit "
            "takes the number that is best on validation."
        ),
    ] = None
    mix: Annotated[
        list[Path] | None,
        _flag(
            "Further runs with the same vocabulary. Probabilities are mixed with weights fitted on "
            "validation.",
            consume_multiple=True,
            negative="",
        ),
    ] = None


@Parameter(name="*")
@dataclass(kw_only=True)
class MethodFlags(TemperatureFlags):
    """All flags of evaluation methods."""

    dynamic: Annotated[
        bool,
        _flag("Dynamic evaluation: learn from each few words after predicting them.", negative=""),
    ] = False
    dynamic_rule: Annotated[
        Literal["rms", "sgd"] | None,
        _flag("rms: divide gradients by their size on the training text (default). sgd: do not."),
    ] = None
    dynamic_lr: Annotated[
        float | None,
        _flag("Learning rate of dynamic evaluation; by default 5e-5 with rms, 0.1 with sgd."),
    ] = None
    dynamic_decay: Annotated[
        float | None,
        _flag(
            "Rate at which the weights return to the trained ones; by default 0.002 with rms, 0 "
            "with sgd."
        ),
    ] = None
    dynamic_epsilon: Annotated[
        float | None, _flag("Added to the size of the gradients by the rule rms; 2e-5 by default.")
    ] = None
    dynamic_segment: Annotated[MaybeWhole, _flag("Words of a segment; 5 by default.")] = None
    cache: Annotated[
        bool, _flag("Mix in a cache of the words read so far (neural cache).", negative="")
    ] = False
    cache_words: Annotated[MaybeWhole, _flag("Words in the cache; 500 by default.")] = None
    cache_theta: Annotated[
        float | None,
        _flag(
            "How much similar contexts count in the cache; 0 counts words alone. 0.3 by default."
        ),
    ] = None
    cache_weight: Annotated[
        float | None, _flag("Share of the cache in the probability; 0.1 by default.")
    ] = None

    def names(self) -> list[str]:
        """Return the flags of the methods that the user gave."""
        found = [f"--{name}" for name in ("dynamic", "cache") if getattr(self, name)]
        found += ["--temperature"] * (self.temperature is not None)
        return found + ["--mix"] * (self.mix is not None)


def request_of(flags: TemperatureFlags, *, samples: int | None = None, seed: int = 1) -> Request:
    """Return the request that the flags make; its ``window`` is left to the caller.

    Raises:
        UserError: for a value that is out of range, or a flag without its method or its effect.
    """
    from tiedlm.evaluation.cache import Cache
    from tiedlm.evaluation.dynamic import defaults
    from tiedlm.training.method_request import Request

    dynamic = cache = None
    if isinstance(flags, MethodFlags):
        dynamic = _given(flags, "dynamic", ("rule", "lr", "decay", "epsilon", "segment"))
        cache = _given(flags, "cache", ("words", "theta", "weight"))
        if dynamic is not None:
            dynamic = {"rule": "rms"} | dynamic
            _check(defaults(dynamic["rule"]), dynamic, "--dynamic-")
            if dynamic["rule"] == "sgd" and "epsilon" in dynamic:
                raise UserError("--dynamic-epsilon has no effect with --dynamic-rule sgd")
        if cache is not None:
            _check(Cache(), cache, "--cache-")
        if samples is not None and (dynamic is not None or cache is not None):
            method = "--dynamic" if dynamic is not None else "--cache"
            why = (
                "it would adapt to one mask and be judged by another"
                if dynamic is not None
                else "each mask has hidden states of its own"
            )
            raise UserError(f"{method} and --mc: {why}; leave one out")
    temperature = _temperature(flags.temperature)
    return Request(dynamic, temperature, cache, samples=samples, seed=seed)


def _given(flags: MethodFlags, method: str, names: Sequence[str]) -> dict[str, Any] | None:
    """Return the settings of a method that were given; None without the method."""
    values = {name: getattr(flags, f"{method}_{name}") for name in names}
    given = {name: value for name, value in values.items() if value is not None}
    if getattr(flags, method):
        return given
    if given:
        raise UserError(f"--{method}-{next(iter(given))} needs --{method}")
    return None


def _check(start: Any, given: dict[str, Any], prefix: str) -> None:
    """Refuse values out of range; the dataclass of the settings checks them."""
    import dataclasses

    try:
        dataclasses.replace(start, **given)
    except ValueError as error:
        raise UserError(f"{prefix}{error}") from error


def _temperature(text: str | None) -> float | Literal["fit"] | None:
    if text is None or text == "fit":
        return text  # type: ignore[return-value]  # None or "fit"
    try:
        value = float(text)
    except ValueError as error:
        raise UserError(f"--temperature: expected a number or fit, got {text!r}") from error
    if not keeps_logits_finite(value):
        raise UserError(f"--temperature: expected a number from 0.001 to 1e6, or fit, got {text}")
    return value
