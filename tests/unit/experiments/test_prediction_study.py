"""Statistics of predictions match their definitions."""

import numpy as np
import pytest
import torch

from tiedlm.data import Corpus, Vocabulary
from tiedlm.experiments import prediction_study
from tiedlm.experiments.prediction_study import (
    bootstrap_interval,
    compare_predictions,
    neighbours,
    phrases,
    token_values,
)
from tiedlm.model import LanguageModel, ModelConfig

WORDS = ["<eos>", "<unk>", "the", "a", "an", "cat", "dog", "sat"]
IDS = np.random.default_rng(0).integers(0, 8, size=200).astype(np.int32)


def model(seed=0, **options):
    torch.manual_seed(seed)
    config = {"vocab_size": 8, "d_embed": 5, "d_hidden": 5, "tied": True, "init_range": 0.7}
    m = LanguageModel(ModelConfig(**config | options)).eval()
    m.vocabulary = Vocabulary(WORDS)
    return m


def corpus():
    vocabulary = Vocabulary(WORDS)
    return Corpus("tiny", vocabulary, np.repeat(IDS, 10), IDS, IDS, {})


def test_values_of_each_token_match_their_definitions():
    m = model()
    near_VK = neighbours(m, 2)
    values = token_values(m, IDS, {"near": near_VK, "first": near_VK[:, :1]}, [1, 2])
    with torch.no_grad():
        hidden, _ = m(torch.from_numpy(IDS[:-1].astype(np.int64))[None])
        p_NV = m.decode(hidden)[0].softmax(-1)
    for n, target in enumerate(IDS[1:]):
        p = p_NV[n]
        assert values["p_target"][n] == pytest.approx(p[target].item(), rel=1e-5)
        assert values["nll"][n] == pytest.approx(-p[target].log().item(), rel=1e-5)
        assert values["rank"][n] == 1 + (p > p[target]).sum()
        assert values["near"][n] == pytest.approx(p[near_VK[target]].sum().item(), rel=1e-5)
        assert values["first"][n] == pytest.approx(p[near_VK[target, 0]].item(), rel=1e-5)
        entropy = torch.distributions.Categorical(p).entropy().item()
        assert values["entropy"][n] == pytest.approx(entropy, rel=1e-5)
        assert values["p_1"][n] == pytest.approx(p[1].item(), rel=1e-5)


def test_neighbours_are_the_largest_cosines_but_for_the_word_itself():
    m = model()
    vectors = torch.nn.functional.normalize(m.embedding.weight.detach(), dim=1)
    cosines = vectors @ vectors.t()
    for word, near in enumerate(neighbours(m, 3)):
        others = [i for i in cosines[word].argsort(descending=True).tolist() if i != word]
        assert near.tolist() == others[:3]


def test_interval_covers_the_mean_at_its_nominal_rate():
    rng = np.random.default_rng(1)
    intervals = [bootstrap_interval(rng.normal(0.3, 1.0, 5000), resamples=300) for _ in range(200)]
    covered = sum(low < 0.3 < high for low, high in intervals)
    assert 0.89 * 200 <= covered <= 0.99 * 200
    # For independent values this is the width of the normal interval of the mean.
    widths = [high - low for low, high in intervals]
    assert np.mean(widths) == pytest.approx(2 * 1.96 / 5000**0.5, rel=0.1)


@pytest.mark.parametrize("length", [20, 60, 120])
def test_the_interval_of_a_short_text_covers_the_mean_too(length):
    rng = np.random.default_rng(2)
    intervals = [bootstrap_interval(rng.normal(0.3, 1.0, length)) for _ in range(100)]
    assert np.mean([high - low for low, high in intervals]) == pytest.approx(
        2 * 1.96 / length**0.5, rel=0.15
    )


def test_a_model_does_not_differ_from_itself_and_bands_add_up(monkeypatch):
    monkeypatch.setattr(prediction_study, "BANDS", {"rare": (0, 250), "frequent": (250, None)})
    m = model()
    same = compare_predictions(m, m, corpus())
    assert same["all"]["tokens"] == len(IDS) - 1
    assert same["rare"]["tokens"] + same["frequent"]["tokens"] == same["all"]["tokens"]
    for name, value in same["all"].items():
        if name != "tokens":
            assert value["base"] == value["other"]
            assert value["difference95"] == (0.0, 0.0)
    assert {"P(<unk>)", "P(a)", "P(an)", "P(the)"} <= same["all"].keys()


def test_a_model_that_knows_how_frequent_words_are_has_a_lower_nll():
    base = model(tied=False)
    other = model(tied=False)
    with torch.no_grad():  # knows the share of every word
        base.decoder.weight.zero_()
        other.decoder.weight.zero_()
        other.decoder.bias.copy_(torch.from_numpy(np.log(np.bincount(IDS[1:], minlength=8))))
    found = compare_predictions(base, other, corpus())["all"]["nll, nats"]
    assert found["other"] < found["base"]


def test_phrases_are_read_on_their_own(monkeypatch):
    monkeypatch.setattr(prediction_study, "PHRASES", (("the cat", "sat"),))
    m = model()
    (row,) = phrases({"x": m}, top=3)
    with torch.no_grad():
        hidden, _ = m(torch.tensor([[0, 2, 5]]))
        p_V = m.decode(hidden)[0, -1].softmax(-1)
    assert row["p_next"]["x"] == pytest.approx(p_V[7].item(), rel=1e-5)
    top = [p_V[WORDS.index(p["word"])].item() for p in row["top"]["x"]]
    assert top == pytest.approx(p_V.topk(3).values.tolist(), rel=1e-5)
