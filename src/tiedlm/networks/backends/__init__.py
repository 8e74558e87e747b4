"""The LSTM's recurrence in compiled C (for a CPU) and in Triton (for a GPU).

Both are tested against the PyTorch version in ``networks/lstm_function.py``.
"""
