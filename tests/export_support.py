"""Make run folders for tests of export: untrained models of every shape with random weights."""

import torch

from tiedlm import LanguageModel, ModelConfig, Vocabulary
from tiedlm.files import write_json
from tiedlm.training.run import config_of, save_weights
from tiedlm.training.settings import Settings

WORDS = (
    "<eos>",
    "<unk>",
    "the",
    "a",
    "cat",
    "dog",
    "does",
    "n't",
    "see",
    "N",
    ",",
    ".",
    "it",
    "'s",
)

SHAPES = {
    "tied": {"d_embed": 12, "d_hidden": 12, "tied": True},
    "untied": {"d_embed": 10, "d_hidden": 14, "tied": False},
    "projected": {"d_embed": 10, "d_hidden": 11, "tied": True, "n_layers": 3},
    "tied-with-bias": {"d_embed": 9, "d_hidden": 9, "tied": True, "decoder_bias": True},
    "one-layer": {"d_embed": 8, "d_hidden": 8, "tied": False, "n_layers": 1, "decoder_bias": False},
}


def make_run(folder, shape, tokenizer=None, words=WORDS, data="tiny"):
    """Write a run folder and return its model; ``shape`` is a name in SHAPES or the options."""
    torch.manual_seed(7)
    options = SHAPES[shape] if isinstance(shape, str) else shape
    model = LanguageModel(ModelConfig(vocab_size=len(words), init_range=0.8, **options))
    if model.decoder.bias is not None:
        torch.nn.init.uniform_(model.decoder.bias, -1, 1)
    model.vocabulary = Vocabulary(words)
    settings = Settings(data=data).to_dict()
    write_json(
        folder / "config.json",
        config_of(model, settings, {"name": "tiny", "origin": str(folder), "tokenizer": tokenizer})
        | {"id": "0123456789abcdef"},
    )
    save_weights(model, folder / "model.safetensors", "0123456789abcdef")
    model.vocabulary.save(folder / "vocabulary.txt")
    return model.eval()
