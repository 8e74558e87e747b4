"""Evaluation methods equal float64 loops over the words, one function for each equation."""

import numpy as np
import pytest
import torch

from tiedlm import LanguageModel, ModelConfig
from tiedlm.evaluation import Cache, Dynamic, Methods, gradient_rms, method_losses
from tiedlm.evaluation import cache as cache_module
from tiedlm.networks.state import detach

V = 11
IDS = np.random.default_rng(3).integers(0, V, size=78)
TRAIN = np.random.default_rng(4).integers(0, V, size=400)


def model(**options):
    torch.manual_seed(0)
    config = {"vocab_size": V, "d_embed": 5, "d_hidden": 5, "dropout_hidden": 0.4} | options
    return LanguageModel(ModelConfig(init_range=0.7, **config)).double().eval()


def parameters(m):
    return dict(m.named_parameters())


def mean_squares(m, ids, streams, window):
    """``sqrt(MS_g)`` by plain automatic differentiation."""
    length = len(ids) // streams
    text = torch.from_numpy(ids[: streams * length]).view(streams, length)
    total = {name: torch.zeros_like(p) for name, p in parameters(m).items()}
    state, windows = None, 0
    for first in range(0, length - 1, window):
        tokens = text[:, first : first + window + 1]
        hidden, state = m(tokens[:, :-1], state)
        state = detach(state)
        loss = torch.nn.functional.cross_entropy(
            m.decode(hidden).flatten(0, 1), tokens[:, 1:].flatten()
        )
        grads = torch.autograd.grad(loss, list(parameters(m).values()), allow_unused=True)
        for name, grad in zip(total, grads, strict=True):
            total[name] += 0 if grad is None else grad**2
        windows += 1
    return {name: (square / windows).sqrt() for name, square in total.items()}


def adapted(m, ids, settings, rms):
    """Return every word's hidden state and log-distribution; the model learns in place."""
    trained = {name: p.detach().clone() for name, p in parameters(m).items()}
    if settings.rule == "rms":
        average = np.mean([float(part.mean()) for part in rms.values()])
    hidden_states, log_p, state = [], [], None
    for first in range(0, len(ids) - 1, settings.segment):
        tokens = torch.from_numpy(ids[first : first + settings.segment + 1])[None]
        hidden, state = m(tokens[:, :-1], state)
        state = detach(state)
        logits = m.decode(hidden)[0]
        hidden_states.append(m.decoder.project(hidden)[0].detach().clone())
        log_p.append(logits.detach().clone())
        loss = torch.nn.functional.cross_entropy(logits, tokens[0, 1:])
        grads = torch.autograd.grad(loss, list(parameters(m).values()), allow_unused=True)
        with torch.no_grad():
            for (name, p), grad in zip(parameters(m).items(), grads, strict=True):
                step = torch.zeros_like(p) if grad is None else grad
                decay = settings.decay
                if settings.rule == "rms":
                    step = step / (rms[name] + settings.epsilon)
                    decay = torch.clamp(decay * rms[name] / average, max=1.0)
                p += decay * (trained[name] - p) - settings.lr * step
    return torch.cat(hidden_states).numpy(), torch.cat(log_p).numpy()


def with_cache(p_V, hidden, words, t, settings):
    """``(1 - lambda) p_model + lambda p_cache`` after reading word t."""
    entries = range(max(0, t - settings.words), t)
    if not entries:
        return p_V
    cache_V = np.zeros(V)
    for i in entries:
        cache_V[words[i + 1]] += np.exp(settings.theta * hidden[t] @ hidden[i])
    return (1 - settings.weight) * p_V + settings.weight * cache_V / cache_V.sum()


def expected(m, ids, methods, rms=None):
    """``-log p`` of each word, word by word."""
    settings = methods.dynamic or Dynamic(rule="sgd", lr=1e-300, decay=0.0, segment=1)
    hidden, logits = adapted(m, ids, settings, rms)
    losses = []
    for t, z_V in enumerate(logits):
        p_V = np.exp(z_V / methods.temperature)
        p_V /= p_V.sum()
        if methods.cache is not None:
            p_V = with_cache(p_V, hidden, ids, t, methods.cache)
        losses.append(-np.log(p_V[ids[t + 1]]))
    return np.array(losses)


NETWORKS = [
    {"tied": True}, {"tied": False}, {"tied": True, "d_hidden": 6, "decoder_bias": True},
    {"network": "rhn", "n_layers": 1, "options": {"depth": 2}},
    {"network": "transformer", "d_embed": 6, "d_hidden": 6, "tied": True,
     "options": {"n_heads": 1, "memory": 7}},
]  # fmt: skip
RMS = Dynamic(lr=0.003, decay=0.05, epsilon=1e-3)
METHODS = [
    Methods(temperature=1.3),
    Methods(cache=Cache(words=7, theta=0.8, weight=0.3)),
    Methods(cache=Cache(words=300, theta=0.0, weight=0.9), temperature=0.8),
    Methods(dynamic=RMS),
    Methods(dynamic=Dynamic(lr=0.02, decay=0.0, epsilon=0.1, segment=1)),
    Methods(dynamic=Dynamic(rule="sgd", lr=0.5, decay=0.0)),
    Methods(dynamic=Dynamic(rule="sgd", lr=0.5, decay=0.1, segment=7), temperature=1.2),
    Methods(dynamic=RMS, temperature=1.1, cache=Cache(words=20, theta=0.5, weight=0.2)),
]


@pytest.mark.parametrize("methods", METHODS, ids=str)
@pytest.mark.parametrize("options", NETWORKS, ids=str)
def test_losses_are_those_of_the_equations_word_by_word(options, methods, monkeypatch):
    monkeypatch.setattr(cache_module, "QUERIES", 16)  # the text is longer than a window
    m, other = model(**options), model(**options)
    rms = mean_squares(m, TRAIN, streams=20, window=5)
    before = {name: p.detach().clone() for name, p in parameters(m).items()}
    found = method_losses(m, IDS, methods, rms=rms)
    np.testing.assert_allclose(found, expected(other, IDS, methods, rms), rtol=0, atol=1e-6)
    assert all(torch.equal(p, before[name]) for name, p in parameters(m).items())


@pytest.mark.parametrize("options", NETWORKS, ids=str)
def test_gradient_statistics_are_those_of_automatic_differentiation(options):
    m = model(**options).train()
    found = gradient_rms(m, TRAIN, streams=20, window=5)
    assert m.training
    m.eval()
    for name, part in mean_squares(m, TRAIN, streams=20, window=5).items():
        np.testing.assert_allclose(found[name].numpy(), part.numpy(), rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("methods", [METHODS[3], METHODS[6]], ids=str)
@pytest.mark.parametrize("tied", [True, False])
def test_adaptation_in_float32_has_the_losses_of_float64(pointwise, tied, methods):
    """The compiled kernels serve float32 only; these rates do not amplify rounding."""
    options = {"d_embed": 17, "d_hidden": 17 if tied else 23, "tied": tied, "decoder_bias": True}
    m, other = model(**options), model(**options)
    rms = mean_squares(m, TRAIN, streams=20, window=5)
    expected = method_losses(other, IDS, methods, rms=rms)
    low = {name: part.float() for name, part in rms.items()}
    found = method_losses(m.float(), IDS, methods, rms=low)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
