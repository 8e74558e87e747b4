"""Networks that read word vectors: the protocol they follow, their registry, and those built in.

Importing a module of a network registers it, so each built-in one is imported here.
"""

from tiedlm.networks import lstm as lstm
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
