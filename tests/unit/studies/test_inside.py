"""What a study says of its models from inside is what the losses and the weights are."""

import math

import pytest
import torch

from studies.inside import measure, sums
from tiedlm import LanguageModel, ModelConfig, load
from tiedlm.experiments.parallel import Job
from tiedlm.training.loop import train
from tiedlm.training.settings import Settings


def test_the_sums_are_entropies_and_gradients_of_the_two_losses():
    torch.manual_seed(1)
    model = LanguageModel(ModelConfig(vocab_size=20, d_embed=6, d_hidden=6, n_layers=1)).double()
    torch.nn.init.normal_(model.decoder.bias)
    hidden, targets, tau = torch.randn(7, 6).double(), torch.tensor([4, 5, 4, 6, 7, 4, 9]), 3.0
    scores = (hidden @ model.decoder.weight.detach().t()).requires_grad_()
    vectors = model.embedding.weight.detach()
    soft = (vectors[targets] @ vectors.t() / tau).softmax(-1)
    ce = torch.nn.functional.cross_entropy(
        scores + model.decoder.bias.detach(), targets, reduction="sum"
    )
    aug = tau * (soft * (soft.log() - (scores / tau).log_softmax(-1))).sum()  # gamma 1
    (by_ce,), (by_aug,) = (torch.autograd.grad(loss, scores) for loss in (ce, aug))
    expected = [
        float(torch.distributions.Categorical(probs=soft).entropy().sum()),
        float(by_ce.abs().sum()),
        float(by_aug.abs().sum()),
    ]
    assert sums(model, hidden, targets, tau).tolist() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("tied", [False, True])
def test_a_run_is_measured_from_its_folder(tiny_corpus, tmp_path, tied):
    settings = Settings(
        data=str(tiny_corpus), d_embed=8, d_hidden=12, batch_size=4, bptt=5, epochs=1, threads=1,
        alpha=13.0, tied=tied,
    )  # fmt: skip
    train(settings, settings.load_corpus(progress=False), tmp_path)
    found, model = measure(Job(settings, tmp_path)), load(tmp_path)
    assert found.vectors == pytest.approx(float(model.embedding.weight.detach().norm(dim=1).mean()))
    assert found.rows == pytest.approx(float(model.decoder.weight.detach().norm(dim=1).mean()))
    assert (found.distance == 0) == tied
    assert 1 / len(model.vocabulary) < found.choices <= 1.0 + 1e-6
    assert 0 < found.push < math.inf
    without = measure(Job(settings.replace(alpha=0.0), tmp_path))
    assert without == found._replace(push=0.0)
