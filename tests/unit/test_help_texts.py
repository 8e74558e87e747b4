"""Every argument of every command has a help text, from its flag or from the docstring."""

import dataclasses
import shutil
import subprocess
import typing
from pathlib import Path

import docstring_parser
import pytest

from tiedlm.cli import build_app
from tiedlm.cli.method_flags import MethodFlags
from tiedlm.evaluation.cache import Cache
from tiedlm.evaluation.dynamic import SGD, Dynamic


def commands(app, path=()):
    """Yield the words and the app of each command."""
    for name in app:
        if not name.startswith("-"):
            inner = app[name]
            if any(not other.startswith("-") for other in inner):
                yield from commands(inner, (*path, name))
            else:
                yield (*path, name), inner


COMMANDS = dict(commands(build_app()))


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_argument_of_a_command_has_a_help_text(path):
    app = COMMANDS[path]
    written = docstring_parser.parse(app.default_command.__doc__ or "").params
    described = {one.arg_name for one in written if one.description}
    for argument in app.assemble_argument_collection():
        name = argument.field_info.name
        if argument.show:
            assert argument.parameter.help or name in described, argument.name


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_a_help_hides_no_paragraph_of_a_docstring(path):
    app = COMMANDS[path]
    more = docstring_parser.parse(app.default_command.__doc__ or "").long_description
    assert not more or more in app.help


def test_the_help_of_a_command_says_more_than_its_line_in_the_list():
    app = build_app()
    assert "run the same command again to continue" in app["reproduce"].help
    assert "total of a hypothesis" in app["rescore"].help


def test_the_defaults_that_the_help_of_a_method_names_are_true():
    hints = typing.get_type_hints(MethodFlags, include_extras=True)
    texts = {name: hint.__metadata__[-1].help for name, hint in hints.items()}
    for prefix, values in (("dynamic", Dynamic()), ("cache", Cache())):
        for field in dataclasses.fields(values):
            if field.name != "rule":
                default = f"{getattr(values, field.name):g}".replace("e-05", "e-5")
                assert f"{default} " in f"{texts[f'{prefix}_{field.name}']} ", field.name
    assert f"{SGD.lr:g} with sgd" in texts["dynamic_lr"]
    assert f"{SGD.decay:g} with sgd" in texts["dynamic_decay"]


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_lists_its_targets_with_the_tools_of_any_system(tmp_path):
    """A small container has no ``column``."""
    for tool in ("awk", "make", "sh"):
        (tmp_path / tool).symlink_to(shutil.which(tool))
    done = subprocess.run(
        ["make"],
        cwd=Path(__file__).parents[2],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    assert "make demo      train the paper's four models" in done.stdout
