"""Both commands adapt alike; where a rate is too large, rounding grows as any small change does."""

import copy
import weakref

import numpy as np
import pytest
import torch

from tiedlm import LanguageModel, ModelConfig
from tiedlm.evaluation import Dynamic, Methods, method_losses
from tiedlm.evaluation.dynamic import Adapter
from tiedlm.scoring.methods import Member, score_with_methods
from tiedlm.scoring.sentence import Sentence

V = 13
IDS = np.random.default_rng(1).integers(0, V, size=601)
STABLE, UNSTABLE = 1e-4, 3e-2  # learning rates


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = ModelConfig(vocab_size=V, d_embed=12, d_hidden=12, tied=True, init_range=0.6)
    return LanguageModel(config).double().eval()


def statistics(model):
    """Gradients so small that the steps are those of a plain, large learning rate."""
    return {name: torch.full_like(part, 1e-3) for name, part in model.named_parameters()}


def evaluated(model, lr):
    methods = Methods(dynamic=Dynamic(lr=lr, decay=0.0))
    return method_losses(model, IDS, methods, rms=statistics(model))


@pytest.mark.parametrize("lr", [STABLE, UNSTABLE])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_score_adapts_as_evaluate_does_word_by_word(model, dtype, lr):
    own = copy.deepcopy(model).to(dtype)
    member = Member(own, Methods(dynamic=Dynamic(lr=lr, decay=0.0)), 1.0, statistics(own))
    text = [Sentence(1, 1, [str(one) for one in IDS], IDS)]
    (scored,) = score_with_methods([member], text, start=None, carry_state=True)
    np.testing.assert_allclose(scored.surprisal[1:], evaluated(own, lr), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("lr", "grows"), [(STABLE, False), (UNSTABLE, True)])
def test_a_small_change_grows_where_the_rate_is_too_large(model, lr, grows):
    """Exact arithmetic would do the same: the change is a millionth of a weight, in float64."""
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.embedding.weight[3, 0] *= 1 + 1e-6
    change = np.abs(evaluated(other, lr) - evaluated(model, lr))
    assert change[:25].max() < 1e-4
    assert (change[25:].max() > 1e-2) == grows


def test_the_probabilities_of_a_segment_are_freed_when_the_next_one_is_read(model, monkeypatch):
    """All segments of a part together would hold 256 distributions."""
    read, arrays, held = Adapter.read, [], []

    def watched(self, *words):
        held.append(sum(array() is not None for array in arrays))
        segment = read(self, *words)
        array = segment.log_p_TV.numpy().copy()
        arrays.append(weakref.ref(array))
        return segment._replace(log_p_TV=torch.from_numpy(array))

    monkeypatch.setattr(Adapter, "read", watched)
    evaluated(model, STABLE)
    assert len(held) == 120
    assert max(held) <= 1
