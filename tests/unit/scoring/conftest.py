"""Share a small float64 model and text for it."""

import random

import pytest
import torch

from tiedlm import LanguageModel, ModelConfig, Vocabulary
from tiedlm.scoring import sentences

WORDS = ("<eos>", "<unk>", *(f"w{i}" for i in range(41)))


@pytest.fixture
def vocabulary():
    return Vocabulary(WORDS)


@pytest.fixture(params=[False, True], ids=["untied", "tied"])
def model(request, vocabulary):
    torch.manual_seed(1)
    config = ModelConfig(
        vocab_size=len(vocabulary), d_embed=9, d_hidden=11, tied=request.param, decoder_bias=True,
        init_range=0.9, dropout_input=0.4, dropout_hidden=0.4,
    )  # fmt: skip
    model = LanguageModel(config).double().eval()
    torch.nn.init.uniform_(model.decoder.bias)
    return model


@pytest.fixture
def text(vocabulary):
    """Return 80 sentences of 1 to 30 words, some unknown."""
    rng = random.Random(0)
    lines = [
        " ".join(rng.choice([*WORDS[2:], "unheard-of"]) for _ in range(rng.randint(1, 30)))
        for _ in range(80)
    ]
    return list(sentences(lines, vocabulary, tokenizer=False, blank_lines=False))
