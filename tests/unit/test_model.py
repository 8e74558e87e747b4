"""The language model has four variants, the right shapes and the right loss."""

import math
import re

import numpy as np
import pytest
import torch

from tiedlm import Vocabulary
from tiedlm.analysis.predictions import generate, next_words
from tiedlm.loss import augmented_cross_entropy
from tiedlm.model import LanguageModel, ModelConfig

VARIANTS = [(False, 0.0), (False, 1.3), (True, 0.0), (True, 1.3)]


def small(**options):
    torch.manual_seed(0)
    return LanguageModel(ModelConfig(**({"vocab_size": 11, "d_embed": 4, "d_hidden": 4} | options)))


@pytest.mark.parametrize(("tied", "alpha"), VARIANTS)
def test_each_variant_learns_a_repeating_text(tied, alpha):
    model = small(tied=tied, d_embed=16, d_hidden=16)
    text = torch.arange(6).repeat(4)[None]
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    losses = []
    for _ in range(100):
        hidden, _ = model(text[:, :-1])
        out = model.loss(hidden, text[:, 1:], alpha=alpha, temperature=2.0)
        optimizer.zero_grad()
        out.loss.backward()
        optimizer.step()
        losses.append(out.ce.item())
    assert losses[0] > 2.2  # log 11 = 2.4
    assert losses[-1] < 0.8  # log 6 = 1.8, the loss without word order


def test_shapes_at_the_edges_are_batch_first():
    model = small(n_layers=3, d_hidden=6)
    hidden, state = model(torch.zeros(2, 5, dtype=torch.int64))
    assert hidden.shape == (2, 5, 6)
    assert state.h.shape == state.c.shape == (3, 2, 6)
    assert model.decode(hidden).shape == (2, 5, 11)


def test_loss_is_the_loss_of_the_logits():
    model = small().double()
    model.decoder.bias.data.normal_()
    tokens = torch.randint(11, (2, 6))
    hidden, _ = model(tokens[:, :-1])
    expected = torch.nn.functional.cross_entropy(
        model.decode(hidden).flatten(0, 1), tokens[:, 1:].flatten()
    )
    torch.testing.assert_close(model.loss(hidden, tokens[:, 1:]).loss, expected)


def test_loss_passes_every_option_on():
    model = small(d_hidden=6).double()
    hidden, _ = model(torch.randint(11, (2, 5)))
    targets = torch.randint(11, (2, 5))
    options = {"alpha": 7.0, "temperature": 3.0, "target_grad": False}
    out = model.loss(hidden, targets, **options)
    expected = augmented_cross_entropy(
        hidden,
        model.decoder.weight,
        targets,
        bias=model.decoder.bias,
        embedding=model.embedding.weight,
        **options,
    )
    torch.testing.assert_close(out.loss, expected.loss)
    torch.testing.assert_close(out.aug, expected.aug)
    torch.testing.assert_close(out.loss, out.ce + 7.0 * out.aug)


def test_streams_do_not_see_each_other():
    model = small()
    tokens = torch.randint(11, (3, 5))
    together, _ = model(tokens)
    alone, _ = model(tokens[1:2])
    torch.testing.assert_close(together[1:2], alone)


def test_weights_start_within_their_range_and_biases_at_zero():
    model = small(init_range=0.05)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            assert (parameter == 0).all()
        else:
            assert 0.02 < parameter.abs().max() <= 0.05


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"vocab_size": 0}, "vocab_size"),
        ({"d_embed": 0}, "d_embed"),
        ({"d_hidden": -1}, "d_hidden"),
        ({"n_layers": 0}, "n_layers"),
        ({"dropout_input": 1.5}, "dropout_input"),
        ({"dropout_hidden": -0.1}, "dropout_hidden"),
        ({"d_hidden": 4.5}, "d_hidden: expected a positive integer, got 4.5"),
        ({"n_layers": "2"}, "n_layers: expected a positive integer, got '2'"),
        ({"init_range": 0}, "init_range"),
        ({"init_range": math.nan}, "init_range"),
        ({"init_range": math.inf}, "init_range"),
    ],
)
def test_a_wrong_option_is_named(options, name):
    with pytest.raises(ValueError, match=name):
        small(**options)
    with pytest.raises(ValueError, match=name):  # even before the model is built
        ModelConfig(**{"vocab_size": 7} | options)


@pytest.mark.parametrize("dropout_words", [0.0, 0.5])
@pytest.mark.parametrize("shape", [(3,), (2, 0)])
def test_tokens_of_a_wrong_shape_are_refused(shape, dropout_words):
    expected = f"tokens: expected shape (B, T) of one step or more, got {shape}"
    with pytest.raises(ValueError, match=re.escape(expected)):
        small(dropout_words=dropout_words)(torch.zeros(shape, dtype=torch.int64))


@pytest.mark.parametrize("tied", [True, False])
def test_a_custom_head_trains_with_any_optimizer(tied):
    model = LanguageModel(ModelConfig(vocab_size=9, d_embed=4, d_hidden=4, tied=tied))
    model(torch.tensor([[1, 2, 3]]))[0].sum().backward()
    assert model.embedding.weight.grad.layout == torch.strided
    torch.optim.Adam([model.embedding.weight]).step()


def test_the_mode_of_modules_is_restored():
    model = LanguageModel(ModelConfig(vocab_size=11, d_embed=4, d_hidden=4))
    model.lstm.eval()
    with model.mode(training=True):
        assert model.lstm.training
    assert (model.training, model.lstm.training, model.embedding.training) == (True, False, True)


def test_sampling_drops_nothing_and_keeps_the_mode():
    torch.manual_seed(0)
    model = LanguageModel(ModelConfig(vocab_size=11, d_embed=4, d_hidden=4, dropout_hidden=0.9))
    model.vocabulary = Vocabulary([*"abcdefghi", "<unk>", "<eos>"])
    context = np.array([1, 2, 3])
    assert next_words(model, context) == next_words(model, context)
    words = generate(model, context, 3, temperature=0)
    next(words)
    assert model.training, "between two words"
    assert list(words) == list(generate(model, context, 3, temperature=0))[1:]
    assert model.training
