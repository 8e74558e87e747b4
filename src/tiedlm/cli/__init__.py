"""The ``tiedlm`` command. Each subcommand has a file of its own, imported only when it runs.

A user's mistake prints one line on standard error and exits with status 2. A run that was asked to
stop exits with 130. A run whose loss is no longer finite exits with 1.
"""

from __future__ import annotations

import errno
import io
import os
import re
import sys
from contextlib import AbstractContextManager, ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NoReturn, TextIO, TypeVar, cast

from cyclopts import UNSET, App, ArgumentCollection, CycloptsError, Group
from cyclopts.exceptions import (
    MissingArgumentError,
    UnknownCommandError,
    UnknownOptionError,
    UnusedCliTokensError,
)
from cyclopts.help import DefaultFormatter

from tiedlm import __version__
from tiedlm.cli.descriptions import DESCRIPTIONS
from tiedlm.environment_variables import is_first_rank
from tiedlm.errors import UserError, visible
from tiedlm.files import explain

if TYPE_CHECKING:
    from cyclopts.help import HelpPanel
    from rich.console import Console, ConsoleOptions

    from tiedlm.experiments.supervisor import ChildDied

T = TypeVar("T")

_UNTIL_THE_END = ExitStack()  # contexts that last as long as the command
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}
_WITH_CONTEXT = ("tiedlm predict", "tiedlm generate")
_PRINTS = ("tiedlm score", "tiedlm pairs", "tiedlm rescore")  # without --out
_MAY_BE_EMPTY = ("CONTEXT", "--column", "--good", "--bad", "--by")  # texts and names of columns


def build_app() -> App:
    """Build the command line without importing the modules of its commands."""
    app = App(
        name="tiedlm",
        help="Tied language models: the augmented loss (AL) and reused embeddings (RE).",
        version=__version__,
        help_format="plaintext",
        help_formatter=_HelpFormatter(),
        result_action="return_value",
        config=_refuse_empty,
        suppress_keyboard_interrupt=False,
    )
    for name, text in DESCRIPTIONS.items():
        function = "import_" if name == "import" else name
        app.command(f"tiedlm.cli.{function}:{function}", name=name, help=text)
    app.command("tiedlm.cli.data:app", name="data", help="List, prepare and check corpora.")
    return app


def _refuse_empty(app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Refuse an empty argument: as a path it would be the current folder.

    Raises:
        UserError: naming the argument.
    """
    for argument in arguments:
        # A switch has an empty token too, and the value that it implies.
        given = [token.value for token in argument.tokens if token.implicit_value is UNSET]
        if "" in given and argument.name not in _MAY_BE_EMPTY:
            command = " ".join(["tiedlm", *commands])
            raise UserError(f"{command}: {argument.name} is empty; is a shell variable unset?")


class _HelpFormatter(DefaultFormatter):
    """Break the lines of a help text at the terminal's width, not where the docstring breaks them.

    Reading help texts as markup would do this, too, but it would remove ``<unk>``.
    """

    def __call__(self, console: Console, options: ConsoleOptions, panel: HelpPanel) -> None:
        """Print a group of flags."""
        from rich.text import Text

        for entry in panel.entries:
            text = getattr(entry.description, "primary_renderable", None)
            if isinstance(text, Text) and "\n" in text.plain:
                entry.description.primary_renderable = Text(" ".join(text.plain.split()))
        super().__call__(console, options, panel)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit."""
    _open_streams()
    try:
        with _UNTIL_THE_END:
            build_app()(arguments, exit_on_error=False, print_error=False)
        sys.stdout.flush()
    except CycloptsError as error:
        fail(_explain(error))
    except UserError as error:
        fail(str(error))
    except KeyboardInterrupt:
        fail("interrupted", 130)
    except BrokenPipeError:
        _forget_output()
        sys.exit(141)
    except UnicodeEncodeError as error:
        words = sys.argv[1:] if arguments is None else arguments
        or_out = ", or write to a file with --out" if _has_out(words) else ""
        fail(
            f"standard output is {error.encoding}, which has no {error.object[error.start]!r}; set "
            f"PYTHONIOENCODING=utf-8{or_out}"
        )
    except OSError as error:
        if error.errno in _FULL:
            if error.filename is None:
                _forget_output()
            fail(str(explain(error, error.filename or "standard output")))
        if error.filename is None:
            raise
        if error.errno == errno.ENAMETOOLONG:
            fail(f"{error.filename}: the name is too long; choose a shorter one")
        fail(f"cannot read {error.filename}: {error.strerror}")  # write errors are UserErrors


def _has_out(words: list[str]) -> bool:
    """Return whether the words are a command that prints, or writes to a file with --out."""
    return bool(words) and f"tiedlm {words[0]}" in _PRINTS


def until_the_end(context: AbstractContextManager[T]) -> T:
    """Enter a context that lasts until the command ends, normally or not."""
    return _UNTIL_THE_END.enter_context(context)


def temporary_cache(error: UserError) -> Path:
    """Return a folder in place of a cache that cannot be written; it lasts until the command ends.

    Raises:
        UserError: ``error`` itself, if there is no temporary folder either.
    """
    try:
        folder = until_the_end(TemporaryDirectory(prefix="tiedlm-"))
    except OSError:
        raise error from None
    if is_first_rank():
        note(f"{error}; until then each command encodes the text again")
    return Path(folder)


class _Notes:
    """Standard error that drops what cannot be written, without raising an error.

    Training must not end because the terminal was closed, or because the disk of the log is full.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Write a text if that is possible."""
        with suppress(OSError):
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush what was written if that is possible."""
        with suppress(OSError):
            self.stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def _open_streams() -> None:
    """Open ``os.devnull`` for each standard stream that was closed, as by ``2>&-``.

    Python sets a closed stream to None, and a print to None goes to standard output. A file name
    that is not UTF-8 is printed byte for byte. Standard error becomes a :class:`_Notes`.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
    for stream, errors in ((sys.stdout, "surrogateescape"), (sys.stderr, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors=errors)
    if type(sys.stderr) is io.TextIOWrapper:
        sys.stderr = cast(TextIO, _Notes(sys.stderr))


def _forget_output() -> None:
    """Discard unwritten output. Otherwise Python would try to flush it again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _explain(error: CycloptsError) -> str:
    """Return the message for a wrong command line: the mistake, and which help to read."""
    command = " ".join(["tiedlm", *(error.command_chain or ())])
    if isinstance(error, UnusedCliTokensError):
        first = (error.unused_tokens or [""])[0]
        return f"{command}: unexpected argument {first!r}; {_advice(command, first)}"
    taken = _taken_by_mix(error)
    if taken is not None:
        return (
            f"{command}: {taken} is missing, because --mix takes everything up to the next flag; "
            f"put {taken} before --mix"
        )
    text = " ".join(str(error).split()).rstrip(".")
    if isinstance(error, UnknownCommandError):  # the library names only the first commands
        text = text.partition(" Available commands")[0].rstrip(".")
        return text if text.endswith("?") else f"{text}; see `{command} --help`"
    is_letter = text.split()[-1:] and re.fullmatch(r"-[a-z]\d*", text.split()[-1])
    if isinstance(error, (MissingArgumentError, UnknownOptionError)):
        text += f"; see `{command} --help`"
    if command == "tiedlm export" and ("--to requires" in text or "Unknown option: --out" in text):
        text = "tiedlm export: write --to hf FOLDER or --to onnx FOLDER; see `tiedlm export --help`"
    if command in _PRINTS and "--out requires" in text:
        text += "; without --out the result is printed"
    if isinstance(error, UnknownOptionError) and command in _WITH_CONTEXT:
        if command == "tiedlm predict" and is_letter:
            text += "; --top gives the number of words"
        text += "; write -- before a context that begins with -"
    return text


def _advice(command: str, unexpected: str) -> str:
    """Return what to do about an argument that a command does not take."""
    if command in _WITH_CONTEXT and unexpected.isalpha():
        return "put all words of the context in one pair of quotes"
    if command == "tiedlm train" and os.path.exists(unexpected):
        return f"to train on your own text, give --data {unexpected}"
    if command == "tiedlm evaluate":
        return "`tiedlm score RUN FILE` gives the perplexity of any text"
    return f"see `{command} --help`"


def _taken_by_mix(error: CycloptsError) -> str | None:
    """Return the name of a missing argument that --mix may have taken; None if there is none."""
    if not isinstance(error, MissingArgumentError) or error.argument is None:
        return None
    name, given = error.argument.name, error.root_input_tokens or []
    has_mix = any(word.partition("=")[0] == "--mix" for word in given)
    return name if has_mix and not name.startswith("-") else None


def help_groups(*names: str) -> tuple[Group, ...]:
    """Return the groups of flags that ``--help`` shows, in this order."""
    return tuple(Group(name, sort_key=place) for place, name in enumerate(names))


def shown(word: str) -> str:
    """Return a word for the terminal, which would obey control characters: they are escaped."""
    return word.translate(_CONTROLS)


def note(text: str) -> None:
    """Print a one-line note on standard error about something unexpected."""
    print(f"note: {visible(text)}", file=sys.stderr)


def fail(text: str, status: int = 2) -> NoReturn:
    """Print a one-line error and exit."""
    leave(f"error: {text}", status)


def leave_after(died: ChildDied) -> NoReturn:
    """Exit after one of several processes was killed; raise the error of one that failed."""
    if not died.was_killed:
        raise died
    if died.may_lack_memory:
        fail(f"{died}; is there too little memory? The same command continues", 1)
    fail(f"{died}; the same command continues", 1)


def leave(text: str, status: int) -> NoReturn:
    """Print one line on standard error and exit; with several ranks only the first prints."""
    if is_first_rank():
        print(f"tiedlm: {visible(text)}", file=sys.stderr)
    sys.exit(status)
