"""Scoring with methods equals scoring without them at their limits, and the evaluation's losses."""

import numpy as np
import pytest
import torch

from tiedlm import LanguageModel, ModelConfig, Vocabulary
from tiedlm.evaluation import (
    Cache,
    Dynamic,
    Methods,
    gradient_rms,
    method_losses,
    mixture_losses,
    with_temperature,
)
from tiedlm.scoring import methods, score_in_order, sentences
from tiedlm.scoring.methods import Member, score_with_methods
from tiedlm.scoring.prefixes import mixed_log_probs, sequence_log_probs
from tiedlm.scoring.sentence import Sentence

WORDS = Vocabulary(["<eos>", "<unk>", *"abcdefg"])
LINES = ["a b c a b", "c", "d e f g a b c a", "a b c d e a"] * 3


def model(seed=0):
    torch.manual_seed(seed)
    config = ModelConfig(vocab_size=len(WORDS), d_embed=6, d_hidden=6, init_range=0.8)
    return LanguageModel(config).double().eval()


def text():
    return list(sentences(LINES, WORDS, tokenizer=False, blank_lines=False, whole_lines=True))


@pytest.mark.parametrize("start", [0, None])
@pytest.mark.parametrize("carry_state", [True, False])
@pytest.mark.parametrize("starts", [False, True])
def test_without_methods_every_column_is_the_plain_one(start, carry_state, starts, monkeypatch):
    monkeypatch.setattr(methods, "PART_WORDS", 7)
    options = {"start": start, "carry_state": carry_state}
    options["starts_V"] = torch.arange(len(WORDS)).remainder(2).double() if starts else None
    m = model()
    plain = score_in_order(m, text(), **options)
    mixture = [Member(m, weight=0.25), Member(m, weight=0.75)]
    for members in ([Member(m)], mixture):
        for one, expected in zip(
            score_with_methods(members, text(), **options), plain, strict=True
        ):
            for name in ("surprisal", "entropy", "entropy_after", "rank", "boundary"):
                found, value = getattr(one, name), getattr(expected, name)
                assert (found is None) == (value is None)
                if value is not None:
                    np.testing.assert_allclose(found, value, rtol=0, atol=1e-9, err_msg=name)
        plain = score_in_order(m, text(), **options)


def test_a_document_has_the_losses_of_the_evaluation(monkeypatch):
    monkeypatch.setattr(methods, "PART_WORDS", 16)
    ids = np.concatenate([one.ids for one in text()])
    chosen = [
        Methods(dynamic=Dynamic(lr=1e-3, decay=0.1, epsilon=0.01), temperature=1.2,
                cache=Cache(words=9, theta=0.3, weight=0.2)),
        Methods(dynamic=Dynamic(rule="sgd", lr=0.1, decay=0.0, segment=3)),
    ]  # fmt: skip
    members, losses = [], []
    for seed, one in enumerate(chosen):
        m = model(seed)
        rms = gradient_rms(m, ids)
        members.append(Member(m, one, 0.5, rms))
        losses.append(method_losses(m, ids, one, rms=rms))
    scored = score_with_methods(members, text(), start=None, carry_state=True)
    found = np.concatenate([one.surprisal for one in scored])
    assert np.isnan(found[0])
    np.testing.assert_allclose(found[1:], mixture_losses(np.stack(losses), [0.5, 0.5]), atol=1e-6)


@pytest.mark.parametrize("weight", [0.0, 0.2])
def test_a_cache_leaves_every_word_a_probability(weight):
    """A model may give a word outside of the cache less than the smallest float."""
    m, ids = model(), np.arange(len(WORDS))
    chosen = Methods(temperature=1e-4, cache=Cache(words=3, theta=0.0, weight=weight))
    losses = method_losses(m, ids, chosen)
    assert losses.max() > 800
    one = Sentence(1, 1, tuple(WORDS.words), ids)
    (found,) = score_with_methods([Member(m, chosen)], [one], start=None, carry_state=True)
    np.testing.assert_allclose(found.surprisal[1:], losses, rtol=1e-6)
    assert np.isfinite(found.entropy[1:]).all()


def test_sequences_are_mixed_word_by_word():
    ids = [one.ids[:-1] for one in text()[:4]]
    models = [model(0), with_temperature(model(1), 1.5)]
    found = mixed_log_probs(models[0], [(models[1], 0.3)], ids, 0)
    parts = [sequence_log_probs(m, ids, 0) for m in models]
    for one, first, second in zip(found, *parts, strict=True):
        np.testing.assert_allclose(np.exp(one), 0.7 * np.exp(first) + 0.3 * np.exp(second))
    alone = mixed_log_probs(models[0], [], ids, 0)
    assert all((one == other).all() for one, other in zip(alone, parts[0], strict=True))
