"""The options that a network has besides widths, layers and dropout.

A network declares them as a frozen dataclass whose fields are keyword-only and have defaults::

    @dataclass(frozen=True, kw_only=True)
    class Options:
        depth: int = option(2, "Number of highway layers in a step.")

        def __post_init__(self) -> None:
            if self.depth < 1:
                raise ValueError(f"depth: expected at least 1, got {self.depth}")

    @register("mine", options=Options)
    class Mine(nn.Module): ...

Then ``ModelConfig(network="mine", options={"depth": 3})`` and
``tiedlm train --network mine --option depth=3`` set an option, and ``config.network_options`` is
the dataclass. The type of a field is int, float, bool, str or Literal, or one of these or None.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin

from tiedlm.errors import UserError, did_you_mean

_KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


@dataclass(frozen=True, kw_only=True)
class NoOptions:
    """The options of a network that has none."""


def option(default: Any, text: str, *, training_only: bool = False) -> Any:
    """Declare an option of a network, as a field of its dataclass.

    Args:
        default: its value if it is not given.
        text: its help.
        training_only: whether the option has no effect in evaluation, as for dropout. A run may
            start from the weights of a run with another value of such an option.
    """
    return dataclasses.field(
        default=default, metadata={"help": text, "training_only": training_only}
    )


def check_declaration(options: type[Any]) -> None:
    """Refuse a class that cannot hold a network's options.

    Raises:
        ValueError: if it is no frozen dataclass, or a field lacks its default or its help, is not
            keyword-only, or has a type that no flag can give.
    """
    if not dataclasses.is_dataclass(options) or not options.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        raise ValueError(f"options: expected a frozen dataclass, got {options!r}")
    hints = typing.get_type_hints(options)
    for field in dataclasses.fields(options):
        if field.default is dataclasses.MISSING or not field.kw_only:
            raise ValueError(f"options: {field.name} must be keyword-only and have a default")
        if not field.metadata.get("help"):
            raise ValueError(f"options: {field.name} has no help; declare it with option(...)")
        kind = _split(hints[field.name])[0]
        if kind not in _KINDS and get_origin(kind) is not Literal:
            raise ValueError(
                f"options: {field.name} must be an int, float, bool, str or Literal, got {kind}"
            )


def make_options(network: str, options: type[Any], given: Mapping[str, Any]) -> Any:
    """Return the options of a network; options not given have their defaults.

    Args:
        network: its name, for messages.
        options: the dataclass that it declares.
        given: option name -> value.

    Raises:
        UserError: for an unknown name, or a value of another type or out of range.
    """
    hints = typing.get_type_hints(options)
    values = {}
    for name, value in given.items():
        _require_known(network, hints, name)
        values[name] = _checked(name, hints[name], value)
    try:
        return options(**values)
    except ValueError as error:
        raise UserError(f"network {network}, option {error}") from error


def of_evaluation(options: Any) -> dict[str, Any]:
    """Return the options of a network that have an effect in evaluation."""
    return {
        field.name: getattr(options, field.name)
        for field in dataclasses.fields(options)
        if not field.metadata["training_only"]
    }


def parse_options(network: str, options: type[Any], texts: list[str]) -> dict[str, Any]:
    """Read options as ``--option depth=5`` gives them.

    Args:
        network: its name, for messages.
        options: the dataclass that it declares.
        texts: each ``name=value``.

    Raises:
        UserError: for a text without ``=``, an unknown name, a name that comes twice, or a value of
            another type.
    """
    hints = typing.get_type_hints(options)
    values = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"--option {text!r}: expected name=value, such as depth=5")
        _require_known(network, hints, name)
        if name in values:
            raise UserError(f"--option {name} is given twice; give it once")
        values[name] = _parsed(name, hints[name], value)
    return values


def describe_options(options: type[Any]) -> list[tuple[str, str, str]]:
    """Return ``(name, default, help)`` of each option, as texts."""
    return [
        (field.name, _written(field.default), field.metadata["help"])
        for field in dataclasses.fields(options)
    ]


def _require_known(network: str, hints: Mapping[str, Any], name: str) -> None:
    if name not in hints:
        theirs = f"its options: {', '.join(hints)}" if hints else "it has none"
        raise UserError(
            f"network {network} has no option {name!r}{did_you_mean(name, hints)}; {theirs}"
        )


def _split(hint: Any) -> tuple[Any, bool]:
    """Return the type of an option without None, and whether None is allowed."""
    if get_origin(hint) not in (Union, types.UnionType):
        return hint, False
    kinds = [kind for kind in get_args(hint) if kind is not type(None)]
    return (kinds[0] if len(kinds) == 1 else hint), len(kinds) < len(get_args(hint))


def _checked(name: str, hint: Any, value: Any) -> Any:
    """Return a value of the option's type; a whole number becomes a float if one is expected."""
    kind, may_be_none = _split(hint)
    if value is None and may_be_none:
        return None
    if get_origin(kind) is Literal:
        if value in get_args(kind) and not isinstance(value, bool):
            return value
        expected = "one of " + ", ".join(map(str, get_args(kind)))
    else:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if kind is float and is_number and math.isfinite(value):
            return float(value)
        if kind is not float and type(value) is kind:
            return value
        expected = _KINDS[kind]
    raise UserError(f"option {name}: expected {expected}, got {value!r}")


def _parsed(name: str, hint: Any, text: str) -> Any:
    """Return the value that a text stands for."""
    kind, may_be_none = _split(hint)
    if may_be_none and text.lower() == "none":
        return None
    if get_origin(kind) is Literal:
        by_text = {str(value): value for value in get_args(kind)}
        return _checked(name, hint, by_text.get(text, text))
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        return _checked(name, hint, kind(text))
    except (KeyError, ValueError) as error:
        raise UserError(f"option {name}: expected {_KINDS[kind]}, got {text!r}") from error


def _written(value: Any) -> str:
    """Return a value as ``--option`` takes it."""
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)
