"""The memory of an evaluation does not grow with the text, or by four bytes a word."""

import importlib
import tracemalloc

import numpy as np
import pytest

from tiedlm.evaluation import evaluate, gradient_rms, token_losses
from tiedlm.model import LanguageModel, ModelConfig

SHORT, LONG = 5_000, 50_000  # words
MODEL = LanguageModel(ModelConfig(vocab_size=13, d_embed=4, d_hidden=4)).float()
IDS = np.random.default_rng(0).integers(0, 13, LONG, dtype=np.int32)


@pytest.mark.parametrize(
    ("read", "bytes_of_word"),
    [
        (lambda ids: evaluate(MODEL, ids, unk_id=1), 0),
        (lambda ids: token_losses(MODEL, ids), 4),
        (lambda ids: gradient_rms(MODEL, ids), 4),  # Python's own, of many small windows
    ],
    ids=["evaluate", "token_losses", "gradient_rms"],
)
def test_a_longer_text_needs_no_more_than_its_losses(monkeypatch, read, bytes_of_word):
    """Arrays are counted here; the tensors of a window have one size in any text."""
    module = importlib.import_module("tiedlm.evaluation.perplexity")  # not the function
    monkeypatch.setattr(module, "SPAN", 2000)
    for name in ("LEAST_LENGTH", "MOST_LENGTH"):  # of a segment
        monkeypatch.setattr(f"tiedlm.evaluation.segments.{name}", 100)
    peaks = []
    for words in (SHORT, SHORT, LONG):  # the first one imports and compiles
        tracemalloc.start()
        read(IDS[:words])
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] - peaks[1] < (bytes_of_word + 1) * (LONG - SHORT)
