"""The embedding's gradient is split by path."""

import pytest
import torch

from studies.gradient_paths import embedding_gradients, path_norms
from tiedlm.data import load_corpus
from tiedlm.model import LanguageModel, ModelConfig
from tiedlm.training.settings import Settings


def tied(vocab_size=15, **options):
    torch.manual_seed(0)
    return LanguageModel(
        ModelConfig(vocab_size=vocab_size, d_embed=6, d_hidden=6, tied=True, **options)
    ).double()


@pytest.mark.parametrize("alpha", [0.0, 3.0])
def test_the_three_paths_add_up_to_the_gradient(alpha):
    model = tied()
    tokens = torch.randint(15, (3, 9))
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    hidden, _ = model(inputs)
    model.loss(hidden, targets, alpha, 5.0).loss.backward()
    parts = embedding_gradients(model, inputs, targets, alpha, 5.0)
    torch.testing.assert_close(sum(parts), model.embedding.weight.grad.to_dense())
    assert (parts[2] == 0).all() == (alpha == 0)
    unread = torch.ones(15, dtype=torch.bool)
    unread[inputs.flatten()] = False
    assert (parts[0][unread] == 0).all()


def test_an_untied_model_is_refused():
    model = LanguageModel(ModelConfig(vocab_size=15, d_embed=6, d_hidden=6, tied=False))
    with pytest.raises(ValueError, match="expected a tied one"):
        embedding_gradients(model, torch.zeros(1, 2).long(), torch.zeros(1, 2).long(), 0.0, 5.0)


def test_norms_are_means_over_windows_and_leave_no_trace(tiny_corpus):
    corpus = load_corpus(str(tiny_corpus), progress=False)
    model = tied(len(corpus.vocabulary), dropout_hidden=0.5).float().eval()
    settings = Settings(data=str(tiny_corpus), alpha=2.0, batch_size=4, bptt=5, tied=True)
    before = torch.get_rng_state()
    first = path_norms(model, settings, corpus, windows=4)
    assert torch.equal(before, torch.get_rng_state())
    assert not model.training
    assert path_norms(model, settings, corpus, windows=4) == first
    assert all(value > 0 for value in first)
    assert first.total <= first.input + first.output + first.soft_target
