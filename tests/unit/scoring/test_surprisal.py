"""Batches, order, windows and cuts do not change surprisals, and adaptation follows its rule."""

import copy
import itertools
import random

import numpy as np
import pytest
import torch
from torch.nn import functional

from tiedlm.evaluation import evaluate
from tiedlm.scoring import score_in_order, score_sentences, sentences, surprisal

EOS = 0


def assert_same(some, others):
    assert len(some) == len(others)
    for one, other in zip(some, others, strict=True):
        assert one.sentence.words == other.sentence.words
        for name in ("surprisal", "entropy", "entropy_after", "rank", "boundary"):
            a, b = getattr(one, name), getattr(other, name)
            assert (a is None) == (b is None)
            if a is not None:
                np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10, err_msg=name)


def in_order(model, text, **options):
    options = {"start": EOS, "carry_state": False} | options
    return list(score_in_order(model, text, **options))


@pytest.mark.parametrize("start", [EOS, None], ids=["after-eos", "from-nothing"])
@pytest.mark.parametrize("window", [8192, 3 * surprisal.BATCH], ids=["whole", "windows"])
def test_batched_sentences_equal_one_after_the_other(model, text, monkeypatch, start, window):
    monkeypatch.setattr(surprisal, "WINDOW_WORDS", window)
    monkeypatch.setattr(surprisal, "BLOCK_SENTENCES", 50)
    starts_V = torch.rand(model.config.vocab_size).round().double()
    batched = list(score_sentences(model, text, start=start, starts_V=starts_V))
    assert_same(batched, in_order(model, text, start=start, starts_V=starts_V))
    assert len(batched[0].boundary) == len(batched[0].surprisal) + 1


def test_order_of_sentences_changes_nothing(model, text):
    shuffled = random.Random(1).sample(text, len(text))
    found = list(score_sentences(model, shuffled, start=EOS))
    assert [one.sentence for one in found] == shuffled
    back = sorted(found, key=lambda one: one.sentence.number)
    assert_same(back, list(score_sentences(model, text, start=EOS)))


def test_a_document_totals_what_evaluate_says(model, text):
    found = in_order(model, text, start=None, carry_state=True)
    surprisal_N = np.concatenate([one.surprisal for one in found])
    ids = np.concatenate([one.ids for one in text])
    assert np.isnan(surprisal_N).tolist() == [True] + [False] * (len(ids) - 1)
    assert np.nansum(surprisal_N) == pytest.approx(evaluate(model, ids).nll, rel=1e-6)


def test_where_a_document_is_cut_changes_nothing(model, vocabulary, monkeypatch):
    words = " ".join(random.Random(2).choices(vocabulary.words[2:], k=50)) + " <eos>"
    (whole,) = sentences([words], vocabulary, tokenizer=False, blank_lines=False)
    parts = [
        whole._replace(words=whole.words[a:b], ids=whole.ids[a:b])
        for a, b in ((0, 1), (1, 8), (8, 51))
    ]
    expected = in_order(model, [whole], carry_state=True)
    found = in_order(model, parts, carry_state=True)
    for name in ("surprisal", "entropy", "entropy_after", "rank"):
        joined = np.concatenate([getattr(one, name) for one in found])
        np.testing.assert_allclose(joined, getattr(expected[0], name), rtol=1e-12)
    monkeypatch.setattr(surprisal, "ADAPT_WORDS", 7)
    assert_same(in_order(model, [whole], carry_state=True), expected)


def test_entropy_after_a_word_is_the_entropy_before_the_next(model, text):
    for one in score_sentences(model, text, start=EOS):
        np.testing.assert_array_equal(one.entropy_after[:-1], one.entropy[1:])


def test_sentences_are_not_all_held_in_memory(model, vocabulary):
    taken = 0

    def endless():
        nonlocal taken
        while True:
            taken += 1
            yield from sentences(["w1 w2"], vocabulary, tokenizer=False, blank_lines=False)

    scored = score_sentences(model, endless(), start=EOS)
    for _ in range(3):
        next(scored)
    assert taken == surprisal.BLOCK_SENTENCES


def test_evaluation_leaves_dropout_off_and_parameters_alone(model, text):
    before = [parameter.clone() for parameter in model.parameters()]
    once = in_order(model, text[:5], carry_state=True)
    assert_same(in_order(model, text[:5], carry_state=True), once)
    for parameter, old in zip(model.parameters(), before, strict=True):
        assert torch.equal(parameter, old)
        assert parameter.grad is None


def test_adaptation_begins_after_the_first_sentence_and_helps_with_repetition(model, text):
    again = [text[0]] * 6
    plain = in_order(model, again)
    adapted = in_order(model, again, adapt_lr=1.0)
    np.testing.assert_allclose(adapted[0].surprisal, plain[0].surprisal, rtol=1e-12)
    totals = [one.surprisal.sum() for one in adapted]
    assert all(later < earlier for earlier, later in itertools.pairwise(totals))


def test_adaptation_at_rate_zero_changes_nothing(model, text):
    for carry_state in (False, True):
        plain = in_order(model, text[:9], carry_state=carry_state)
        assert_same(in_order(model, text[:9], carry_state=carry_state, adapt_lr=0.0), plain)


@pytest.mark.parametrize("carry_state", [False, True], ids=["sentence", "document"])
@pytest.mark.parametrize("start", [EOS, None], ids=["after-eos", "from-nothing"])
def test_adaptation_is_sgd_on_the_mean_surprisal(model, text, start, carry_state):
    """The reference uses plain cross-entropy, torch.optim and the readable LSTM layer."""
    twin = copy.deepcopy(model)
    twin.lstm.fast = False
    found = in_order(model, text[:5], start=start, carry_state=carry_state, adapt_lr=3.0)
    optimizer = torch.optim.SGD(twin.parameters(), lr=3.0)
    for index, sentence in enumerate(text[:5]):
        if index == 0 or not carry_state:
            before_1H, state = torch.empty(0, 11).double(), None
            if start is not None:
                hidden, state = twin(torch.tensor([[start]]))
                before_1H = hidden[0]
        tokens = torch.tensor(sentence.ids.tolist())
        hidden, state = twin(tokens[None], state)
        rows_NH = torch.cat([before_1H, hidden[0, :-1]])
        losses_N = functional.cross_entropy(
            twin.decode(rows_NH), tokens[-len(rows_NH) :], reduction="none"
        )
        values = found[index].surprisal[-len(rows_NH) :]
        np.testing.assert_allclose(values, losses_N.detach(), rtol=1e-9)
        optimizer.zero_grad()
        losses_N.mean().backward()
        assert torch.nn.utils.clip_grad_norm_(twin.parameters(), surprisal.ADAPT_CLIP) > 0
        optimizer.step()
        before_1H, state = hidden[0, -1:].detach(), state.detach()


def test_a_long_sentence_is_learnt_in_parts(model, text, monkeypatch):
    sentence = max(text, key=lambda one: len(one.ids))
    plain = in_order(model, [sentence])[0].surprisal
    monkeypatch.setattr(surprisal, "ADAPT_WORDS", 10)
    adapted = in_order(model, [sentence], adapt_lr=3.0)[0].surprisal
    np.testing.assert_allclose(adapted[:10], plain[:10], rtol=1e-12)
    assert (np.abs(adapted[10:] - plain[10:]) > 1e-6).all()


def test_an_adapted_tied_model_stays_tied(model, text):
    in_order(model, text[:3], adapt_lr=1.0)
    assert model.config.tied == (model.decoder.weight is model.embedding.weight)
