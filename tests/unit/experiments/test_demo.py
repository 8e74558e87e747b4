"""The demo chooses its phrases by rule and shows a correct table."""

import io

import numpy as np
from rich.console import Console

from tiedlm.experiments.demo import COMMON_WORDS, MODELS, choose_phrases
from tiedlm.experiments.recipes import RECIPES
from tiedlm.experiments.tables import print_demo_table

EOS, UNK, RARE = 0, 1, COMMON_WORDS + 5


def text(*lines):
    return np.array([EOS] + [word for line in lines for word in [*line, EOS]])


def test_a_phrase_ends_before_the_first_word_that_is_not_common():
    ids = text([5] * 7 + [RARE] + [5] * 3)
    assert choose_phrases(ids, EOS, UNK) == [(1, 8)]
    assert ids[8] == RARE


def test_a_phrase_has_at_least_five_words_no_unk_and_one_line():
    assert choose_phrases(text([5] * 4 + [RARE]), EOS, UNK) == []
    assert choose_phrases(text([5] * 3 + [UNK] + [5] * 3 + [RARE]), EOS, UNK) == []
    assert choose_phrases(text([5] * 6, [RARE] * 2), EOS, UNK) == []


def test_phrases_are_taken_at_equal_distances():
    ids = text(*([[5] * 6 + [RARE]] * 21))
    starts = [start for start, _ in choose_phrases(ids, EOS, UNK, count=3)]
    assert starts == [1, 1 + 8 * 10, 1 + 8 * 20]


def test_every_model_of_the_demo_is_a_recipe_on_the_same_data_and_schedule():
    settings = [RECIPES[recipe].to_dict() for recipe in MODELS.values()]
    for name in settings[0].keys() - {"recipe", "tied", "alpha"}:
        assert len({repr(found[name]) for found in settings}) == 1, name


def results(real_test):
    model = {
        "valid_ppl": 100.0, "test_ppl": 100.0, "parameters": 1234567, "subspace_distance": 0.5,
        "mean_p_unk": 0.05, "tokens_per_second": 9876.5, "seed": 1,
    }  # fmt: skip
    models = {name: dict(model) for name in MODELS}
    models["vd-lstm-real"]["test_ppl"] = real_test
    return {"models": models}


def printed(real_test):
    out = io.StringIO()
    print_demo_table(results(real_test), Console(file=out, width=120))
    return out.getvalue()


def test_table_shows_each_model_and_says_which_is_better():
    shown = printed(92.5)
    for name in ("VD-LSTM", "+ AL", "+ RE", "+ REAL", "1,234,567", "9,876", "92.50"):
        assert name in shown
    assert "7.5% below VD-LSTM" in shown
    assert "one seed: 1" in shown
    assert "3.0% above VD-LSTM" in printed(103.0)
