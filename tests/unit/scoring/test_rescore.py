"""Scores combine by their formula, and tuning finds planted weights."""

import numpy as np
import pytest

from tiedlm.errors import UserError
from tiedlm.scoring.nbest import Hypothesis
from tiedlm.scoring.prefixes import sequence_log_probs
from tiedlm.scoring.rescore import ScoredLists, Weights, log_probs

NBEST = {
    "u": [Hypothesis("a b c", -1.0, -0.5, -4.0), Hypothesis("a", -2.0, -0.25, -8.0)],
    "v": [Hypothesis("b", -3.0, 0.0, -16.0)],
}
NEW = np.array([-10.0, -20.0, -30.0])


def test_totals_by_hand():
    totals_UK = ScoredLists(NBEST, NEW).totals(Weights(weight=0.25, penalty=2.0, lm_scale=10.0))
    expected = [
        [
            -1 + 10 * (-0.5 - 0.75 * 4 - 0.25 * 10 - 2 * 3),
            -2 + 10 * (-0.25 - 0.75 * 8 - 0.25 * 20 - 2 * 1),
        ],
        [-3 + 10 * (-0.75 * 16 - 0.25 * 30 - 2 * 1), -np.inf],
    ]
    np.testing.assert_allclose(totals_UK, expected, rtol=1e-15)


def test_weight_zero_is_the_recogniser_and_ties_keep_its_order():
    assert ScoredLists(NBEST, NEW).best(Weights(weight=0.0)).tolist() == [0, 0]
    equal = {"u": [Hypothesis("a", 1.0), Hypothesis("b", 1.0)]}
    assert ScoredLists(equal, np.zeros(2)).best(Weights(penalty=3.0)).tolist() == [0]


def test_a_word_penalty_shortens_and_a_bonus_lengthens():
    nbest = {"u": [Hypothesis("a b", 0.0), Hypothesis("a b c", 0.0), Hypothesis("a", 0.0)]}
    lists = ScoredLists(nbest, np.zeros(3))
    assert lists.best(Weights(penalty=1.0)).tolist() == [2]
    assert lists.best(Weights(penalty=-1.0)).tolist() == [1]


def planted(weights, separate):
    """Return lists whose right hypothesis is best at ``weights`` and rarely elsewhere."""
    rng = np.random.default_rng(0)
    nbest, new, references = {}, [], {}
    for number in range(300):
        hypotheses = [
            Hypothesis(
                " ".join([f"h{k}"] * rng.integers(1, 9)),
                score=rng.normal(scale=30),
                lm_score=rng.normal(scale=5) if separate else 0.0,
            )
            for k in range(10)
        ]
        own = rng.normal(scale=8, size=10)
        best = ScoredLists({"u": hypotheses}, own).best(weights)[0]
        nbest[f"u{number}"], references[f"u{number}"] = hypotheses, hypotheses[best].text
        new += own.tolist()
    return ScoredLists(nbest, np.array(new)), references


@pytest.mark.parametrize("separate", [True, False], ids=["lm-apart", "one-score"])
def test_planted_weights_are_found(separate):
    weights = Weights(weight=0.65, penalty=-1.5, lm_scale=7.0 if separate else 1.0)
    lists, references = planted(weights, separate)
    found = lists.tune(references)
    assert found.best == 0
    np.testing.assert_allclose(found.weights, weights, atol=0.06)
    assert found.first > found.without > found.best == found.oracle
    assert found.words == sum(len(text.split()) for text in references.values())


def test_tuning_reports_the_rates_it_names():
    nbest = {
        "u": [Hypothesis("a a", 0.0), Hypothesis("a b", -0.1)],
        "v": [Hypothesis("c c", 0.0), Hypothesis("d d", -50.0)],
    }
    found = ScoredLists(nbest, np.array([-2.0, -1.0, -1.0, -1.0])).tune({"u": "a b", "v": "d d"})
    assert found.words == 4
    assert (found.first, found.without, found.best, found.oracle) == (0.75, 0.75, 0.5, 0.0)
    assert found.weights.penalty == 0
    assert found.weights.weight == pytest.approx(0.15)  # the smallest over 0.1 on the grid


@pytest.mark.parametrize(("size", "separate"), [(0.2, True), (12.0, False)])
def test_scores_of_any_size_are_tuned(size, separate):
    """Beside a language model's scores, end-to-end recognisers' are small and Kaldi's are large."""
    lists, references = planted(Weights(weight=0.5, lm_scale=size), separate)
    found = lists.tune(references)
    assert found.best < 0.02


def test_references_must_be_there_and_have_words():
    lists = ScoredLists(NBEST, NEW)
    with pytest.raises(UserError, match="'v' of the n-best list has no reference"):
        lists.tune({"u": "a"})
    with pytest.raises(UserError, match="no words"):
        lists.tune({"u": "", "v": " "})


def test_log_probs_of_lists_are_those_of_their_words(model, vocabulary):
    nbest = {
        "u": [Hypothesis("w1 w2", 0.0), Hypothesis("w1 Hm", 0.0)],
        "v": [Hypothesis("", 0.0), Hypothesis("w1", 0.0)],
    }
    new, unknown = log_probs(model, vocabulary, nbest, str.split)
    ids = [vocabulary.encode(text.split()) for text in ("w1 w2", "w1 Hm", "", "w1")]
    expected = [values.sum() for values in sequence_log_probs(model, ids, 0)]
    np.testing.assert_allclose(new, expected, rtol=1e-12)
    assert unknown == 1 / 5


def test_an_unknown_word_costs_its_penalty(model, vocabulary):
    nbest = {"u": [Hypothesis(text, 0.0) for text in ("w1 w2", "Hm w1 Hm", "Hm", "<unk>")]}
    plain, share = log_probs(model, vocabulary, nbest, str.split)
    for penalty in (2.5, -1.0):
        new, same = log_probs(model, vocabulary, nbest, str.split, unk_penalty=penalty)
        np.testing.assert_allclose(plain - new, penalty * np.array([0, 2, 1, 1]), atol=1e-12)
        assert same == share


def test_the_penalty_comes_before_the_mixture(model, vocabulary):
    seen = {}

    def mix(words, values):
        seen[tuple(words)] = values
        return values

    nbest = {"u": [Hypothesis("Hm w1", 0.0)]}
    log_probs(model, vocabulary, nbest, str.split, mix)
    before = seen["Hm", "w1"]
    log_probs(model, vocabulary, nbest, str.split, mix, unk_penalty=3.0)
    np.testing.assert_allclose(before - seen["Hm", "w1"], [3, 0, 0], atol=1e-12)


def test_a_mixture_sees_the_words_as_read(model, vocabulary):
    seen = []

    def mix(words, values):
        seen.append((list(words), len(values)))
        return np.full(len(values), -1.0)

    nbest = {"u": [Hypothesis("W1 Hm", 0.0)]}
    new, _ = log_probs(model, vocabulary, nbest, lambda text: text.lower().split(), mix)
    assert seen == [(["w1", "hm"], 3)]
    assert new.tolist() == [-3.0]


IMPOSSIBLE = {
    "u": [Hypothesis("x", -np.inf), Hypothesis("a", -2.0), Hypothesis("b", -1.0)],
    "v": [Hypothesis("b", -1.0, lm_score=-np.inf), Hypothesis("c", -3.0, lm_score=-9.0)],
    "w": [Hypothesis("d", -np.inf), Hypothesis("e", -1.0, graph_score=-np.inf)],
}
ANY_WEIGHTS = [Weights(), Weights(weight=0.0), Weights(1.0), Weights(2.0), Weights(0.3, 4.0, 20.0)]


@pytest.mark.parametrize("weights", ANY_WEIGHTS, ids=str)
def test_an_impossible_hypothesis_is_never_chosen(weights):
    lists = ScoredLists(IMPOSSIBLE, np.array([0.0, -9.0, -9.0, 0.0, -99.0, -1.0, 0.0]))
    totals_UK = lists.totals(weights)
    assert np.isneginf(totals_UK).tolist() == [
        [True, False, False], [True, False, True], [True, True, True],
    ]  # fmt: skip
    assert not np.isnan(totals_UK).any()
    assert lists.best(weights)[0] > 0
    assert lists.best(weights)[1:].tolist() == [1, 0]


def test_lists_of_nothing_but_impossible_hypotheses_are_named():
    assert ScoredLists(IMPOSSIBLE, np.zeros(7)).impossible() == ["w"]
    assert ScoredLists(NBEST, NEW).impossible() == []


def test_impossible_hypotheses_leave_tuning_as_it_is_without_them():
    lists, references = planted(Weights(weight=0.65, penalty=-1.5, lm_scale=7.0), separate=True)
    expected = lists.tune(references)
    nbest, new = {}, []
    place = iter(lists._new_N.tolist())
    for key, hypotheses in lists.nbest.items():
        nbest[key] = [*hypotheses, Hypothesis(references[key], -np.inf)]
        new += [*(next(place) for _ in hypotheses), 1000.0]
    assert ScoredLists(nbest, np.array(new)).tune(references) == expected


def test_the_oracle_chooses_no_impossible_hypothesis():
    found = ScoredLists(IMPOSSIBLE, np.zeros(7)).tune({"u": "x", "v": "c", "w": "e"})
    assert found.oracle == pytest.approx(2 / 3)
