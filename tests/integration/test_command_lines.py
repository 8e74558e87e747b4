"""A command line with an empty argument, or with --mix before the run, gets one clear line."""

import os

import pytest

from tests_support import run_command as run


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["evaluate", ""], "RUN"),
        (["evaluate", "a", "--data", ""], "--data"),
        (["evaluate", "a", "--data="], "--data"),
        (["evaluate", "a", "--mix", "b", ""], "--mix"),
        (["compare", "a", ""], "RUNS"),
        (["export", "a", "--to", "hf", ""], "--to"),
        (["score", "a", ""], "FILE"),
        (["pairs", "a", "b", ""], "MORE"),
        (["data", "check", ""], "CORPUS"),
        (["train", ""], "RECIPE"),
        (["train", "small", "--data", "a", "--out", ""], "--out"),
        (["train", "small", "--data", "a", "--init-from", ""], "--init-from"),
        (["demo", "--out", ""], "--out"),
        (["reproduce", "table1", "--results", ""], "--results"),
        (["predict", "", "a b"], "RUN"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_an_empty_argument_is_named_and_is_not_the_current_folder(
    capsys, tmp_path, monkeypatch, arguments, name
):
    monkeypatch.chdir(tmp_path)
    status, out, err = run(capsys, *arguments)
    command = " ".join(arguments[: 1 + (arguments[0] == "data")])
    assert (status, out) == (2, "")
    assert err == f"tiedlm: error: tiedlm {command}: {name} is empty; is a shell variable unset?\n"
    assert not os.listdir()


@pytest.mark.parametrize(
    "arguments",
    [
        ["predict", "a", ""],
        ["generate", "a", ""],
        ["score", "a", "b", "--column", ""],
        ["pairs", "a", "b", "--good", "", "--bad", "x", "--by", ""],
        ["export", "a", "--to", "hf", "b", "--no-check", "--json"],
    ],
    ids=" ".join,
)
def test_a_context_and_a_column_may_be_empty_and_a_switch_has_no_value(capsys, arguments):
    status, _, err = run(capsys, *arguments)
    assert status == 2
    assert "is empty" not in err


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["evaluate", "--mix", "a", "b"], "RUN"),
        (["evaluate", "--mix=a", "b"], "RUN"),
        (["evaluate", "--mix", "a", "--cache", "--mix", "b"], "RUN"),
        (["score", "a", "--mix", "b", "c"], "FILE"),
        (["rescore", "--mix", "a", "b", "c"], "RUN"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_missing_argument_that_mix_took_is_named(capsys, arguments, name):
    status, out, err = run(capsys, *arguments)
    assert (status, out) == (2, "")
    assert err == (
        f"tiedlm: error: tiedlm {arguments[0]}: {name} is missing, because --mix takes everything "
        f"up to the next flag; put {name} before --mix\n"
    )


def test_another_missing_argument_is_not_blamed_on_mix(capsys):
    assert "--mix" not in run(capsys, "score", "a")[2]
    assert "--seed" in run(capsys, "evaluate", "a", "--mix", "b", "--seed")[2]
