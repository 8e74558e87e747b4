"""A pair's sums are those of a plain loop over words, and ties are found and counted."""

import io
import random

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from tiedlm import Vocabulary
from tiedlm.errors import UserError
from tiedlm.scoring import pairs as pairs_module
from tiedlm.scoring.pair_files import Pair
from tiedlm.scoring.pairs import COLUMNS, Counts, score_pairs, tally, wilson95, written


def pair(good, bad, line=1, phenomenon="p"):
    return Pair("f", line, f"f, line {line}", phenomenon, good, bad)


@pytest.fixture
def drawn():
    """Return 60 pairs of 1 to 12 words, some unknown, with shared beginnings."""
    rng = random.Random(0)
    words = [*(f"w{i}" for i in range(41)), "unheard-of"]
    found = []
    for line in range(60):
        start = rng.choices(words, k=rng.randint(0, 5))
        good, bad = (rng.choices(words, k=rng.randint(1, 7)) for _ in range(2))
        good, bad = (" ".join(start + end) for end in (good, bad))
        found.append(pair(good, bad, line, rng.choice("ab")))
    return found


def score(model, vocabulary, pairs, **options):
    return list(score_pairs(model, vocabulary, pairs, tokenizer=False, **options))


def word_by_word(model, ids, eos_id):
    """Return -log p of a sentence and its <eos>, one word at a time."""
    total, state = 0.0, None
    for before, word in zip([eos_id, *ids], [*ids, eos_id], strict=True):
        hidden, state = model(torch.tensor([[before]]), state)
        total -= float(model.decode(hidden)[0, 0].log_softmax(dim=-1)[word])
    return total


@torch.no_grad()
def test_sums_are_those_of_a_loop_over_words(model, vocabulary, drawn):
    for one in score(model, vocabulary, drawn):
        for text, found in ((one.pair.good, one.good), (one.pair.bad, one.bad)):
            ids = vocabulary.encode(text.split()).tolist()
            expected = word_by_word(model, ids, vocabulary.eos_id)
            assert found == pytest.approx(expected, rel=1e-12)
        assert one.is_correct == (one.good < one.bad)
        assert one.words == tuple(len(t.split()) for t in (one.pair.good, one.pair.bad))
        unknown = tuple(t.split().count("unheard-of") for t in (one.pair.good, one.pair.bad))
        assert one.unknown == unknown


@torch.no_grad()
def test_without_eos_only_the_words_are_summed(model, vocabulary):
    (one,) = score(model, vocabulary, [pair("w1 w2", "w3")], eos=False)
    p = model.decode(model(torch.tensor([[vocabulary.eos_id]]))[0])[0, 0].log_softmax(dim=-1)
    assert one.bad == pytest.approx(-float(p[vocabulary.encode(["w3"])[0]]), rel=1e-12)


def test_order_and_batch_change_nothing(model, vocabulary, drawn, monkeypatch):
    expected = {one.pair: one for one in score(model, vocabulary, drawn)}
    for block in (1, 7):
        monkeypatch.setattr(pairs_module, "BLOCK", block)
        for one in score(model, vocabulary, random.Random(block).sample(drawn, len(drawn))):
            other = expected[one.pair]
            assert (one.good, one.bad) == pytest.approx((other.good, other.bad), rel=1e-12)
            assert one._replace(good=0, bad=0) == other._replace(good=0, bad=0)
            assert one.is_correct == other.is_correct


def test_sentences_do_not_influence_each_other(model, vocabulary, drawn):
    alone = [score(model, vocabulary, [one])[0] for one in drawn[:5]]
    for one, other in zip(alone, score(model, vocabulary, drawn[:5]), strict=True):
        assert (one.good, one.bad) == pytest.approx((other.good, other.bad), rel=1e-12)


def test_pairs_that_differ_in_unknown_words_only_are_ties_and_wrong(model, vocabulary):
    given = [
        pair("w1 he w2", "w1 she w2"),  # both unknown
        pair("w1 he w2", "w1 w3 w2"),
        pair("w1 w2", "w1 w2"),
        pair("w1 <unk>", "w1 he"),
        pair("he w1", "w1 he"),
    ]
    scored = score(model, vocabulary, given)
    assert [one.unknown_only for one in scored] == [True, False, False, True, False]
    assert [one.is_tie for one in scored] == [True, False, True, True, False]
    assert [one.same_words for one in scored] == [False, False, True, False, False]
    assert [one.unknown for one in scored] == [(1, 1), (1, 0), (0, 0), (1, 1), (1, 1)]
    assert not any(one.is_correct for one in scored if one.is_tie)
    counts = tally(scored)["p"]
    correct = sum(one.is_correct for one in scored)
    assert counts == Counts(5, correct, 3, 1, 2, 1, words=24, unknown=7)


def test_equal_sums_are_a_tie_up_to_rounding(model, vocabulary):
    torch.nn.init.zeros_(model.decoder.weight)  # each word has one probability everywhere
    ids = random.Random(0).sample(range(41), 30)
    text = [f"w{i}" for i in ids]
    for dtype in (torch.float64, torch.float32):
        (one,) = score(model.to(dtype), vocabulary, [pair(" ".join(text), " ".join(text[::-1]))])
        assert (one.is_tie, one.unknown_only, one.is_correct) == (True, False, False)


def test_exchanging_the_sentences_exchanges_right_and_wrong(model, vocabulary, drawn):
    exchanged = [one._replace(good=one.bad, bad=one.good) for one in drawn]
    given, other = (tally(score(model, vocabulary, x)) for x in (drawn, exchanged))
    assert set(given) == {"a", "b"}
    for name, counts in given.items():
        assert counts.correct + other[name].correct + counts.ties == counts.pairs


def test_a_text_of_several_sentences_is_one_with_eos_between_them(model, vocabulary):
    known = Vocabulary([*vocabulary.words[:-2], ".", "?"])
    text = [pair("W1 w2? W3.", "w1 w2?"), pair("w1 w2 ? <eos> w3 .", "w1 w2 ?")]
    (cut,) = score_pairs(model, known, text[:1], tokenizer=True)
    (split,) = score_pairs(model, known, text[1:], tokenizer=False)
    assert (cut.good, cut.bad) == pytest.approx((split.good, split.bad), rel=1e-12)
    assert cut.words == split.words == (5, 3)


@pytest.mark.parametrize(("correct", "pairs"), [(0, 5), (5, 5), (1, 1), (37, 50), (699, 1000)])
def test_the_interval_is_wilson_s(correct, pairs):
    expected = binomtest(correct, pairs).proportion_ci(method="wilson")
    assert wilson95(correct, pairs) == pytest.approx(tuple(expected), abs=1e-12)


def test_the_table_has_the_sums_in_its_base(model, vocabulary, drawn):
    scored = score(model, vocabulary, drawn)
    for base, scale in (("2", np.log(2)), ("e", 1.0), ("10", np.log(10))):
        file = io.StringIO()
        assert list(written(file, iter(scored), base)) == scored
        header, *lines = file.getvalue().splitlines()
        assert tuple(header.split("\t")) == COLUMNS
        for one, line in zip(scored, lines, strict=True):
            row = dict(zip(COLUMNS, line.split("\t"), strict=True))
            assert float(row["good"]) * scale == pytest.approx(one.good, abs=2e-6)
            difference = float(row["bad"]) - float(row["good"])
            assert float(row["difference"]) == pytest.approx(difference, abs=2e-6)
            assert row["correct"] == str(int(difference > 0))
            assert (row["sentence_good"], row["line"]) == (one.pair.good, str(one.pair.line))


def test_what_cannot_be_read_is_named_with_its_place(model, vocabulary):
    with pytest.raises(UserError, match=r"^f, line 3: '\\u200d' has no words$"):
        list(score_pairs(model, vocabulary, [pair("\u200d", "w1", 3)], tokenizer=True))
    closed = Vocabulary(["<eos>", *(f"w{i}" for i in range(42))])
    with pytest.raises(UserError, match=r"^f, line 4: the word 'he' is not in the vocabulary"):
        score(model, closed, [pair("w1", "he", 4)])
    torch.nn.init.constant_(model.decoder.bias, torch.nan)
    with pytest.raises(UserError, match=r"^f, line 5: the model's probabilities are not finite"):
        score(model, vocabulary, [pair("w1", "w2", 5)])
