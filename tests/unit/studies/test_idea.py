"""The pictures of docs/idea.md show what they say, and are drawn for any demo."""

import pytest
import torch

from conftest import write_corpus
from studies.idea import Text, chosen_words, main, percent, pushes, read, train_toy
from studies.idea import targets_and_predictions as targets
from tiedlm import LanguageModel, ModelConfig, Vocabulary
from tiedlm.evaluation.subspace import subspace_distance
from tiedlm.files import write_json
from tiedlm.training.loop import train
from tiedlm.training.settings import Settings


@pytest.fixture
def text(monkeypatch):
    """Return a model of twenty words, with hidden states at seven places."""
    monkeypatch.setattr("studies.idea.COMMON_WORDS", 0)
    torch.manual_seed(1)
    model = LanguageModel(ModelConfig(vocab_size=20, d_embed=6, d_hidden=6, n_layers=1)).double()
    model.vocabulary = Vocabulary(("<eos>", "<unk>", *(f"w{n}" for n in range(18))))
    hidden, targets = torch.randn(7, 6).double(), torch.tensor([4, 5, 4, 6, 7, 4, 9])
    return Text(model, hidden, targets, Settings(alpha=13.0))


def test_a_word_stands_before_similar_ones_and_some_others():
    scores = 100.0 - torch.arange(100.0)
    chosen = chosen_words(scores, 50)
    assert chosen[:6] == [50, 0, 1, 2, 3, 4]
    assert len(set(chosen)) == 9


def test_targets_are_of_the_word_and_its_vectors(text):
    words, panels = targets(text, "w2")
    assert words[0] == "w2"
    assert panels[0][1].tolist() == [1.0] + [0.0] * (len(words) - 1)
    vectors = text.model.embedding.weight.detach()
    index = int(text.model.vocabulary.encode(["w2"])[0])
    soft = (vectors @ vectors[index] / 5).softmax(0)
    ids = torch.tensor(text.model.vocabulary.encode(words).tolist())
    assert torch.allclose(panels[2][1], soft[ids])
    with pytest.raises(SystemExit, match="'w15' is not"):
        targets(text, "w15")


def test_pushes_are_the_gradient_of_the_losses(text):
    bands, ce, aug, share = pushes(text)
    assert len(bands) == len(ce) == len(aug)
    assert all(value <= 0 for value in ce)  # of wrong words cross-entropy raises none
    scores = (text.hidden_NH @ text.model.decoder.weight.detach().t()).requires_grad_()
    logits = scores + text.model.decoder.bias.detach()
    vectors, tau = text.model.embedding.weight.detach(), text.settings.temperature
    soft = (vectors[text.targets_N] @ vectors.t() / tau).softmax(-1)
    loss = torch.nn.functional.cross_entropy(logits, text.targets_N, reduction="sum")
    kl = (soft * (soft.log() - (scores / tau).log_softmax(-1))).sum()
    (by_ce,) = torch.autograd.grad(loss, scores)
    (by_aug,) = torch.autograd.grad(text.settings.alpha * kl, scores)
    assert share == pytest.approx(float(by_aug.abs().sum() / by_ce.abs().sum()), rel=1e-6)


def test_shares_have_two_digits():
    assert [percent(share) for share in (0, 1, 0.452, 0.0082, 0.000354)] == [
        "0%", "100%", "45%", "0.82%", "0.035%",
    ]  # fmt: skip


@pytest.mark.slow
def test_the_toy_meets_its_word_vectors():
    vectors, before, after = train_toy()
    assert subspace_distance(before, vectors) > 0.5
    assert subspace_distance(after, vectors) < 0.15


@pytest.mark.slow
def test_every_picture_is_drawn(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr("studies.idea.COMMON_WORDS", 0)
    settings = Settings(data=str(write_corpus(tmp_path / "text")), d_embed=6, d_hidden=6,
                        n_layers=1, epochs=1, batch_size=4, bptt=5, alpha=13.0,
                        threads=1)  # fmt: skip
    for name in ("vd-lstm-al", "vd-lstm-real"):
        train(settings, settings.load_corpus(), tmp_path / name)
    types = len(read(tmp_path / "vd-lstm-al").model.vocabulary)
    models = {
        name: {"parameters": 6 * types * (1 if tied else 2) + 500, "tied": tied, "test_ppl": 9.0}
        for name, tied in (("vd-lstm", False), ("vd-lstm-real", True))
    }
    results = {"settings": {"d_embed": 6}, "corpus": {"types": types}, "models": models}
    write_json(tmp_path / "results.json", results)
    main([str(tmp_path), "--word", "cat", "--out", str(tmp_path / "images")])
    pictures = sorted(path.name for path in (tmp_path / "images").glob("*.png"))
    assert pictures == [f"idea-{name}.png" for name in ("parameters", "pushes", "targets", "toy")]
