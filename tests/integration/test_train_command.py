"""``tiedlm train`` says what a flag does not do, and what a name is not."""

import re
import shutil

import pytest

from tests_support import run_command as run
from tiedlm.experiments.recipes import get_recipe
from tiedlm.training.effects import notes_on_strength, notes_without_effect

TINY = ["--d-embed=12", "--d-hidden=12", "--batch-size=4", "--bptt=5", "--epochs=1", "--threads=1"]


@pytest.mark.parametrize(
    ("recipe", "changes", "expected"),
    [
        ("small", {"beta1": 0.8}, "--beta1 has no effect: it needs --optimizer adam or adamw"),
        ("small", {"average_from": 46}, "--average-from has no effect: it needs an epoch that is"),
        ("small", {"temperature": 2.0}, "--temperature has no effect: it needs the augmented loss"),
        ("small", {"lr_min": 0.1}, "--lr-min has no effect: it needs --schedule cosine"),
        ("transformer", {"decay_after": 3}, "--decay-after has no effect: it needs --schedule exp"),
        ("small", {"average_trigger": 3}, "--average-trigger has no effect: it needs --optimizer"),
        ("small", {"weight_decay_inside": True}, "--weight-decay-inside has no effect: it needs"),
    ],
)
def test_a_setting_without_effect_is_noted(recipe, changes, expected):
    (line,) = notes_without_effect(get_recipe(recipe).replace(**changes), changes)
    assert line.startswith(expected)


@pytest.mark.parametrize(
    ("recipe", "changes"),
    [
        ("transformer", {"beta1": 0.8, "lr_min": 1e-5}),
        ("small-real", {"temperature": 2.0, "decay_after": 3, "lr_decay": 0.8}),
        ("small", {"average_from": 45, "weight_decay": 0.1, "weight_decay_inside": True}),
        ("awd-lstm", {"average_trigger": 3}),
    ],
)
def test_a_setting_with_an_effect_is_not_noted(recipe, changes):
    assert notes_without_effect(get_recipe(recipe).replace(**changes), changes) == []


@pytest.mark.parametrize(
    ("recipe", "flag", "wanted"),
    [
        ("small", "--beta2=0.9", ["note: --beta2 has no effect"]),
        (
            "small-real",
            "--temperature=10",
            ["note: --temperature without --alpha", "--alpha 26 would keep it"],
        ),
    ],
)
def test_train_prints_a_note_once_and_goes_on(capsys, tiny_corpus, tmp_path, recipe, flag, wanted):
    status, _, err = run(
        capsys, "train", recipe, "--data", tiny_corpus, "--out", tmp_path / "run", "--quiet", flag,
        *TINY,
    )  # fmt: skip
    assert status == 0
    assert [err.count(text) for text in wanted] == [1] * len(wanted)


@pytest.mark.parametrize(
    ("recipe", "changes", "wanted"),
    [
        ("small-real", {"temperature": 10.0}, ["is 5.2 instead of 2.6; --alpha 26 would keep"]),
        ("small-al", {"temperature": 40.0}, ["is 0.325 instead of 0.65; --alpha 26 would keep"]),
        ("small-real", {"temperature": 10.0, "alpha": 13.0}, []),
        ("small-real", {"temperature": 20.0}, []),
        ("small-real", {"lr": 0.5}, []),
        ("small-re", {"temperature": 10.0}, []),
    ],
)
def test_a_temperature_without_its_alpha_is_noted(recipe, changes, wanted):
    base = get_recipe(recipe)
    found = notes_on_strength(base.replace(**changes), base, changes)
    assert len(found) == len(wanted)
    assert all(text in line for text, line in zip(wanted, found, strict=True))


def test_a_folder_with_another_programs_configuration_is_refused(capsys, tiny_corpus, tmp_path):
    (tmp_path / "config.json").write_text('{"architectures": ["GPT2LMHeadModel"]}')
    status, _, err = run(capsys, "train", "small-real", "--data", tiny_corpus, "--out", tmp_path)
    assert status == 2
    assert "config.json is not a run's" in err
    assert [path.name for path in tmp_path.iterdir() if path.name != ".lock"] == ["config.json"]


def test_show_refuses_an_unknown_network(capsys):
    status, out, err = run(capsys, "train", "small", "--network", "lstmm", "--show")
    assert (status, out) == (2, "")
    assert "network 'lstmm' is not registered (did you mean 'lstm'?)" in err


@pytest.mark.parametrize("name", ["elman", "encoder"])
def test_a_network_in_the_place_of_a_recipe_is_told_from_one(capsys, name):
    status, _, err = run(capsys, "train", name, "--data", "my.txt")
    assert status == 2
    assert f"{name!r} is a network and not a recipe; take `tiedlm train small-real" in err


def test_the_columns_of_the_list_of_recipes_are_straight(capsys):
    lines = run(capsys, "train", "--list")[1].splitlines()[:-1]
    assert len({line.index(" d = ") for line in lines}) == 1


def test_flags_that_take_words_say_so(capsys):
    out = run(capsys, "train", "--help")[1]
    assert re.findall(r"(--[a-z-]+) WORDS ", out) == ["--keep-at", "--evaluate-every"]


def test_help_breaks_lines_where_the_terminal_ends_only(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert shutil.get_terminal_size().columns == 200
    out = run(capsys, "export", "--help")[1]
    assert "measure their perplexity on the validation text." in out
    assert "<eos>" in run(capsys, "score", "--help")[1]
