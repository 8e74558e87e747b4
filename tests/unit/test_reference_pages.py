"""The reference has every public name, also those that snippets of the pages import."""

import ast
import re

import tiedlm
from pages import PAGES, ROOT, blocks_of, code_spans

API = (ROOT / "docs" / "reference" / "api.rst").read_text(encoding="utf-8")
OUTSIDE = re.compile(r"\b(?:src|tests|studies|benchmarks|examples|results|docs)/[\w./*-]*[\w*]")


def documented():
    """Return the full names that the page of functions and classes documents."""
    return set(re.findall(r"^\.\. auto(?:function|class|data):: (\S+)$", API, re.MULTILINE))


def imported():
    """Return the full names that the pages' Python imports from tiedlm."""
    found = set()
    for page in PAGES:
        for block in blocks_of(page):
            if block.language == "python":
                for node in ast.walk(ast.parse(block.text)):
                    if isinstance(node, ast.ImportFrom) and node.module.startswith("tiedlm"):
                        found |= {f"{node.module}.{name.name}" for name in node.names}
    return found


def test_every_public_name_is_in_the_reference():
    assert {f"tiedlm.{name}" for name in tiedlm.__all__} <= documented()


def test_every_name_that_a_page_imports_is_in_the_reference():
    assert len(imported()) > 10
    assert imported() <= documented()


def test_every_test_that_the_page_on_reliability_names_exists():
    page = ROOT / "docs" / "reliability.md"
    asked = re.findall(r"`(?:tests/\w+/)?(test_\w+\.py) -k \"?([\w ]+)\"?`", page.read_text())
    assert len(asked) > 15
    for file, words in asked:
        (path,) = (ROOT / "tests").rglob(file)
        names = re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
        for word in words.split(" or "):
            assert any(word in name for name in names), (file, word)


def test_every_path_of_the_repository_that_a_page_names_exists():
    missing = {
        f"{span}: {path}"
        for page in PAGES
        for span in code_spans(page)
        for path in OUTSIDE.findall(span.text)
        if "<" not in span.text and not any(ROOT.glob(path.strip("/")))
    }
    assert not missing
