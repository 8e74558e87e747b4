"""Options that a network declares: checked, resolved, parsed, compared."""

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

import own_network
from tests_support import run_command
from tiedlm import LanguageModel, ModelConfig
from tiedlm.errors import UserError
from tiedlm.networks import about, option, options_class, parse_options, register, registered
from tiedlm.training import same_run
from tiedlm.training.build import _architectures
from tiedlm.training.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Options:
    depth: int = option(2, "Number of steps within a step.")
    drop: float = option(0.5, "Probability of dropping.", training_only=True)
    gated: bool = option(False, "Whether a gate is there.")
    shape: Literal["tanh", "relu"] = option("tanh", "The squashing function.")
    width: int | None = option(None, "Another width.")

    def __post_init__(self):
        if self.depth < 1:
            raise ValueError(f"depth: expected at least 1, got {self.depth}")


@pytest.fixture(autouse=True)
def optional(own_networks):
    """Register a network that has options."""

    @register("optional", options=Options)
    class Optional(own_network.OwnNetwork):
        pass


def config(**options):
    return ModelConfig(vocab_size=5, network="optional", options=options)


def test_a_network_without_options_has_none():
    assert dataclasses.asdict(ModelConfig(vocab_size=5))["options"] == {}
    assert dataclasses.fields(options_class("lstm")) == ()


def test_options_are_completed_and_a_default_spelled_out_changes_nothing():
    made = config(depth=3)
    assert made.options == {
        "depth": 3, "drop": 0.5, "gated": False, "shape": "tanh", "width": None
    }  # fmt: skip
    assert made.network_options == Options(depth=3)
    assert made == config(depth=3, drop=0.5) != config()
    assert hash(made) == hash(config(depth=3, drop=0.5))
    assert made.num_params() == LanguageModel(made).num_params()


def test_a_whole_number_is_a_number():
    assert config(drop=1).network_options.drop == 1.0
    assert isinstance(config(drop=1).options["drop"], float)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dept": 1}, r"network optional has no option 'dept' \(did you mean 'depth'\?\); its "
                      "options: depth, drop, gated, shape, width"),
        ({"depth": 0}, "network optional, option depth: expected at least 1, got 0"),
        ({"depth": 1.5}, "option depth: expected a whole number, got 1.5"),
        ({"depth": True}, "option depth: expected a whole number, got True"),
        ({"drop": "much"}, "option drop: expected a number, got 'much'"),
        ({"drop": float("nan")}, "option drop: expected a number, got nan"),
        ({"gated": 1}, "option gated: expected true or false, got 1"),
        ({"shape": "sine"}, "option shape: expected one of tanh, relu, got 'sine'"),
    ],
)  # fmt: skip
def test_a_wrong_option_is_named_with_what_was_expected(options, message):
    with pytest.raises(UserError, match=f"^{message}$"):
        config(**options)


def test_a_network_without_options_says_so():
    with pytest.raises(UserError, match=r"^network lstm has no option 'depth'; it has none$"):
        ModelConfig(vocab_size=5, options={"depth": 1})


def test_options_that_no_flag_could_give_are_refused():
    @dataclass(frozen=True, kw_only=True)
    class NoHelp:
        depth: int = 2

    @dataclass(frozen=True, kw_only=True)
    class NoDefault:
        depth: int

    @dataclass(frozen=True, kw_only=True)
    class OddType:
        depth: list[int] | None = option(None, "Depths.")

    @dataclass
    class Thawed:
        depth: int = option(2, "Depth.")

    for wrong, message in (
        (NoHelp, "depth has no help"),
        (NoDefault, "depth must be keyword-only and have a default"),
        (OddType, "depth must be an int, float, bool, str or Literal"),
        (Thawed, "expected a frozen dataclass"),
        (int, "expected a frozen dataclass"),
    ):
        with pytest.raises(ValueError, match=f"options: {message}"):
            register("wrong", options=wrong)


def test_settings_compare_options_as_they_are_meant():
    plain, spelled, other = (
        Settings(network="optional", options=options)
        for options in ({}, {"depth": 2}, {"depth": 3})
    )
    assert same_run.changes(plain, spelled, same_run.FIXED) == []
    assert same_run.trajectory(plain) == same_run.trajectory(spelled)
    assert same_run.of_cell(plain) == same_run.of_cell(spelled) != same_run.of_cell(other)
    (difference,) = same_run.changes(plain, other, same_run.FIXED)
    assert difference.startswith("options: {'depth': 2")


def test_a_default_that_earlier_runs_had_is_not_part_of_a_run_s_name():
    assert not {"options", "dropout_words"} & same_run.trajectory(Settings()).keys()
    assert same_run.trajectory(Settings(dropout_words=0.1))["dropout_words"] == 0.1


def test_settings_of_a_network_that_is_not_registered_here_are_compared_as_they_are():
    one, other = (Settings(network="absent", options={"depth": n}) for n in (1, 2))
    assert same_run.changes(one, one, same_run.FIXED) == []
    assert same_run.changes(one, other, same_run.FIXED)


def test_a_run_may_start_from_one_with_another_option_of_training_alone():
    def options_of(**options):
        return _architectures(config(**options))["options"]

    assert options_of(drop=0.1) == options_of(drop=0.9) != options_of(depth=3)


def test_options_are_given_on_the_command_line(capsys):
    arguments = ("train", "small", "--show", "--network", "optional")
    given = ("--option", "depth=3", "--option", "drop=0.25", "--option=gated=true")
    status, out, err = run_command(capsys, *arguments, *given, "--option", "shape=relu")
    assert status == 0, err
    shown = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert shown["options"] == "depth=3, drop=0.25, gated=True, shape=relu, width=None"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("depth", "--option 'depth': expected name=value, such as depth=5"),
        ("depth=two", "option depth: expected a whole number, got 'two'"),
        ("depth=0", "network optional, option depth: expected at least 1, got 0"),
        ("gated=perhaps", "option gated: expected true or false, got 'perhaps'"),
        ("shape=sine", "option shape: expected one of tanh, relu, got 'sine'"),
        ("width=1.5", "option width: expected a whole number, got '1.5'"),
        ("dept=1", "network optional has no option 'dept' (did you mean 'depth'?); its options: "
                   "depth, drop, gated, shape, width"),
    ],
)  # fmt: skip
def test_a_wrong_option_is_one_line(capsys, tiny_corpus, tmp_path, text, message):
    arguments = ("--data", tiny_corpus, "--out", tmp_path / "run", "--network", "optional")
    status, _, err = run_command(capsys, "train", "small", *arguments, "--option", text)
    assert (status, err) == (2, f"tiedlm: error: {message}\n")
    assert not (tmp_path / "run").exists()


def test_networks_are_listed_with_their_options(capsys):
    status, out, err = run_command(capsys, "info", "--networks")
    assert status == 0, err
    assert "lstm: the paper's LSTM with variational dropout; no options\n" in out
    assert "optional\n  --option depth" in out  # its author does not say what it is
    assert "  --option shape=tanh" in out
    assert "The squashing function." in out


def test_the_page_says_of_each_network_what_info_says():
    page = (Path(__file__).parents[3] / "docs" / "networks.md").read_text()
    rows = page.split("| network | what it is | recipes |")[1].split("\n\n")[0]
    table = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", rows, re.MULTILINE))
    built_in = [name for name in registered() if about(name)]
    assert len(built_in) == 7
    assert {name: about(name) for name in built_in} == {name: table[name] for name in built_in}


def test_an_option_that_is_given_twice_is_refused():
    with pytest.raises(UserError, match="--option depth is given twice"):
        parse_options("rhn", options_class("rhn"), ["depth=3", "depth=4"])
