"""Check that a network can be exported."""

from __future__ import annotations

from tiedlm.errors import UserError
from tiedlm.model import LanguageModel
from tiedlm.networks import VariationalLSTM


def lstm_of(model: LanguageModel, to: str) -> VariationalLSTM:
    """Return the LSTM of a model.

    Args:
        model: any model.
        to: the format, as given to ``--to``.

    Raises:
        UserError: if the model has another network.
    """
    if not isinstance(model.network, VariationalLSTM):
        raise UserError(
            f"--to {to} is for the network lstm, and this run has {model.config.network}; "
            "tiedlm.load reads it in Python"
        )
    return model.network
