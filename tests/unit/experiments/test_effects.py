"""The effect of an addition to a model is its change of the perplexity."""

import math

import pytest

from tiedlm.experiments.cells import choose, table1, what_it_is
from tiedlm.experiments.comparison import interval95
from tiedlm.experiments.effects import EFFECTS, HEADER, effect, effects, like_with_like
from tiedlm.experiments.recipes import get_recipe
from tiedlm.experiments.reproduce import Found

BASE, REAL = (choose(table1(), [name])[0] for name in ("ptb-small", "ptb-small-real"))


def run(recipe, seed, valid, test, session=1, **changes):
    settings = what_it_is(get_recipe(recipe).replace(**changes).to_dict())
    return settings, Found(seed, session, "fp32", {"valid_ppl": valid, "test_ppl": test})


def test_an_effect_is_a_mean_of_log_ratios_over_shared_seeds():
    found = [
        run("ptb-small", 1, 92, 88), run("ptb-small", 2, 93, 89), run("ptb-small", 3, 93, 90),
        run("ptb-small-real", 1, 86, 82), run("ptb-small-real", 2, 87, 84),
    ]  # fmt: skip
    logs = [math.log(82 / 88), math.log(84 / 89)]
    mean, half = sum(logs) / 2, interval95(logs)
    low, mid, high = (math.expm1(x) for x in (mean - half, mean, mean + half))
    assert effect(BASE, REAL, found) == (
        f"{82.7 / 87.3 - 1:+.1%}; **{mid:+.1%}** ({low:+.1%} to {high:+.1%}, 2 seeds)"
    )


def test_a_session_is_compared_with_the_same_session():
    found = [
        run("ptb-small", 1, 92, 88), run("ptb-small", 2, 92, 89),
        run("ptb-small-real", 1, 92, 86), run("ptb-small-real", 1, 89, 80, session=2),
    ]  # fmt: skip
    assert like_with_like(BASE, REAL, found) == (1, [(86, 88)])
    found.append(run("ptb-small", 1, 91, 87, session=2))
    assert like_with_like(BASE, REAL, found) == (2, [(80, 87)])
    assert effect(BASE, REAL, found).endswith("(1 seed, 2 sessions)")


def test_one_seed_has_no_interval_and_missing_runs_are_shown():
    found = [run("ptb-small", 1, 92, 100), run("ptb-small-real", 1, 86, 90)]
    rows = {row[0]: dict(zip(HEADER, row, strict=True)) for row in effects(found)}
    assert rows["ptb-small"]["REAL"] == "-5.3%; **-10.0%** (1 seed)"
    assert rows["ptb-small"]["AL"] == f"{82.9 / 87.3 - 1:+.1%}; not run"
    assert rows["wikitext-2-small"]["RE"].startswith("~")  # the baseline is from memory
    assert rows["wikitext-2-small"]["AL, with RE"][0] != "~"


def test_tied_models_without_a_bias_are_compared_with_the_same_untied_ones():
    found = [
        run("ptb-small", 1, 92, 100), run("ptb-small-al", 1, 92, 95),
        run("ptb-small-real", 1, 85, 80), run("ptb-small-real", 1, 86, 90, decoder_bias=False),
    ]  # fmt: skip
    rows = {row[0]: dict(zip(HEADER, row, strict=True)) for row in effects(found)}
    without = [name for name in rows if name.endswith("tied with b = 0")]
    assert without == ["ptb-small, tied with b = 0", "ptb-medium, tied with b = 0"]
    assert "**-20.0%**" in rows["ptb-small"]["REAL"]
    assert "**-10.0%**" in rows[without[0]]["REAL"]
    assert rows[without[0]]["AL"] == rows["ptb-small"]["AL"]
    assert rows[without[0]]["RE"].endswith("not run")


@pytest.mark.parametrize(("name", "pair"), EFFECTS.items())
def test_the_recipes_of_a_pair_differ_only_in_the_added_part(name, pair):
    base, other = (get_recipe("ptb-medium" + suffix) for suffix in pair)
    adds_al, adds_re = name.split(",")[0] in ("AL", "REAL"), name[:2] == "RE"
    assert ((base.alpha == 0) and (other.alpha > 0)) == adds_al
    assert ((not base.tied) and other.tied) == adds_re
