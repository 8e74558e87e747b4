"""Monte-Carlo dropout averages probabilities over masks that last for a window."""

import numpy as np
import pytest
import torch

from tiedlm.evaluation import monte_carlo_evaluate, monte_carlo_losses, token_losses
from tiedlm.evaluation.methods import Methods
from tiedlm.model import LanguageModel, ModelConfig
from tiedlm.training import evaluated
from tiedlm.training.method_request import Request

IDS = np.random.default_rng(0).integers(0, 13, size=61)


def model(p=0.4, **options):
    torch.manual_seed(0)
    config = {"vocab_size": 13, "d_embed": 6, "d_hidden": 6} | options
    return LanguageModel(
        ModelConfig(init_range=0.8, dropout_input=p, dropout_hidden=p, **config)
    ).double()


@pytest.mark.parametrize("samples", [1, 3])
def test_without_dropout_it_is_the_plain_evaluation(samples):
    m = model(p=0.0)
    np.testing.assert_allclose(
        monte_carlo_losses(m, IDS, samples, window=7), token_losses(m, IDS), rtol=1e-5
    )


@pytest.mark.parametrize("options", [{}, {"tied": True}, {"tied": True, "d_hidden": 8}])
def test_it_is_the_mean_probability_over_streams_that_each_have_their_own_masks(options):
    m = model(**options)
    got = monte_carlo_losses(m, IDS, 3, window=20, seed=5)
    torch.manual_seed(5)
    m.train()
    expected, state = [], None
    with torch.no_grad():
        for start in (0, 20, 40):
            tokens = torch.from_numpy(IDS[start : start + 21]).expand(3, -1)
            hidden, state = m(tokens[:, :-1], state)
            p = m.decode(hidden).softmax(-1).gather(2, tokens[:, 1:, None])[..., 0]
            expected.append(-p.mean(0).log())
    np.testing.assert_allclose(got, torch.cat(expected).numpy(), rtol=1e-5)


def test_each_sample_has_recurrent_weights_of_its_own():
    """The streams of a training batch share them, so samples read as a batch would, too."""
    options = {"network": "awd_lstm", "options": {"dropconnect": 0.5}}
    m = model(p=0.0, **options)
    got = monte_carlo_losses(m, IDS, 3, window=20, seed=5)
    torch.manual_seed(5)
    m.train()
    expected, states = [], [None] * 3
    with torch.no_grad():
        for start in (0, 20, 40):
            tokens = torch.from_numpy(IDS[None, start : start + 21])
            found = []
            for k in range(3):
                hidden, states[k] = m(tokens[:, :-1], states[k])
                p = m.decode(hidden).softmax(-1).gather(2, tokens[:, 1:, None])[0, :, 0]
                found.append(p)
            expected.append(-torch.stack(found).mean(0).log())
    np.testing.assert_allclose(got, torch.cat(expected).numpy(), rtol=1e-5)
    assert not np.allclose(got, monte_carlo_losses(m, IDS, 1, window=20, seed=5))


def test_the_mean_probability_beats_the_mean_sample():
    # By Jensen, -log of the mean is below the mean of -log. It is above the best sample's.
    m = model()
    alone = np.stack([monte_carlo_losses(m, IDS, 1, seed=s) for s in range(20)])
    assert monte_carlo_losses(m, IDS, 20).mean() < alone.mean()
    assert alone.std(0).max() > 0.01


def test_it_is_repeatable_and_restores_the_random_state_and_the_mode():
    m = model().eval()
    torch.manual_seed(9)
    before = torch.get_rng_state()
    first = monte_carlo_evaluate(m, IDS, 4, unk_id=3)
    assert torch.equal(torch.get_rng_state(), before)
    assert not m.training
    assert first == monte_carlo_evaluate(m, IDS, 4, unk_id=3)
    assert first != monte_carlo_evaluate(m, IDS, 4, unk_id=3, seed=2)
    assert first.tokens == 60
    assert first.unk_tokens == int((IDS[1:] == 3).sum())


def test_too_few_tokens_or_samples_are_refused():
    with pytest.raises(ValueError, match="ids: expected at least 2"):
        monte_carlo_losses(model(), IDS[:1], 2)
    with pytest.raises(ValueError, match="samples: expected at least 1"):
        monte_carlo_losses(model(), IDS, 0)


def test_what_was_saved_on_one_kind_of_device_is_not_continued_on_another(tmp_path, monkeypatch):
    """A GPU draws other masks, and the file of a CPU has no state of its generator."""
    paths = []

    def remember(*arguments, unfinished, **options):
        paths.append(unfinished.path)

    monkeypatch.setattr(evaluated, "monte_carlo_losses", remember)
    for device in ("cpu", "meta", "cpu"):
        run = evaluated.Evaluated(tmp_path, model().to(device), lambda: None)
        run.__dict__["digest"] = "of the weights"
        run.losses(IDS, Request(samples=2), Methods(), "")
    assert paths[0] == paths[2] != paths[1]


def test_the_random_numbers_of_gpus_go_on_while_a_cpu_samples(monkeypatch):
    seeded = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    model = LanguageModel(ModelConfig(vocab_size=9, d_embed=4, d_hidden=4, dropout_hidden=0.5))
    monte_carlo_losses(model, np.arange(8), 2)
    assert not seeded
