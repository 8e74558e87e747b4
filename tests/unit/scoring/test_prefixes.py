"""Shared prefixes give the same numbers as single sequences, with the fewest steps."""

import random

import numpy as np
import pytest

from tiedlm import LanguageModel, ModelConfig
from tiedlm.scoring import Sentence, distributions, prefixes, score_sentences
from tiedlm.scoring.prefixes import sequence_log_probs

EOS = 0


@pytest.fixture
def sequences():
    """Return 60 sequences with long common prefixes, some equal and one empty."""
    rng = random.Random(0)
    drawn = [[rng.choice([2, 3, 4]) for _ in range(rng.randint(0, 9))] for _ in range(57)]
    return [np.array(ids, dtype=np.int32) for ids in [*drawn, drawn[3], [], [42]]]


def one_by_one(model, sequences):
    """Score every sequence as a sentence of its own."""
    read = [
        Sentence(i, i, ("x",) * (len(ids) + 1), np.append(ids, EOS))
        for i, ids in enumerate(sequences)
    ]
    return [-one.surprisal for one in score_sentences(model, read, start=EOS)]


def assert_equal(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-11)


def test_shared_prefixes_give_the_naive_scores(model, sequences):
    assert_equal(sequence_log_probs(model, sequences, EOS), one_by_one(model, sequences))


def test_chunks_of_the_softmax_change_nothing(model, sequences, monkeypatch):
    expected = sequence_log_probs(model, sequences, EOS)
    monkeypatch.setattr(prefixes, "CELLS", 3 * model.config.vocab_size)
    assert prefixes.CELLS < distributions.CELLS
    assert_equal(sequence_log_probs(model, sequences, EOS), expected)


def test_every_distinct_prefix_is_one_step(model, sequences):
    steps = []
    hook = model.register_forward_pre_hook(lambda _, args: steps.append(args[0].numel()))
    sequence_log_probs(model, sequences, EOS)
    hook.remove()
    distinct = {tuple(ids[:n].tolist()) for ids in sequences for n in range(len(ids) + 1)}
    assert sum(steps) == len(distinct)
    assert sum(steps) < sum(len(ids) + 1 for ids in sequences) / 2
    assert len(steps) == max(len(ids) for ids in sequences) + 1  # a call for each depth


def test_order_and_other_sequences_change_nothing(model, sequences):
    whole = sequence_log_probs(model, sequences, EOS)
    assert_equal(sequence_log_probs(model, sequences[::-1], EOS), whole[::-1])
    assert_equal(sequence_log_probs(model, sequences[5:6], EOS), whole[5:6])


def test_an_empty_sequence_is_an_eos_after_the_start(model):
    (found,) = sequence_log_probs(model, [np.array([], dtype=np.int32)], EOS)
    assert found.shape == (1,)
    assert found[0] < 0


def test_short_sequences_read_the_classifier_once(model, monkeypatch):
    sequences = [np.array([3, 4, 5]), np.array([3, 6])]
    decode, rows = model.decode, []
    monkeypatch.setattr(model, "decode", lambda h: (rows.append(len(h)), decode(h))[1])
    together = sequence_log_probs(model, sequences, EOS)
    assert rows == [5]  # one for <eos> and one for each prefix, of all depths together
    monkeypatch.setattr(prefixes, "CELLS", model.config.vocab_size)
    assert_equal(sequence_log_probs(model, sequences, EOS), together)
    assert rows[1:] == [1] * 5


def test_few_large_states_are_held_at_a_time(vocabulary, sequences, monkeypatch):
    config = ModelConfig(
        vocab_size=len(vocabulary), d_embed=8, d_hidden=8, network="transformer", init_range=0.9
    )
    model = LanguageModel(config).double().eval()
    numbers = sum(part.numel() for part in model.initial_state(1))
    monkeypatch.setattr(prefixes, "STATES", 7 * numbers, raising=False)
    streams = []
    hook = model.register_forward_pre_hook(lambda _, args: streams.append(len(args[0])))
    found = sequence_log_probs(model, sequences, EOS)
    hook.remove()
    assert max(streams) <= 7
    assert_equal(found, one_by_one(model, sequences))
