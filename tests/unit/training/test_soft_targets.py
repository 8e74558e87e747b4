"""Each kind of soft target is made of the right rows."""

import math

import numpy as np
import pytest
import torch

from tiedlm.arithmetic import arithmetic
from tiedlm.data import load_corpus
from tiedlm.errors import UserError
from tiedlm.model import LanguageModel
from tiedlm.training.build import model_config
from tiedlm.training.loop import train
from tiedlm.training.settings import Settings
from tiedlm.training.soft_targets import AVERAGE_DECAY, TargetSource
from tiedlm.training.step import Objective

TAU = 7.0
SMALL = {"d_embed": 6, "d_hidden": 6, "n_layers": 1, "alpha": 2.0, "temperature": TAU}


@pytest.fixture
def corpus(tiny_corpus):
    return load_corpus(str(tiny_corpus), progress=False)


@pytest.fixture
def model(corpus):
    torch.manual_seed(0)
    return LanguageModel(model_config(Settings(data="-", **SMALL), len(corpus.vocabulary)))


def soft(model, corpus, source, **settings):
    """Return the soft targets y~ of all words, ``(V, V)``, and the rows they are made of."""
    chosen = Settings(data="-", **SMALL).replace(soft_target=source, **settings)
    rows = TargetSource(model, chosen, corpus)(model.embedding.weight)
    return torch.softmax(rows @ rows.t() / TAU, dim=1).detach(), rows


def test_own_is_the_embedding_itself(model, corpus):
    assert soft(model, corpus, "own")[1] is model.embedding.weight


def test_permuted_is_the_models_own_geometry_with_the_words_exchanged(model, corpus):
    y, rows = soft(model, corpus, "permuted")
    own, _ = soft(model, corpus, "own")
    assert not rows.requires_grad
    assert not torch.equal(y, own)
    torch.testing.assert_close(y.flatten().sort().values, own.flatten().sort().values)
    assert torch.equal(y, soft(model, corpus, "permuted")[0])
    same = (rows[:, None] == model.embedding.weight[None]).all(2).nonzero()
    assert len(same) == len(rows)
    assert (same[:, 0] != same[:, 1]).all()
    assert not torch.equal(y, soft(model, corpus, "permuted", seed=2)[0])


def test_rows_can_be_permuted_among_words_of_like_frequency(model, corpus, monkeypatch):
    monkeypatch.setattr("tiedlm.training.soft_targets.BAND", 3)
    _, rows = soft(model, corpus, "permuted-band")
    assert not rows.requires_grad
    counts = np.bincount(corpus.train, minlength=len(corpus.vocabulary))
    rank = {int(word): i for i, word in enumerate(np.argsort(-counts, kind="stable"))}
    pairs = (rows[:, None] == model.embedding.weight[None]).all(2).nonzero().tolist()
    assert len(pairs) == len(rows) > 9
    assert {word for _, word in pairs} == set(range(len(rows)))
    for word, taken in pairs:
        assert word != taken
        assert abs(rank[word] - rank[taken]) < 5  # a band of 3 to 5


@pytest.mark.parametrize("target_grad", [True, False])
@pytest.mark.parametrize("source", ["permuted", "permuted-band"])
def test_permuted_rows_can_have_their_gradient(model, corpus, source, target_grad):
    model.double()
    y, rows = soft(model, corpus, f"{source}-grad")
    assert torch.equal(y, soft(model, corpus, source)[0])
    targets = torch.tensor([[3, 5, 3, 1]])
    hidden = torch.randn(1, 4, 6, dtype=torch.float64)
    out = model.loss(hidden, targets, 1.0, TAU, target_grad, embedding=rows)
    gradient = torch.autograd.grad(
        out.loss, model.embedding.weight, retain_graph=True, allow_unused=True
    )[0]
    if not target_grad:
        assert gradient is None or not gradient.any()
        return
    own = (rows @ rows[targets[0]].t() / TAU).t().log_softmax(1)
    predicted = (hidden[0] @ model.decoder.weight.t() / TAU).log_softmax(1)
    divergence = (own.exp() * (own - predicted)).sum(1).mean()
    expected = torch.autograd.grad(divergence, model.embedding.weight)[0]
    torch.testing.assert_close(gradient, expected)


def test_uniform_is_uniform(model, corpus):
    y, _ = soft(model, corpus, "uniform")
    assert torch.equal(y, torch.full_like(y, 1 / len(y)))


def test_unigram_is_the_frequencies_at_the_temperature_for_every_target(model, corpus):
    y, _ = soft(model, corpus, "unigram")
    counts = torch.from_numpy(np.bincount(corpus.train, minlength=len(y))).clamp(min=1).float()
    expected = counts ** (1 / TAU)
    torch.testing.assert_close(y, (expected / expected.sum()).expand_as(y), rtol=4e-3, atol=0)


def test_average_follows_the_embedding(model, corpus):
    rows = TargetSource(model, Settings(data="-", soft_target="average", **SMALL), corpus)
    before = model.embedding.weight.detach().clone()
    with torch.no_grad():
        model.embedding.weight += 1
    assert torch.equal(rows(model.embedding.weight), before)
    rows.update(model.embedding.weight)
    torch.testing.assert_close(rows(model.embedding.weight), before + 1 - AVERAGE_DECAY)


def test_frozen_takes_a_finished_runs_vectors_by_word(model, corpus, tiny_corpus, tmp_path):
    settings = Settings(data=str(tiny_corpus), vocab_size=9, epochs=1, batch_size=4, **SMALL)
    few = load_corpus(str(tiny_corpus), vocab_size=9, progress=False)
    train(settings, few, tmp_path)
    _, rows = soft(model, corpus, "frozen", soft_target_from=str(tmp_path))
    from tiedlm import load

    vectors = load(tmp_path).embedding.weight
    for index, word in enumerate(corpus.vocabulary.words):
        known = word if word in few.vocabulary else "<unk>"
        assert torch.equal(rows[index], vectors[few.vocabulary.encode([known])[0]])


def test_frozen_needs_a_run_and_nothing_else_takes_one(model, corpus, tmp_path):
    with pytest.raises(UserError, match="--soft-target frozen needs --soft-target-from RUN"):
        Settings(data="-", soft_target="frozen")
    with pytest.raises(UserError, match="--soft-target-from needs --soft-target frozen"):
        Settings(data="-", soft_target_from="x")
    with pytest.raises(UserError, match="is not a finished run"):
        soft(model, corpus, "frozen", soft_target_from=str(tmp_path))
    with pytest.raises(UserError, match=r"--soft-target .*expected one of own, .*got owl"):
        Settings(data="-", soft_target="owl")


def test_smoothing_is_at_temperature_one():
    with pytest.raises(UserError, match=r"smoothing needs --temperature 1, got 20; .* --alpha e"):
        Settings(data="-", soft_target="smoothing")
    Settings(data="-", soft_target="smoothing", temperature=1.0)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_smoothing_is_label_smoothing(corpus, tied, bias):
    """At alpha = e / (1 - e), ``(1 - e) (J + alpha J_aug)`` is smoothed loss less its entropy."""
    torch.manual_seed(0)
    smoothing, V, T = 0.1, len(corpus.vocabulary), 19
    shape = {**SMALL, "alpha": smoothing / (1 - smoothing), "temperature": 1.0}
    settings = Settings(data="-", soft_target="smoothing", tied=tied, decoder_bias=bias, **shape)
    model = LanguageModel(model_config(settings, V)).double()
    if bias:
        torch.nn.init.normal_(model.decoder.bias)
    tokens = torch.from_numpy(np.asarray(corpus.train[: 2 * (T + 1)], dtype=np.int64)).view(2, -1)
    objective = Objective(model, settings, TargetSource(model, settings, corpus))
    loss, ce, aug, _ = objective(tokens[:, :-1], tokens[:, 1:], None)
    loss.backward()
    own = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    hidden, _ = model(tokens[:, :-1])
    logits, targets = model.decode(hidden).flatten(0, 1), tokens[:, 1:].flatten()
    smoothed = torch.nn.functional.cross_entropy(logits, targets, label_smoothing=smoothing)
    (smoothed * T / (1 - smoothing)).backward()
    expected = smoothed - smoothing * math.log(V)
    torch.testing.assert_close((1 - smoothing) * loss / T, expected)
    torch.testing.assert_close(loss / T, ce + smoothing / (1 - smoothing) * aug)
    torch.testing.assert_close(ce, torch.nn.functional.cross_entropy(logits, targets))
    for name, p in model.named_parameters():
        torch.testing.assert_close(own[name], p.grad)


def test_smoothing_is_the_same_bit_for_bit_on_several_threads(corpus):
    """The gradients of a frequent word's row must be summed in one order."""
    torch.manual_seed(0)
    settings = Settings(
        data="-", soft_target="smoothing", temperature=1.0, alpha=0.1, tied=True, decoder_bias=True,
        d_embed=64, d_hidden=64,
    )  # fmt: skip
    model = LanguageModel(model_config(settings, 500)).eval()
    tokens = torch.randint(10, (20, 36))
    objective = Objective(model, settings, TargetSource(model, settings, corpus))
    grads = []
    with arithmetic(threads=4):
        for _ in range(10):
            model.zero_grad()
            objective(tokens[:, :-1], tokens[:, 1:], None)[0].backward()
            grads.append([p.grad.clone() for p in model.parameters()])
    for again in grads[1:]:
        assert all(map(torch.equal, grads[0], again))


@pytest.mark.parametrize("bias", [False, True])
def test_uniform_at_temperature_one_is_smoothing_but_for_the_bias(corpus, bias):
    torch.manual_seed(0)
    shape = {**SMALL, "temperature": 1.0, "decoder_bias": bias}
    tokens = torch.from_numpy(np.asarray(corpus.train[:40], dtype=np.int64)).view(2, 20)
    settings = Settings(data="-", soft_target="smoothing", **shape)
    model = LanguageModel(model_config(settings, len(corpus.vocabulary)))
    if bias:
        torch.nn.init.normal_(model.decoder.bias)
    losses = []
    for source in ("smoothing", "uniform"):
        chosen = settings.replace(soft_target=source)
        objective = Objective(model, chosen, TargetSource(model, chosen, corpus))
        losses.append(objective(tokens[:, :-1], tokens[:, 1:], None)[0].item())
    assert (losses[0] == pytest.approx(losses[1], rel=1e-5)) == (not bias)
