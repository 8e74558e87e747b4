"""The numbers of the study of strength are spreads of scores and similarities."""

import pytest
import torch

from studies.strength import spreads
from tiedlm import LanguageModel, ModelConfig


@pytest.mark.parametrize("bias", [True, False])
def test_spreads_are_deviations_their_correlation_and_the_entropy(bias):
    torch.manual_seed(1)
    shape = {"vocab_size": 20, "d_embed": 6, "d_hidden": 6, "n_layers": 1}
    model = LanguageModel(ModelConfig(**shape, tied=True, decoder_bias=bias)).double()
    hidden, targets = torch.randn(3, 6).double(), torch.tensor([4, 5, 4])
    vectors = model.embedding.weight.detach()
    if bias:
        torch.nn.init.normal_(model.decoder.bias)
    expected = []
    for h, target in zip(hidden, targets, strict=True):
        scores, similar = vectors @ h, vectors @ vectors[target]
        p = (scores + (model.decoder.bias.detach() if bias else 0)).softmax(0)
        deviations = [float(x.std(correction=0)) for x in (scores, similar)]
        correlation = torch.corrcoef(torch.stack([scores, similar]))[0, 1]
        expected += [*deviations, float(correlation), float(-(p * p.log()).sum())]
    found = spreads(model, hidden, targets)
    assert found.t().flatten().tolist() == pytest.approx(expected, rel=1e-9)
