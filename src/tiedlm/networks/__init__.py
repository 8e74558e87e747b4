"""Networks that read word vectors: their protocol, their registry, and the built-in ones.

Begin with ``network.py``, which has the protocol and the registry. A network is registered when its
module is imported, so all built-in networks are imported here.

- ``options.py`` has the options of a network, and ``state.py`` handles the carried state.
- ``lstm.py`` has the LSTM with its readable layer, ``lstm_function.py`` the fast layer, and
  ``backends/`` its compiled and Triton versions. ``lstm_segment.py``, ``narrow.py`` and
  ``by_hand.py`` are for dynamic evaluation.
- ``awd_lstm.py`` is a network of its own. ``gru.py``, ``rhn.py`` and ``elman.py`` share
  ``recurrent.py``; the files ``*_function.py`` have their fast layers.
- ``transformer.py`` (with ``transformer_layer.py``) and ``encoder.py`` share ``attention.py``.
"""

from tiedlm.networks.awd_lstm import AWDLSTM
from tiedlm.networks.elman import Elman
from tiedlm.networks.encoder import EncoderOptions, TransformerEncoder
from tiedlm.networks.gru import GRU
from tiedlm.networks.lstm import LSTMState, VariationalLSTM
from tiedlm.networks.network import (
    Network,
    about,
    builder_of,
    network_options,
    options_class,
    register,
    registered,
)
from tiedlm.networks.options import describe_options, option, parse_options
from tiedlm.networks.rhn import RHN
from tiedlm.networks.state import State
from tiedlm.networks.transformer import Transformer, TransformerOptions

__all__ = [
    "AWDLSTM",
    "GRU",
    "RHN",
    "Elman",
    "EncoderOptions",
    "LSTMState",
    "Network",
    "State",
    "Transformer",
    "TransformerEncoder",
    "TransformerOptions",
    "VariationalLSTM",
    "about",
    "builder_of",
    "describe_options",
    "network_options",
    "option",
    "options_class",
    "parse_options",
    "register",
    "registered",
]
