"""The protocol that every network follows, and the registry of networks.

A network is an ``nn.Module`` with the members of :class:`Network`. One line registers it::

    @register("elman")
    class Elman(nn.Module):
        def __init__(self, config: ModelConfig) -> None: ...

From then on ``ModelConfig(network="elman")`` and ``tiedlm train --network elman`` build it. The
name is also the prefix of its parameters in saved runs, such as ``elman.weight_hh``. A network can
declare options of its own, besides widths, layers and dropout: see ``options.py``.

Shape letters: T steps, B streams, E width of the word vectors, H width of the hidden states.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeAlias, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn

from tiedlm.arithmetic import is_autocast
from tiedlm.errors import UserError, did_you_mean
from tiedlm.networks.options import NoOptions, check_declaration, make_options
from tiedlm.networks.state import State

S = TypeVar("S", bound=State)
MEMBERS = ("d_hidden", "forgets", "initial_state", "forward_time_major", "share_masks")
TAKEN = ("embedding", "decoder")  # modules that every model has beside its network


class Network(Protocol[S]):
    """An ``nn.Module`` that reads word vectors.

    Attributes:
        d_hidden: width of what the classifier reads.
        forgets: whether two different states become equal, up to rounding, after enough of the same
            words. If True, evaluation reads segments of a long text in parallel. If False, it reads
            the text as one stream. A network that computes all words of a window at once gains
            nothing from parallel segments, and says False.
    """

    d_hidden: int
    forgets: bool

    def initial_state(self, batch_size: int) -> S:
        """Return the state before the first word, in the type and on the device of the weights."""
        ...

    def forward_time_major(self, x_TBE: Tensor, state: S | None) -> tuple[Tensor, S]:
        """Read a window of word vectors.

        In training mode each call draws the dropout masks of this window. In evaluation mode
        nothing is dropped, and how a text is cut into windows changes nothing but rounding.

        Args:
            x_TBE: ``(T, B, E)``: time comes first.
            state: the state after the last window; None is the initial state.

        Returns:
            ``(hidden, state)``: ``(T, B, H)`` of the last layer, masked, and the state after the
            last step, still attached to the graph.
        """
        ...

    def share_masks(self, rank: int, world: int) -> None:
        """Draw masks as process ``rank`` of ``world`` that share a batch.

        A stream gets the mask that it would have in one process:
        :func:`tiedlm.dropout.stream_mask` draws it.
        """
        ...


@runtime_checkable
class GivesRaw(Protocol):
    """A network that also returns its output before dropout, for ``--tar``."""

    def forward_with_raw(self, x_TBE: Tensor, state: Any) -> tuple[Tensor, Tensor, Any]:
        """Read a window; return ``(hidden, raw, state)``, where ``raw`` is the undropped output."""
        ...


def run_with_raw(
    network: Network[Any], x_TBE: Tensor, state: State | None
) -> tuple[Tensor, Tensor, Any]:
    """Read a window; return ``(hidden, raw, state)``, where ``raw`` is the undropped output.

    If the network does not return its undropped output, ``raw`` is ``hidden``.
    """
    if isinstance(network, GivesRaw):
        return network.forward_with_raw(x_TBE, state)
    hidden_TBH, state = network.forward_time_major(x_TBE, state)
    return hidden_TBH, hidden_TBH, state


@runtime_checkable
class StartsElsewhere(Protocol):
    """A module that chooses the initial values of some of its parameters itself."""

    def set_own_start(self) -> None:
        """Set these parameters, after the others were drawn in the common way."""
        ...


Builder: TypeAlias = Callable[[Any], Network[Any]]  # from a ModelConfig
B = TypeVar("B", bound=Builder)
_BUILDERS: dict[str, Builder] = {}
_OPTIONS: dict[str, type[Any]] = {}
_ABOUT: dict[str, str] = {}


def register(name: str, options: type[Any] = NoOptions, about: str = "") -> Callable[[B], B]:
    """Return a decorator that makes a network known by a name.

    The decorator is for a class whose argument is a :class:`tiedlm.ModelConfig`, or for a function
    that builds a network from one.

    Args:
        name: for ``ModelConfig(network=...)`` and ``--network``; an identifier.
        options: the dataclass of the network's options.
        about: what the network is, for ``tiedlm info --networks``.

    Raises:
        ValueError: if the name is no identifier, is "embedding" or "decoder", or is another
            network's; or if the class cannot hold options.
    """
    if not name.isidentifier() or name in TAKEN:
        raise ValueError(
            f"name: expected an identifier other than {' and '.join(TAKEN)}, got {name!r}"
        )
    check_declaration(options)

    def add(builder: B) -> B:
        known = _BUILDERS.get(name)
        if known is not None and _place(known) != _place(builder):
            raise ValueError(f"name: the network {name!r} is registered already")
        _BUILDERS[name] = builder
        _OPTIONS[name] = options
        _ABOUT[name] = about
        return builder

    return add


def _place(builder: Any) -> tuple[str, str]:
    """Return where a builder is defined, so that a notebook cell can be run again."""
    return builder.__module__, builder.__qualname__


def registered() -> list[str]:
    """Return the names of all networks."""
    return list(_BUILDERS)


def builder_of(name: str) -> Builder:
    """Return the class or the function that builds the network of this name.

    Raises:
        UserError: for an unknown name; the message lists the known names.
    """
    if name not in _BUILDERS:
        raise UserError(
            f"network {name!r} is not registered{did_you_mean(name, _BUILDERS)}; known: "
            f"{', '.join(_BUILDERS)}; the program that defines a network of your own registers it"
        )
    return _BUILDERS[name]


def about(name: str) -> str:
    """Return what a network is, in a few words, or "" if its author does not say it.

    Raises:
        UserError: for an unknown network; the message lists the known networks.
    """
    builder_of(name)
    return _ABOUT.get(name, "")


def options_class(name: str) -> type[Any]:
    """Return the dataclass of a network's options.

    Raises:
        UserError: for an unknown network; the message lists the known networks.
    """
    builder_of(name)
    return _OPTIONS.get(name, NoOptions)


def network_options(name: str, given: Mapping[str, Any]) -> Any:
    """Return the options of a network as its dataclass; options not given have their defaults.

    Raises:
        UserError: for an unknown network or option, or a value of another type or out of range.
    """
    return make_options(name, options_class(name), given)


def check_members(name: str, network: Any) -> None:
    """Check that a network has the members of :class:`Network`, before anything is trained.

    Raises:
        UserError: naming the first one that is missing.
    """
    for member in MEMBERS:
        if not hasattr(network, member):
            raise UserError(
                f"network {name!r} has no {member}; a network has {', '.join(MEMBERS)} "
                "(docs/own_network.md)"
            )


def check_sizes(**sizes: int) -> None:
    """Check that widths and numbers of words or layers are positive integers.

    Raises:
        ValueError: naming the argument and what was given.
    """
    for name, value in sizes.items():
        if not hasattr(value, "__index__") or value < 1:
            raise ValueError(f"{name}: expected a positive integer, got {value!r}")


def check_type(x: Tensor, dtype: torch.dtype) -> None:
    """Check that a network's input has the type of its weights; autocast allows other floats.

    The fast layers multiply in the type of the input. In an integer type the weights would be 0.

    Raises:
        ValueError: naming both types.
    """
    if x.dtype != dtype and not (is_autocast(x) and x.is_floating_point()):
        raise ValueError(f"x: expected dtype {dtype}, like the weights, got {x.dtype}")


def draw_parameters(module: nn.Module, init_range: float) -> None:
    """Draw parameters from U(-init_range, init_range); set those named ``...bias`` to zero.

    Then each part of the module that is a :class:`StartsElsewhere` sets its own.
    """
    for name, parameter in module.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
        else:
            nn.init.uniform_(parameter, -init_range, init_range)
    for part in module.modules():
        if isinstance(part, StartsElsewhere):
            part.set_own_start()
