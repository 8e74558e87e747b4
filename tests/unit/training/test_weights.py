"""Weights of any shape are written with their SHA-256 and read back."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from tiedlm.errors import UserError
from tiedlm.model import LanguageModel, ModelConfig
from tiedlm.training.run import load_weights, save_weights


@pytest.mark.parametrize("shape", [(), (1,), (3, 0)])
def test_a_parameter_of_any_shape_round_trips(tmp_path, shape):
    """A network of one's own may have a gain that is a single number."""
    saved, loaded = (LanguageModel(ModelConfig(vocab_size=5, d_embed=2, d_hidden=2)) for _ in "ab")
    for value, model in ((1.5, saved), (0.0, loaded)):
        model.network.gain = torch.nn.Parameter(torch.full(shape, value))
    save_weights(saved, tmp_path / "model.safetensors")
    load_weights(loaded, tmp_path / "model.safetensors")
    assert torch.equal(loaded.network.gain, saved.network.gain)
    assert torch.equal(loaded.embedding.weight, saved.embedding.weight)


def test_weights_that_another_program_wrote_are_named_as_such(tmp_path):
    """For example, transformers writes an exported model again after it was trained further."""
    model, path = LanguageModel(ModelConfig(vocab_size=5, d_embed=2)), tmp_path / "w.safetensors"
    save_weights(model, path)
    save_file(load_file(path), path, {"format": "pt"})
    with pytest.raises(UserError, match=r"no SHA-256 to check it by: .* another program"):
        load_weights(model, path)


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_weights_that_are_not_finite_are_refused(tmp_path, value):
    model, path = LanguageModel(ModelConfig(vocab_size=5, d_embed=2)), tmp_path / "w.safetensors"
    with torch.no_grad():
        model.decoder.bias[3] = value
    save_weights(model, path)
    with pytest.raises(UserError, match=r"tensor 'decoder.bias' has values that are not finite"):
        load_weights(model, path)
