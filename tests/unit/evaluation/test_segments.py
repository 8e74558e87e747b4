"""Reading in segments equals reading one stream, for models that forget and that do not."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tiedlm.evaluation import segments, token_losses
from tiedlm.evaluation.perplexity import hidden_windows, target_losses
from tiedlm.evaluation.segments import segment_windows
from tiedlm.model import LanguageModel, ModelConfig

IDS = np.random.default_rng(1).integers(0, 17, size=803)


def model(forget=0.0, scale=0.5, **options):
    torch.manual_seed(0)
    config = {"vocab_size": 17, "d_embed": 6, "d_hidden": 6} | options
    m = LanguageModel(ModelConfig(init_range=scale, **config)).double()
    with torch.no_grad():
        for layer in m.lstm.layers:
            layer.bias[6:12] = forget  # the bias of the forget gate: with +20 nothing is forgotten
    return m


@pytest.fixture
def always(monkeypatch):
    monkeypatch.setattr(segments, "LEAST_LENGTH", 1)


@pytest.mark.parametrize("forget", [-1.0, 0.0, 3.0, 20.0])
@pytest.mark.parametrize("d_hidden", [6, 8])
@pytest.mark.parametrize("tied", [True, False])
def test_segments_give_the_losses_of_one_stream(forget, d_hidden, tied, monkeypatch):
    m = model(d_hidden=d_hidden, tied=tied)
    with torch.no_grad():
        for layer in m.lstm.layers:
            layer.bias[d_hidden : 2 * d_hidden] = forget
    one_stream = token_losses(m, IDS)
    monkeypatch.setattr(segments, "LEAST_LENGTH", 1)
    np.testing.assert_allclose(token_losses(m, IDS), one_stream, rtol=0, atol=2e-5)


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("tokens", [17, 18, 32, 33, 400, 803])
@pytest.mark.parametrize("window", [1, 16, 40, 512])
def test_every_token_has_a_loss_whatever_the_length(tokens, window):
    m = model()
    seen = np.zeros(tokens - 1, dtype=int)
    for hidden, targets, positions in segment_windows(m, IDS[:tokens], window, 12):
        np.add.at(seen, positions, 1)
        assert hidden.shape[:2] == targets.shape == positions.shape
        assert (targets.numpy() == IDS[1:tokens][positions]).all()
    assert seen.min() >= 1


def read_tokens(m):
    """Count the scored tokens, with repetitions."""
    return sum(p.size for _, _, p in segment_windows(m, IDS, 16, segments=4))


def test_nothing_is_read_much_more_than_twice_where_segments_never_meet(monkeypatch):
    monkeypatch.setattr(segments, "KEPT_BACK", 0)
    # It is read in segments, read again, and continued from the end of the second.
    assert 2 * len(IDS) < read_tokens(model(forget=20.0)) <= 2.5 * len(IDS)


def test_a_short_text_is_read_as_one_stream():
    enough = segments.SEGMENTS * segments.LEAST_LENGTH
    assert segments.segments_for(model(), enough) == segments.SEGMENTS
    assert segments.segments_for(model(), enough - 1) == 1


def test_a_network_that_carries_no_state_is_read_as_one_stream():
    stateless = SimpleNamespace(forgets=True)
    m = SimpleNamespace(network=stateless, config=model().config, initial_state=lambda streams: ())
    assert segments.segments_for(m, 10**6) == 1


def test_a_wide_model_is_read_in_more_segments():
    wide = LanguageModel(ModelConfig(vocab_size=5, d_embed=2, d_hidden=segments.WIDE, n_layers=1))
    assert segments.segments_for(wide, 10**6) > segments.SEGMENTS


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("forget", [-1.0, 20.0])
@pytest.mark.parametrize("kept_back", [0, 500, 2**24])
@pytest.mark.parametrize("most_length", [1, 7, 20, 60])
def test_blocks_of_any_length_and_any_memory_give_the_losses_of_one_stream(
    forget, kept_back, most_length, monkeypatch
):
    m = model(forget)
    one_stream = torch.cat([target_losses(m, *pair) for pair in hidden_windows(m, IDS)])
    monkeypatch.setattr(segments, "KEPT_BACK", kept_back)
    monkeypatch.setattr(segments, "MOST_LENGTH", most_length)
    losses = token_losses(m, IDS, window=30)
    np.testing.assert_allclose(losses, one_stream.numpy(), rtol=0, atol=2e-5)


def test_held_back_tokens_are_scored_once(monkeypatch):
    m = model(forget=-3.0)
    assert read_tokens(m) == len(IDS) - 1
    monkeypatch.setattr(segments, "KEPT_BACK", 0)
    assert len(IDS) < read_tokens(m) < 1.3 * len(IDS)


def test_the_mode_is_restored():
    m = model(dropout_hidden=0.5).train()
    list(segment_windows(m, IDS, 16, 12))
    assert m.training
