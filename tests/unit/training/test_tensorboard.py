"""Metrics are written as TensorBoard's files."""

import sys

import pytest

from tiedlm.errors import UserError
from tiedlm.training.tensorboard import TensorBoard

HISTORY = [
    {"epoch": epoch, "step": 10 * epoch, "lr": 1.0, "valid_ppl": 100.0 / epoch}
    for epoch in (1, 2, 3)
]


def read(folder, name):
    """Return ``[(epoch, value), ...]`` as TensorBoard itself reads them."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(folder))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


def test_every_epoch_is_written_once_even_after_a_kill(tmp_path):
    pytest.importorskip("tensorboard")
    board = TensorBoard(tmp_path)
    for count in (0, 1, 2):
        board(HISTORY[:count])
    # A kill in epoch 2 after its metrics were written, resumed from the checkpoint before it.
    board = TensorBoard(tmp_path)
    board(HISTORY[:1])
    for count in (2, 3):
        board(HISTORY[:count])
    found = read(tmp_path / "tensorboard", "valid_ppl")
    assert found == [(1, 100.0), (2, 50.0), (3, pytest.approx(100 / 3))]


def test_evaluations_inside_an_epoch_are_plotted_over_words(tmp_path):
    pytest.importorskip("tensorboard")
    inside = [
        {"inside_epoch": epoch, "step": 5, "tokens": words, "lr": 1.0, "valid_ppl": value}
        for epoch, words, value in ((1, 500, 150.0), (1, 700, None), (2, 1500, 90.0))
    ]
    lines = [*inside[:2], HISTORY[0], inside[2], HISTORY[1]]
    board = TensorBoard(tmp_path)
    for count in range(len(lines) + 1):
        board(lines[:count])
    assert read(tmp_path / "tensorboard", "inside_epoch/valid_ppl") == [(500, 150.0), (1500, 90.0)]
    assert read(tmp_path / "tensorboard", "valid_ppl") == [(1, 100.0), (2, 50.0)]


def test_the_missing_package_is_named_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    with pytest.raises(UserError, match=r"pip install 'tiedlm\[tensorboard\]'"):
        TensorBoard(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_folder_that_tensorboard_cannot_write_into_is_refused_before_training(tmp_path):
    pytest.importorskip("tensorboard")
    with pytest.raises(UserError, match="is not UTF-8: TensorBoard cannot write into"):
        TensorBoard(tmp_path / "b\udcffd")
