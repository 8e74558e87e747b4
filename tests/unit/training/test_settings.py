"""Recipes have the paper's numbers, and wrong settings are refused."""

import dataclasses
from typing import get_args

import pytest

from tiedlm.errors import UserError
from tiedlm.experiments.recipes import RECIPES, RHN_WIDTHS, get_recipe
from tiedlm.training.build import model_config
from tiedlm.training.settings import FlagGroup, Settings


def test_learning_rate_is_full_until_decay_after_and_shrinks_each_epoch_from_then():
    settings = Settings(lr=1.0, lr_decay=0.9, decay_after=5)
    rates = [settings.lr_at(epoch) for epoch in range(1, 9)]
    assert rates == pytest.approx([1, 1, 1, 1, 1, 0.9, 0.81, 0.729])


@pytest.mark.parametrize(
    ("name", "vocab_size", "parameters"),
    [("ptb-awd-lstm", 10_000, 24_221_600), ("wikitext-2-awd-lstm", 33_278, 33_556_078)],
)
def test_awd_lstm_has_the_published_number_of_parameters(name, vocab_size, parameters):
    assert model_config(get_recipe(name), vocab_size).num_params() == parameters


def test_awd_lstm_has_the_published_numbers_in_our_scale():
    """Its program averages over the 70 steps of a window; we sum over them."""
    recipe = get_recipe("ptb-awd-lstm")
    assert recipe.lr == pytest.approx(0.43, abs=0.002)
    found = [recipe.clip, recipe.ar, recipe.tar, recipe.weight_decay, recipe.bptt]
    assert found == pytest.approx([17.5, 140, 70, 8.4e-5, 70])
    assert not recipe.weight_decay_inside
    assert [recipe.lr_at(e) for e in (1, 500)] == [recipe.lr] * 2
    drops = [recipe.dropout_input, recipe.dropout_hidden, recipe.dropout_words]
    assert drops == [0.4, 0.25, 0.1]
    assert recipe.options == {"dropout_output": 0.4, "dropconnect": 0.5}
    assert (recipe.optimizer, recipe.average_trigger, recipe.epochs) == ("nt-asgd", 5, 500)


def test_the_transformer_has_the_published_24_million_parameters():
    """The published one has relative positions, biases and a plain feed-forward layer of 900."""
    attention, norms = 4 * 380 * 380, 2 * 380
    words = 10_000 * 380 + 10_000
    layer = attention + 3 * 380 * 600 + norms
    theirs = attention + (2 * 380 * 900 + 900 + 380) + 2 * norms
    found = model_config(get_recipe("ptb-transformer"), 10_000).num_params()
    assert found == words + 16 * layer + 380 == 24_008_140
    assert words + 16 * theirs == 24_040_400
    assert round(found, -5) == 24_000_000


def test_the_transformer_has_the_published_numbers_in_our_scale():
    recipe = get_recipe("ptb-transformer")
    found = [recipe.clip, recipe.ar, recipe.tar, recipe.weight_decay]
    assert found == pytest.approx([17.5, 14, 7, 8.4e-5])
    assert (recipe.lr, recipe.lr_min, recipe.warmup) == (3e-4, 1e-4, 3000)
    assert recipe.epochs - recipe.average_from + 1 == 50
    network = model_config(recipe, 100).network_options
    assert (network.n_heads, network.memory, network.dropout_output) == (10, 140, 0.5)


@pytest.mark.parametrize(("suffix", "tied", "augmented"), [
    ("", False, False), ("-al", False, True), ("-re", True, False), ("-real", True, True),
])  # fmt: skip
def test_a_transformer_for_ones_own_text_is_there_as_each_variant(suffix, tied, augmented):
    recipe = get_recipe(f"transformer{suffix}")
    assert (recipe.tied, recipe.alpha > 0, recipe.data) == (tied, augmented, "")
    config = model_config(recipe, 10_000)
    words = (1 if tied else 2) * 10_000 * 200 + 10_000
    layer = 4 * 200 * 200 + 3 * 200 * 400 + 2 * 200
    assert config.num_params() == words + 4 * layer + 200


@pytest.mark.parametrize(("suffix", "tied", "augmented"), [
    ("", False, False), ("-al", False, True), ("-re", True, False), ("-real", True, True),
])  # fmt: skip
def test_awd_lstm_for_ones_own_text_is_there_as_each_variant(suffix, tied, augmented):
    recipe = get_recipe(f"awd-lstm{suffix}")
    assert (recipe.tied, recipe.alpha > 0, recipe.data) == (tied, augmented, "")
    assert recipe.patience > recipe.average_trigger, "averaging begins before the run ends"


@pytest.mark.parametrize(("name", "vocab", "d_embed", "d_hidden", "parameters"), [
    ("ptb-evening", 10_000, 400, 650, 11_813_600),
    ("wikitext-2-evening", 33_278, 256, 576, 13_986_814),
])  # fmt: skip
def test_the_evenings_recipes_have_under_14_million_parameters(
    name, vocab, d_embed, d_hidden, parameters
):
    words = vocab * d_embed + vocab
    layers = [(d_embed, d_hidden), (d_hidden, d_hidden), (d_hidden, d_embed)]
    found = model_config(get_recipe(name), vocab).num_params()
    assert found == words + sum(4 * w * (d + w + 2) for d, w in layers) == parameters


def test_the_evenings_recipe_for_wikitext_2_is_without_the_augmented_loss():
    recipe = get_recipe("wikitext-2-evening")
    assert (recipe.tied, recipe.alpha) == (True, 0)


def test_the_evenings_recipe_is_the_same_for_ones_own_text():
    recipe, own = get_recipe("ptb-evening"), get_recipe("evening")
    assert own.data == ""
    assert own.replace(recipe="ptb-evening", data="ptb", patience=None) == recipe


def test_large_schedule_decays_after_the_first_epoch():
    large = get_recipe("ptb-large")
    assert [large.lr_at(e) for e in (1, 2, 3)] == pytest.approx([1, 0.97, 0.97**2])


def test_every_recipe_has_a_bias_tied_or_not():
    assert {settings.decoder_bias for settings in RECIPES.values()} == {True}


@pytest.mark.parametrize(
    ("corpus", "size", "keep", "width", "clip"),
    [
        ("ptb", "small", 0.7, 200, 5),
        ("ptb", "medium", 0.5, 650, 5),
        ("ptb", "large", 0.35, 1500, 6),
        ("wikitext-2", "small", 0.8, 200, 5),
        ("wikitext-2", "medium", 0.6, 650, 5),
    ],
)
def test_recipe_has_the_papers_numbers(corpus, size, keep, width, clip):
    for suffix, tied, augmented in (
        ("", False, False),
        ("-al", False, True),
        ("-re", True, False),
        ("-real", True, True),
    ):
        recipe = get_recipe(f"{corpus}-{size}{suffix}")
        assert recipe.recipe == f"{corpus}-{size}{suffix}"
        assert recipe.data == corpus
        assert (recipe.d_embed, recipe.d_hidden, recipe.n_layers) == (width, width, 2)
        # The paper gives the probability of keeping a unit, ours the probability of dropping it.
        assert recipe.dropout_input == recipe.dropout_hidden == pytest.approx(1 - keep)
        assert (recipe.lr, recipe.batch_size, recipe.bptt, recipe.clip) == (1.0, 20, 35, clip)
        assert recipe.tied is tied
        assert (recipe.alpha > 0) is augmented
        if augmented:
            low, high = (0.5, 0.8) if corpus == "ptb" else (1.0, 1.5)
            assert recipe.temperature == 20
            assert low <= recipe.alpha / recipe.temperature <= high


def test_the_four_variants_differ_in_model_and_loss_settings_only():
    names = ["ptb-small", "ptb-small-al", "ptb-small-re", "ptb-small-real"]
    all_settings = [get_recipe(name).to_dict() for name in names]
    different = {
        key for key in all_settings[0] if len({repr(found[key]) for found in all_settings}) > 1
    }
    assert different == {"recipe", "tied", "alpha"}


def test_unknown_recipe_names_the_nearest():
    with pytest.raises(UserError, match=r"'ptb-smal-real'.*did you mean 'ptb-small-real'"):
        get_recipe("ptb-smal-real")


def test_unknown_setting_names_the_nearest():
    with pytest.raises(UserError, match=r"'dropout_hiden'.*did you mean 'dropout_hidden'"):
        Settings().replace(dropout_hiden=0.1)


@pytest.mark.parametrize(
    "change",
    [
        {"lr": 0.0},
        {"lr": -1.0},
        {"epochs": 0},
        {"batch_size": 0},
        {"dropout_input": 1.0},
        {"dropout_hidden": -0.1},
        {"alpha": -1.0},
        {"temperature": 0.0},
        {"lr_decay": 1.1},
        {"fraction": 0.0},
        {"fraction": 1.5},
        {"skip": 1.0},
        {"vocab_from": "valid"},
        {"ce_weight": -0.1},
        {"precision": "fp8"},
        {"patience": 0},
        {"init_range": 0.0},
        {"clip": 0.0},
        {"decay_after": -1},
        {"optimizer": "rmsprop"},
        {"schedule": "linear"},
        {"beta1": 1.0},
        {"beta2": -0.1},
        {"weight_decay": -1e-7},
        {"warmup": -1},
        {"lr_min": -0.1},
        {"plateau_patience": 0},
        {"average_from": 0},
        {"average_trigger": 0},
        {"ar": -1.0},
        {"tar": -1.0},
    ],
    ids=str,
)
def test_a_value_out_of_range_is_named_with_its_flag(change):
    ((name, value),) = change.items()
    flag = "--" + name.replace("_", "-")
    with pytest.raises(UserError, match=rf"{flag} .*expected .*got {value}"):
        Settings(**change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"optimizer": "adma"}, r"--optimizer .*one of sgd, adam.* \(did you mean 'adam'\?\)"),
        ({"optimizer": "ntasgd"}, r"did you mean 'nt-asgd'"),
        ({"precision": "fp23"}, r"one of auto, fp32, bf16 \(did you mean 'fp32'\?\), got fp23"),
        ({"vocab_from": "hole"}, r"--vocab-from .*one of part, whole \(did you mean 'whole'\?\)"),
        ({"schedule": "cosinus"}, r"--schedule .*did you mean 'cosine'"),
        ({"optimizer": "adamw", "weight_decay_inside": True}, "take --optimizer adam"),
        ({"optimizer": "nt-asgd", "average_from": 3}, "--average-from 3.*take --optimizer sgd"),
        ({"lr": 0.1, "lr_min": 0.2}, "--lr-min 0.2 is above --lr 0.1"),
        ({"unit_norm": True, "average_from": 3}, "--unit-norm.*--average-from"),
        ({"unit_norm": True, "optimizer": "nt-asgd"}, "--unit-norm.*--optimizer nt-asgd"),
    ],
    ids=str,
)
def test_a_choice_that_does_not_exist_or_contradicts_another_is_refused(change, message):
    with pytest.raises(UserError, match=message):
        Settings(**change)


def test_settings_survive_json():
    for recipe in RECIPES.values():
        assert Settings.from_dict(recipe.to_dict()) == recipe


def test_no_loss_at_all_is_refused():
    with pytest.raises(UserError, match="no loss is left"):
        Settings(ce_weight=0.0)


def test_every_setting_but_the_recipe_has_a_flag_in_a_group():
    groups = {field.name: field.metadata["group"] for field in dataclasses.fields(Settings)}
    assert groups.pop("recipe") is None
    assert set(groups.values()) <= set(get_args(FlagGroup))
    research = {name for name, group in groups.items() if group == "Research"}
    assert research == {
        "skip", "vocab_from", "soft_target", "soft_target_from", "ce_weight", "unit_norm",
    }  # fmt: skip


# Millions, as the authors give them: tied, with a bias, 10,000 words.
@pytest.mark.parametrize(("depth", "millions"), [(9, 23.42), (10, 23.48)])
def test_recurrent_highway_recipes_have_the_published_number_of_parameters(depth, millions):
    count = model_config(get_recipe(f"ptb-rhn-{depth}"), 10_000).num_params()
    assert round(count / 1e6, 2) == millions


def test_recurrent_highway_recipes_have_the_published_settings():
    for depth in range(1, 11):
        recipe = get_recipe(f"ptb-rhn-{depth}")
        assert recipe.options == {"depth": depth, "dropout_output": 0.75}
        assert (recipe.tied, recipe.decoder_bias, recipe.alpha) == (True, True, 0)
        drops = (recipe.dropout_words, recipe.dropout_input, recipe.dropout_hidden)
        assert drops == (0.25, 0.75, 0.25)
        assert (recipe.weight_decay, recipe.weight_decay_inside, recipe.clip) == (1e-7, True, 10)
        assert recipe.lr_at(20) == 0.2
        assert recipe.lr_at(21) == pytest.approx(0.2 / 1.02)
    plain, tied, both = (get_recipe(f"ptb-rhn-9{suffix}") for suffix in ("", "-re", "-real"))
    assert tied.replace(recipe="ptb-rhn-9") == plain
    assert both.replace(recipe="ptb-rhn-9", alpha=0.0) == plain
    assert both.alpha == get_recipe("ptb-small-real").alpha


@pytest.mark.parametrize("depth", RHN_WIDTHS)
def test_rhn_counts_parameters_as_the_authors_do_and_untied_networks_are_equally_large(depth):
    """In rhn.py the first depth reads word vector and state, each further one the state alone."""
    recipe, d = get_recipe(f"ptb-rhn-{depth}"), RHN_WIDTHS[depth]
    first, further = 2 * (2 * d * d + d), 2 * (d * d + d)
    tied = model_config(recipe, 10_000).num_params()
    assert tied == 10_000 * d + 10_000 + first + (depth - 1) * further
    assert 19.2e6 < tied < 23.5e6
    untied = model_config(recipe.replace(tied=False), 10_000).num_params()
    assert untied == pytest.approx(32e6, rel=0.01)  # "keeping the model size fixed"


@pytest.mark.parametrize("network", ["rhn", "gru"])
def test_recipes_for_text_of_ones_own_differ_in_tying_and_loss_only(network):
    recipes = [get_recipe(network + suffix) for suffix in ("", "-al", "-re", "-real")]
    assert [(recipe.tied, recipe.alpha > 0) for recipe in recipes] == [
        (False, False), (False, True), (True, False), (True, True),
    ]  # fmt: skip
    same = {repr(r.replace(recipe="", tied=False, alpha=0.0)) for r in recipes}
    assert len(same) == 1
    assert recipes[0].network == network
    model_config(recipes[0], 100)  # its options are the network's


@pytest.mark.parametrize("name", RECIPES)
def test_the_options_of_every_recipe_are_its_network_s(name):
    assert model_config(get_recipe(name), 100).num_params() > 0
