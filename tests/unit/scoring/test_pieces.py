"""Pieces are summed to words, which gives a probability over words."""

import itertools
import math

import numpy as np
import pytest
import torch

from tiedlm import LanguageModel, ModelConfig, Vocabulary
from tiedlm.scoring import Scored, Sentence, score_in_order, sentences, sum_pieces
from tiedlm.scoring.pieces import has_pieces, word_starts

VOCABULARY = Vocabulary(["<eos>", "<unk>", "▁a", "▁b", "c", "▁"])


def make_model():
    torch.manual_seed(0)
    config = ModelConfig(vocab_size=len(VOCABULARY), d_embed=5, d_hidden=5, init_range=1.5)
    return LanguageModel(config).double().eval()


def scores(model, text, start=0):
    read = sentences([text], VOCABULARY, tokenizer=False, blank_lines=False)
    options = {"start": start, "carry_state": False, "starts_V": word_starts(VOCABULARY)}
    (one,) = score_in_order(model, read, **options)
    return one


def test_words_worked_by_hand():
    scored = Scored(
        Sentence(1, 1, ("▁a", "c", "▁b", "<eos>"), np.array([2, 4, 3, 0], dtype=np.int32)),
        surprisal=np.array([1.0, 2.0, 4.0, 8.0]),
        entropy=np.array([0.1, 0.2, 0.3, 0.4]),
        entropy_after=np.array([0.2, 0.3, 0.4, 0.5]),
        rank=np.array([1, 2, 3, 4]),
        boundary=np.array([0.01, 0.5, 0.25, 0.125, 0.75]),
    )
    words = sum_pieces(scored, unk_id=1)
    assert words.sentence.words == ("ac", "b", "<eos>")
    assert words.sentence.ids.tolist() == [2, 3, 0]
    np.testing.assert_allclose(
        words.surprisal, [1 + 2 - 0.01 + 0.25, 4 - 0.25 + 0.125, 8 - 0.125], rtol=1e-15
    )
    assert words.entropy.tolist() == [0.1, 0.3, 0.4]
    assert words.entropy_after.tolist() == [0.3, 0.4, 0.5]
    assert words.rank.tolist() == [0, 3, 4]  # a word of two pieces has none


def test_probabilities_of_all_next_words_sum_to_one():
    """The sum is over all words of at most three pieces and the remainder for longer ones."""
    model = make_model()
    starts, inside = ["▁a", "▁b", "▁"], ["c", "unheard-of"]
    context = "▁b c"
    total = 0.0
    for first in starts:
        for length in range(3):
            for rest in itertools.product(inside, repeat=length):
                one = scores(model, " ".join([context, first, *rest]))
                total += math.exp(-sum_pieces(one, 1).surprisal[1])
        for rest in itertools.product(inside, repeat=3):
            one = scores(model, " ".join([context, first, *rest]))
            total += math.exp(one.boundary[2] - one.surprisal[2:6].sum())
    total += math.exp(-sum_pieces(scores(model, context), 1).surprisal[1])  # <eos>
    assert total == pytest.approx(1, abs=1e-12)


def test_corrections_cancel_over_a_sentence():
    one = scores(make_model(), "▁a c c ▁b ▁a unheard-of")
    words = sum_pieces(one, 1)
    assert words.surprisal.sum() == pytest.approx(one.surprisal.sum() - one.boundary[0], rel=1e-12)


def test_a_word_with_an_unknown_piece_is_unknown():
    words = sum_pieces(scores(make_model(), "▁a unheard-of ▁b ▁new ▁ ▁b"), 1)
    assert words.sentence.words == ("aunheard-of", "b", "new", "▁", "b", "<eos>")
    assert (words.sentence.ids == 1).tolist() == [True, False, True, False, False, False]


def test_without_a_first_prediction_the_first_word_has_none():
    words = sum_pieces(scores(make_model(), "▁a c ▁b", start=None), 1)
    assert np.isnan(words.surprisal).tolist() == [True, False, False]


def test_a_vocabulary_of_words_has_no_pieces():
    assert has_pieces(VOCABULARY)
    assert not has_pieces(Vocabulary(["<eos>", "▁", "the", "cat", "sat", "on", "a", "mat"]))


def test_pieces_without_a_boundary_are_refused():
    (read,) = sentences(["▁a"], VOCABULARY, tokenizer=False, blank_lines=False)
    (one,) = score_in_order(make_model(), [read], start=0, carry_state=False)
    with pytest.raises(ValueError, match="boundary"):
        sum_pieces(one, 1)
