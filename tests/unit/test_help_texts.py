"""Every argument of every command has a help text, from its flag or from the docstring."""

import docstring_parser
import pytest

from tiedlm.cli import build_app


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
