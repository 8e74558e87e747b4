"""The training loop equals an obvious loop that shares only the model with it."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional

from tiedlm import load
from tiedlm.data import load_corpus
from tiedlm.data.streams import batch_streams, windows
from tiedlm.evaluation import evaluate
from tiedlm.model import LanguageModel
from tiedlm.native.processor import has_fast_bf16
from tiedlm.training import held_out
from tiedlm.training.build import model_config
from tiedlm.training.loop import train
from tiedlm.training.run_files import read_metrics
from tiedlm.training.settings import Settings
from tiedlm.training.soft_targets import AVERAGE_DECAY

SHAPE = {
    "d_embed": 10, "d_hidden": 10, "n_layers": 2, "dropout_input": 0.2, "dropout_hidden": 0.3,
    "init_range": 0.3, "batch_size": 4, "bptt": 7, "threads": 1, "precision": "fp32",
}  # fmt: skip
SCHEDULE = {"epochs": 3, "lr": 0.7, "lr_decay": 0.5, "decay_after": 1, "clip": 3.0}


@pytest.fixture
def corpus(tiny_corpus):
    return load_corpus(str(tiny_corpus), progress=False)


def soft_rows(source, weight_VE, average_VE, seed):
    """Return the rows of a soft target. "permuted" is the cycle that its docstring describes."""
    if source == "own":
        return weight_VE
    if source == "average":
        return average_VE
    generator = torch.Generator().manual_seed(seed)
    cycle = torch.randperm(len(weight_VE), generator=generator)
    giver = dict(zip(cycle.tolist(), cycle.roll(1).tolist(), strict=True))
    return weight_VE.detach()[[giver[word] for word in range(len(weight_VE))]]


def obvious(settings, corpus, source):
    """Train and return each epoch's validation perplexity, training perplexity and weights."""
    torch.manual_seed(settings.seed)
    model = LanguageModel(model_config(settings, len(corpus.vocabulary)))
    average_VE = model.embedding.weight.detach().clone()
    streams_BS = torch.from_numpy(batch_streams(corpus.train, SHAPE["batch_size"]))
    epochs = []
    for epoch in range(1, SCHEDULE["epochs"] + 1):
        lr = 0.7 * (0.5 ** (epoch - 1))
        optimizer = torch.optim.SGD(model.parameters(), lr=lr)
        state, nll, count = None, 0.0, 0
        model.train()
        for inputs_BT, targets_BT in windows(streams_BS, SHAPE["bptt"]):
            hidden, state = model(inputs_BT, state)
            logits = model.decode(hidden).flatten(0, 1)
            targets_N = targets_BT.flatten()
            ce_N = functional.cross_entropy(logits, targets_N, reduction="none")
            rows = soft_rows(source, model.embedding.weight, average_VE, settings.seed)
            y = torch.softmax(rows[targets_N] @ rows.t() / settings.temperature, -1)
            scores = logits if model.decoder.bias is None else logits - model.decoder.bias
            prediction = torch.log_softmax(scores / settings.temperature, -1)
            kl_N = (y * (y.log() - prediction)).sum(-1)
            optimizer.zero_grad()
            # Summed over the steps of a window, averaged over the streams.
            ((ce_N + settings.alpha * kl_N).sum() / SHAPE["batch_size"]).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), SCHEDULE["clip"])
            optimizer.step()
            average_VE.lerp_(model.embedding.weight.detach(), 1 - AVERAGE_DECAY)
            state = state.detach()
            nll, count = nll + ce_N.sum().item(), count + len(ce_N)
        weights = {name: p.detach().clone() for name, p in model.named_parameters()}
        valid = evaluate(model.eval(), corpus.valid).perplexity
        epochs.append((valid, math.exp(nll / count), weights))
    return epochs


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(("source", "alpha"), [("own", 0.0), *((s, 6.0) for s in
                         ("own", "permuted", "average"))])  # fmt: skip
def test_a_run_equals_an_obvious_loop(corpus, tmp_path, monkeypatch, tied, source, alpha):
    # The default's average moves too slowly to show in so few steps.
    monkeypatch.setattr("tiedlm.training.soft_targets.AVERAGE_DECAY", 0.7)
    monkeypatch.setitem(globals(), "AVERAGE_DECAY", 0.7)
    settings = Settings(
        data="-", tied=tied, alpha=alpha, temperature=2.0, soft_target=source, decoder_bias=True,
        **SHAPE, **SCHEDULE,
    )  # fmt: skip
    epochs = obvious(settings, corpus, source)
    result = train(settings, corpus, tmp_path)
    lines = read_metrics(tmp_path)
    for line, (valid, trained, _) in zip(lines, epochs, strict=True):
        assert line["valid_ppl"] == pytest.approx(valid, rel=1e-4)
        assert line["train_ppl"] == pytest.approx(trained, rel=1e-4)
    best = result["best_epoch"] - 1
    assert epochs[best][0] == pytest.approx(min(valid for valid, _, _ in epochs), rel=1e-4)
    for name, p in load(tmp_path).named_parameters():
        torch.testing.assert_close(p.detach(), epochs[best][2][name], rtol=1e-3, atol=1e-4)


def test_the_soft_targets_differ_by_more_than_the_tolerance_of_the_comparison(corpus):
    settings = Settings(data="-", tied=True, alpha=6.0, temperature=2.0, **SHAPE, **SCHEDULE)
    weights = [
        obvious(settings, corpus, source)[-1][2]["embedding.weight"]
        for source in ("own", "permuted", "average")
    ]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert (weights[one] - weights[other]).abs().max() > 1e-2


def test_patience_counts_from_the_best_epoch_whose_weights_are_kept(corpus, tmp_path, monkeypatch):
    script, seen = iter([9.0, 5.0, 7.0, 8.0, 5.0, 6.0]), []

    def scripted(model, ids):
        seen.append({name: p.detach().clone() for name, p in model.named_parameters()})
        return SimpleNamespace(perplexity=next(script))

    monkeypatch.setattr(held_out, "evaluate", scripted)
    settings = Settings(data="-", patience=2, **SHAPE, **(SCHEDULE | {"epochs": 9}))
    result = train(settings, corpus, tmp_path)
    assert (result["epochs"], result["best_epoch"]) == (4, 2)
    for name, p in load(tmp_path).named_parameters():
        assert torch.equal(p, seen[1][name])
        assert torch.equal(p, seen[4][name]), "the result is of the best weights"
    assert not torch.equal(seen[1]["embedding.weight"], seen[3]["embedding.weight"])


@pytest.mark.skipif(not has_fast_bf16(), reason="this CPU does not multiply bfloat16")
def test_bfloat16_gives_other_numbers(corpus, tmp_path):
    weights = []
    for precision in ("fp32", "bf16"):
        settings = Settings(data="-", **(SHAPE | SCHEDULE | {"precision": precision}))
        train(settings, corpus, tmp_path / precision)
        weights.append(load(tmp_path / precision).embedding.weight.detach())
    difference = (weights[0] - weights[1]).abs().max()
    assert 1e-5 < difference < 0.1
