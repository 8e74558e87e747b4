"""The n-gram mixture agrees with hand calculation and, where it is installed, with KenLM."""

import math
import sys

import numpy as np
import pytest

from tiedlm.errors import UserError
from tiedlm.scoring.arpa import Mixture, interpolate, load_arpa, word_log_probs

ARPA = """\\data\\
ngram 1=5
ngram 2=2

\\1-grams:
-1.0\t<unk>\t0
0\t<s>\t-0.5
-0.75\t</s>\t0
-0.5\tthe\t-0.25
-0.6\tcat\t0

\\2-grams:
-0.125\t<s> the
-0.2\tthe cat

\\end\\
"""


@pytest.fixture
def arpa_file(tmp_path):
    path = tmp_path / "two.arpa"
    path.write_text(ARPA)
    return path


def test_a_mixture_by_hand():
    mixed = interpolate(np.log([0.5, 0.1]), np.log([0.25, 0.3]), 0.2)
    np.testing.assert_allclose(np.exp(mixed), [0.8 * 0.5 + 0.2 * 0.25, 0.8 * 0.1 + 0.2 * 0.3])


def test_a_mixture_of_equal_models_is_that_model():
    values = -np.random.default_rng(0).exponential(size=9)
    np.testing.assert_allclose(interpolate(values, values, 0.3), values, atol=1e-14)


def test_a_mixture_is_between_the_two_even_if_one_is_zero():
    mixed = interpolate(np.array([-800.0, -1.0]), np.array([-2.0, -np.inf]), 0.5)
    np.testing.assert_allclose(mixed, [-2 + math.log(0.5), -1 + math.log(0.5)], rtol=1e-14)


def test_log_probs_are_natural_and_the_words_those_of_one_sentence():
    class Stub:
        def full_scores(self, text, bos, eos):
            assert (text, bos, eos) == ("the cat", True, True)
            return iter([(-1.0, 2, False), (-2.0, 1, True), (-0.5, 2, False)])

    found = word_log_probs(Stub(), ["the", "cat"])
    np.testing.assert_allclose(np.exp(found), [0.1, 0.01, 10**-0.5], rtol=1e-14)


def test_a_mixture_counts_the_words_that_the_n_grams_do_not_know():
    class Stub(set):
        def full_scores(self, text, bos, eos):
            return iter([(-1.0, 1, word in self) for word in [*text.split(), "</s>"]])

    mixture = Mixture(Stub({"the", "cat"}), 0.25)
    for words in (["the", "CAT"], ["the", "cat"], []):
        neural = np.full(len(words) + 1, np.log(0.3))
        np.testing.assert_allclose(np.exp(mixture(words, neural)), 0.75 * 0.3 + 0.25 * 0.1)
    assert (mixture.words, mixture.unknown) == (4, 1)


def test_kenlm_distinguishes_known_from_unknown_words(arpa_file):
    pytest.importorskip("kenlm")
    mixture = Mixture(load_arpa(arpa_file), 0.5)
    mixture(["the", "cat", "CAT"], np.zeros(4))
    assert (mixture.words, mixture.unknown) == (3, 1)


def test_without_the_package_the_error_names_it(monkeypatch, arpa_file):
    monkeypatch.setitem(sys.modules, "kenlm", None)
    with pytest.raises(UserError, match=r"pip install 'tiedlm\[kenlm\]'"):
        load_arpa(arpa_file)


def test_kenlm_gives_the_file_s_own_numbers(arpa_file):
    pytest.importorskip("kenlm")
    model = load_arpa(arpa_file)
    found = word_log_probs(model, ["the", "cat", "barks"]) / math.log(10)
    # <s> the; the cat; then two back-offs from a context without weight: <unk>, </s
    np.testing.assert_allclose(found, [-0.125, -0.2, -1.0, -0.75], rtol=1e-6)
    assert found.sum() == pytest.approx(model.score("the cat barks"), rel=1e-6)
    assert len(word_log_probs(model, [])) == 1


def test_a_file_that_is_not_arpa_is_named(tmp_path):
    pytest.importorskip("kenlm")
    with pytest.raises(UserError, match="does not exist"):
        load_arpa(tmp_path / "none.arpa")
    (tmp_path / "text").write_text("no model\n")
    with pytest.raises(UserError, match="not an ARPA or KenLM"):
        load_arpa(tmp_path / "text")
