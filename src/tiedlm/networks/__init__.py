"""Networks that read word vectors: their protocol, their registry, and the built-in ones.

Importing the module of a network registers it. So each built-in one is imported here.
"""

from tiedlm.networks.lstm import LSTMState, VariationalLSTM
from tiedlm.networks.network import Network, builder_of, register, registered
from tiedlm.networks.state import State

__all__ = [
    "LSTMState",
    "Network",
    "State",
    "VariationalLSTM",
    "builder_of",
    "register",
    "registered",
]
