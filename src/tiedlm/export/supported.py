"""Check that a network can be exported."""

from __future__ import annotations

from collections.abc import Collection

from tiedlm.errors import UserError
from tiedlm.model import LanguageModel


def require_network(model: LanguageModel, to: str, supported: Collection[str]) -> None:
    """Refuse a model whose network a format does not have.

    Args:
        model: any model.
        to: the format, as given to ``--to``.
        supported: names of the networks that the format has.

    Raises:
        UserError: naming them.
    """
    name = model.config.network
    if name not in supported:
        raise UserError(
            f"--to {to} is for the networks {', '.join(supported)}, and this run has {name}; "
            "tiedlm.load reads it in Python"
        )
