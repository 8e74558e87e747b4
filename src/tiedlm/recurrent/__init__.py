"""Recurrent layers with variational dropout."""

from tiedlm.recurrent.lstm import LSTMState, VariationalLSTM

__all__ = ["LSTMState", "VariationalLSTM"]
