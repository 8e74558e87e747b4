"""Each setting counts correctly in the five questions about whether two runs are the same."""

import dataclasses

import pytest

from tiedlm.training import same_run
from tiedlm.training.settings import Settings

BASE = Settings(recipe="base", alpha=1.0)
# By default a value decides the result, may not change, and belongs to a cell.
WRITES_MORE = {"evaluate_every", "keep_at"}
DECIDES_NOTHING = {"accumulate", "device", "threads"} | WRITES_MORE
MAY_CHANGE = {"data", "device", "epochs", "init_from", "patience", "threads"} | WRITES_MORE
NOT_OF_A_CELL = {
    "accumulate",
    "device",
    "init_from",
    "precision",
    "recipe",
    "seed",
    "threads",
} | WRITES_MORE
OTHER_VALUES = {
    "network": "own", "options": {"depth": 3}, "dropout_words": 0.5,
    "recipe": "other", "data": "elsewhere", "tokenize": True, "fraction": 0.5, "skip": 0.5,
    "vocab_from": "whole", "vocab_size": 9, "min_count": 3, "tied": True, "decoder_bias": False,
    "dropout_input": 0.5, "dropout_hidden": 0.5, "target_grad": False, "soft_target": "uniform",
    "unit_norm": True, "accumulate": 2, "patience": 3, "init_from": "a/first", "precision": "bf16",
    "device": "cpu", "threads": 3, "lr_decay": 0.5, "optimizer": "adam", "schedule": "plateau",
    "beta1": 0.5, "beta2": 0.5, "lr_min": 0.5, "weight_decay_inside": True, "bptt_jitter": True,
    "average_from": 3, "keep_at": "1M", "evaluate_every": 1000,
    "field": "content", "shuffle": "documents", "pieces": "bpe",
}  # fmt: skip
ALL = [field.name for field in dataclasses.fields(Settings)]


def changed(name):
    if name == "soft_target_from":
        return [BASE.replace(soft_target="frozen", soft_target_from=place) for place in "ab"]
    value = OTHER_VALUES.get(name)
    return [BASE, BASE.replace(**{name: getattr(BASE, name) + 1 if value is None else value})]


@pytest.mark.parametrize("name", ALL)
def test_each_setting_counts_where_it_should(name):
    old, new = changed(name)
    assert old != new
    assert (same_run.changes(old, new, same_run.FIXED) == []) == (
        name in MAY_CHANGE - {"init_from"}  # a second session is not a first
    )
    is_same_file = same_run.trajectory(old) == same_run.trajectory(new)
    assert is_same_file == (name in {"device", "epochs", "patience", "threads"} | WRITES_MORE)
    assert same_run.same_length(old, new) == (name not in {"epochs", "patience"})
    assert (same_run.of_cell(old) == same_run.of_cell(new)) == (name in NOT_OF_A_CELL)
    is_one_row = same_run.of_result(old) == same_run.of_result(new)
    assert is_one_row == (name in DECIDES_NOTHING | {"data", "seed"})


def test_the_place_of_an_earlier_run_may_change_but_not_whether_there_is_one():
    first, second = BASE, BASE.replace(init_from="a/first")
    moved = second.replace(init_from="b/first")
    assert same_run.changes(second, moved, same_run.FIXED) == []
    assert same_run.changes(first, second, same_run.FIXED) == ["init_from: not given before"]
    assert same_run.changes(second, first, same_run.FIXED) == ["init_from: given before"]
    assert same_run.trajectory(second) != same_run.trajectory(moved)


def test_a_cosine_ends_with_the_last_epoch_so_a_run_keeps_their_number():
    old = BASE.replace(schedule="cosine")
    new = old.replace(epochs=old.epochs + 1)
    assert same_run.changes(old, new, same_run.fixed(new)) == ["epochs: 45 -> 46"]
    assert same_run.trajectory(old) != same_run.trajectory(new)
    plateau = BASE.replace(schedule="plateau")
    assert same_run.fixed(plateau) == same_run.FIXED


def test_a_default_and_its_value_are_the_same():
    for default, value in (
        ({"tied": True}, {"tied": True, "decoder_bias": False}),
        ({}, {"decoder_bias": True}),
        ({"precision": "auto"}, {"precision": "fp32"}),
    ):
        old, new = Settings(**default), Settings(**value)
        assert same_run.changes(old, new, same_run.FIXED) == []
        assert same_run.trajectory(old) == same_run.trajectory(new)
        assert same_run.of_cell(old) == same_run.of_cell(new)
        assert same_run.of_result(old) == same_run.of_result(new)


def test_a_cell_knows_another_run_by_its_name_not_its_place():
    frozen = BASE.replace(soft_target="frozen", soft_target_from="runs/base-seed1")
    assert same_run.of_cell(frozen) == same_run.of_cell(
        frozen.replace(soft_target_from="/elsewhere/base-seed1")
    )
