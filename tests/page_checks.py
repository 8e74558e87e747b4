"""Check a command of the documentation's pages without running it.

Each program has a check: its own parser reads the command, so every flag and value must exist.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import re
import runpy
import sys
from collections.abc import Callable
from functools import cache
from unittest import mock

from cyclopts.exceptions import MissingArgumentError

from pages import ROOT, calls
from tiedlm.cli import build_app
from tiedlm.experiments import cells

# Programs of others that lie neither here nor in PyTorch: bash alone reads these commands.
OTHERS = {
    r"bash eval_\w+\.sh .*": "BabyLM's pipeline; test_babylm_calls.py makes the same calls",
    r"python -m evaluation_pipeline\..*": "BabyLM's pipeline, too",
}
app = cache(build_app)
PLACEHOLDER = re.compile(r"[A-Z]+2?|\.\.\.|\[[A-Z]+|\.\.\.\]")


# Flags of other programs that a page names: (page, flag).
OTHERS_FLAGS = {
    ("babylm.md", "--causal"), ("babylm.md", "--take_final"), ("importing.md", "--model"),
    ("importing.md", "--nhead"), ("importing.md", "--vocab_file"),
}  # fmt: skip


class Parsed(BaseException):
    """A parser has taken its arguments."""


def check(text: str, complete: bool = True) -> None:
    """Check the calls of commands.

    Args:
        text: the commands.
        complete: False allows a mention that leaves arguments out, as ``tiedlm score``.

    Raises:
        AssertionError: if a program, flag or value does not exist.
    """
    for words in calls(text):
        if any(re.fullmatch(pattern, " ".join(words)) for pattern in OTHERS):
            continue
        words = [re.sub(r"\$[A-Z_]+", "1", word) for word in words]  # a batch system's variables
        program = words[1:] if words[0] == "srun" else words
        assert program[0] in CHECKS, f"{program[0]}: neither a check nor in OTHERS"
        try:
            CHECKS[program[0]](program[1:], complete)
        except Exception as error:
            raise AssertionError(f"{' '.join(words)}: {error}") from error


@cache
def known_flags() -> set[str]:
    """Return the flags of the command line, the studies, the benchmarks and the examples."""
    found, apps = {"--help"}, [app()]
    for group in apps:
        for name in group:
            if name.startswith("-"):
                continue
            if group[name].default_command is None:
                apps.append(group[name])
            else:
                for argument in group[name].assemble_argument_collection():
                    found.update(argument.names)
    for folder in ("studies", "benchmarks", "examples"):
        for path in (ROOT / folder).glob("*.py"):
            text = path.read_text(encoding="utf-8")
            found.update(re.findall(r'"(--[a-z][a-z-]*)"', text))
            for parts in re.findall(r"add_parts\(\w+, (.*)\)", text):
                found.update(f"--{name}" for name in re.findall(r"(\w+)=", parts))
    return found


def tiedlm(words: list[str], complete: bool) -> None:
    """Let the command line parse a call, and ``train --show`` its settings."""
    words = ["1" if re.fullmatch("[A-Z]", word) else word for word in words]
    try:
        command, bound, _ = app().parse_args(words, exit_on_error=False, print_error=False)
    except MissingArgumentError:
        assert not complete
        return
    given = bound.arguments
    if command.__name__ == "train" and not PLACEHOLDER.fullmatch(given.get("recipe", "RECIPE")):
        given["show"] = True
        with contextlib.redirect_stdout(io.StringIO()):
            command(*bound.args, **bound.kwargs)
    if command.__name__ == "reproduce":
        for table in {given["what"]} & {"table1", "table2"}:
            cells.choose(getattr(cells, table)(), given.get("only", []))


def torchrun(words: list[str], complete: bool) -> None:
    """Let torchrun's parser read its part of a call."""
    from torch.distributed.run import get_args_parser

    given = get_args_parser().parse_args(words)
    if not given.module:
        assert (ROOT / given.training_script).is_file()
        return
    assert given.training_script == "tiedlm"
    tiedlm(given.training_script_args, complete)


def python(words: list[str], complete: bool) -> None:
    """Let the parser of a study, a benchmark or an example read a call."""
    if words[:2] == ["-m", "pytest"]:
        return
    if words[:2] == ["-m", "tiedlm"]:
        return tiedlm(words[2:], complete)
    path = words[0]
    if path == "-m":
        path, words = f"{words[1].replace('.', '/')}.py", words[1:]
    assert path.split("/")[0] in ("studies", "benchmarks", "examples"), path
    parse = argparse.ArgumentParser.parse_args

    def parsed(parser, *arguments, **options):
        parse(parser, *arguments, **options)
        raise Parsed

    with (
        mock.patch.object(argparse.ArgumentParser, "parse_args", parsed),
        mock.patch.object(sys, "argv", words),
        mock.patch.object(sys, "path", [str((ROOT / path).parent), *sys.path]),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()) as err,
    ):
        before = set(sys.modules)
        try:
            runpy.run_path(str(ROOT / path), run_name="__main__")
        except Parsed:
            return
        except ModuleNotFoundError as error:
            if str(error.name).startswith(("tiedlm", "studies", "benchmarks")):
                raise
            return  # an optional package, which the program needs first
        except SystemExit as leaving:
            if "--help" in words or (not complete and "required" in err.getvalue()):
                return
            raise AssertionError(err.getvalue() or leaving) from leaving
        finally:  # modules of a folder of scripts have names that others may have
            for name in set(sys.modules) - before:
                if str(getattr(sys.modules[name], "__file__", "")).startswith(f"{ROOT}/bench"):
                    del sys.modules[name]
    raise AssertionError("it parsed nothing, and ran")


def make(words: list[str], complete: bool) -> None:
    """Look for a target in the Makefile."""
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(words) <= set(targets), words


def pip(words: list[str], complete: bool) -> None:
    """Look for extras in pyproject.toml."""
    assert words[0] == "install"
    extras = re.findall(r"^([a-z]+) = \[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    for word in words[1:]:
        for names in re.findall(r"^(?:tiedlm|\.)\[(.*)\]$", word):
            assert set(names.split(",")) <= set(extras), word


def gpu_runs(words: list[str], complete: bool) -> None:
    """Read the rows that studies/gpu_runs.sh passes to ``tiedlm reproduce``."""
    assert words[0].isdigit()
    for rows in words[2:]:
        tiedlm(["reproduce", *rows.split()], complete)


def nothing(words: list[str], complete: bool) -> None:
    """Pass what belongs to the shell."""


CHECKS: dict[str, Callable[[list[str], bool], None]] = {
    "tiedlm": tiedlm, "torchrun": torchrun, "python": python, "make": make, "pip": pip,
    ".venv/bin/python": python, "studies/gpu_runs.sh": gpu_runs,
    **dict.fromkeys(("cat", "cd", "echo", "export", "head", "tr", "."), nothing),
}  # fmt: skip
