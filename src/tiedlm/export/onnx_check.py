"""Compare ONNX files with PyTorch, and measure the perplexity of the int8 model.

Shape letters: B sequences, T steps, V vocabulary, H hidden width, L layers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tiedlm.errors import require
from tiedlm.evaluation.perplexity import WINDOW, perplexity
from tiedlm.model import LanguageModel

Floats = npt.NDArray[np.float32]


def session(path: Path) -> Any:
    """Open an ONNX file in onnxruntime, on as many threads as PyTorch uses."""
    runtime = require("onnxruntime", "onnx", "running an ONNX file")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors only
    return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def zero_state(step: Any, batch: int) -> dict[str, Floats]:
    """Return the initial state for a session of ``step.onnx``, by the names of its parts."""
    parts = {part.name: part.shape for part in step.get_inputs()[1:]}
    return {
        name: np.zeros((shape[0], batch, *shape[2:]), np.float32) for name, shape in parts.items()
    }


def read_window(
    step: Any, tokens_BT: npt.NDArray[np.int64], state: dict[str, Floats]
) -> tuple[Floats, dict[str, Floats]]:
    """Return the log-probabilities after each word of a window, and the state after it."""
    log_probs_BTV, *parts = step.run(None, {"tokens": tokens_BT, **state})
    return log_probs_BTV, dict(zip(state, parts, strict=True))


def largest_difference(
    model: LanguageModel, path: Path, length: int = 500, window: int = 50
) -> float:
    """Return the largest difference in log-probability between ``step.onnx`` and the model.

    Both read two texts of random words, window by window, carrying the state along.
    """
    step = session(path)
    state_onnx = zero_state(step, 2)
    state_torch = None
    generator = np.random.default_rng(0)
    ids_BT = generator.integers(0, model.config.vocab_size, size=(2, length))
    largest = 0.0
    for start in range(0, length, window):
        piece_BT = ids_BT[:, start : start + window]
        log_probs_BTV, state_onnx = read_window(step, piece_BT, state_onnx)
        with torch.no_grad():
            hidden, state_torch = model(torch.from_numpy(piece_BT), state_torch)
            expected_BTV = model.decode(hidden).log_softmax(dim=-1).numpy()
        largest = max(largest, float(np.abs(log_probs_BTV - expected_BTV).max()))
    return largest


def onnx_perplexity(path: Path, ids: npt.NDArray[np.integer]) -> float:
    """Return the perplexity of a text under ``step.onnx``, as in :mod:`tiedlm.evaluation`."""
    step = session(path)
    state = zero_state(step, 1)
    nll = 0.0
    for start in range(0, len(ids) - 1, WINDOW):
        piece = np.asarray(ids[start : start + WINDOW + 1], dtype=np.int64)
        log_probs_BTV, state = read_window(step, piece[None, :-1], state)
        chosen_T = log_probs_BTV[0, np.arange(len(piece) - 1), piece[1:]]
        nll -= float(chosen_T.sum(dtype=np.float64))
    return perplexity(nll, len(ids) - 1)
