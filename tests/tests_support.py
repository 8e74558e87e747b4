"""Helpers of several tests."""

import re

from tiedlm.cli import main


def blocks(text, language):
    """Return the fenced code blocks of a language in a Markdown text."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def run_command(capsys, *arguments):
    """Run ``tiedlm`` in this process; return (exit status, standard output, standard error)."""
    status = 0
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as leaving:
        status = leaving.code or 0
    captured = capsys.readouterr()
    return status, captured.out, captured.err
