"""Check that a network can be exported."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from tiedlm.errors import UserError
from tiedlm.model import LanguageModel

HF_SOURCE = Path(__file__).with_name("huggingface")  # code that transformers loads


def hf_networks() -> list[str]:
    """Return the names of the networks that have code for transformers."""
    return sorted(path.stem.removeprefix("network_") for path in HF_SOURCE.glob("network_*.py"))


def require_network(model: LanguageModel, to: str, supported: Collection[str]) -> None:
    """Refuse a model whose network a format does not have.

    Args:
        model: any model.
        to: the format, as given to ``--to``.
        supported: names of the networks that the format has.

    Raises:
        UserError: naming them, and what takes the network instead.
    """
    name = model.config.network
    if name not in supported:
        instead = (
            "--to hf exports it" if name in hf_networks() else "tiedlm.load reads it in Python"
        )
        raise UserError(
            f"--to {to} is for the networks {', '.join(supported)}, and this run has {name}; "
            f"{instead}"
        )
