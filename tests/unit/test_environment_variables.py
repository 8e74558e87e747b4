"""The code and the documentation share one table of environment variables."""

import ast
import re
from pathlib import Path

import pytest

import tiedlm
from tiedlm.environment_variables import CC, GPU_SHARED_BY, TABLE, read, set_default

SOURCE = Path(tiedlm.__file__).parent
PAGE = Path(__file__).parents[2] / "docs" / "environment.md"


def test_the_page_of_the_documentation_has_the_tables_names_meanings_and_defaults():
    rows = re.findall(r"^\| `(\w+)` \| (.+) \| (.+) \|$", PAGE.read_text(), re.MULTILINE)
    assert rows == [
        (name, meaning, f"`{default}`" if default else "not set")
        for name, meaning, default, _ in TABLE
    ]


def reads_environment(node):
    """Return whether a node of a syntax tree reads the environment."""
    if isinstance(node, ast.ImportFrom):
        return node.module == "os" and any("env" in name.name for name in node.names)
    return isinstance(node, ast.Attribute) and node.attr in ("environ", "environb", "getenv")


def test_nothing_else_reads_the_environment():
    found = {
        path.relative_to(SOURCE).as_posix()
        for path in SOURCE.rglob("*.py")
        if any(map(reads_environment, ast.walk(ast.parse(path.read_text(encoding="utf-8")))))
    }
    assert found == {"environment_variables.py"}


@pytest.mark.parametrize("variable", TABLE, ids=lambda variable: variable.name)
def test_the_module_in_the_table_reads_the_variable(variable):
    constants = vars(tiedlm.environment_variables)
    (constant,) = [key for key, value in constants.items() if value == variable.name]
    path = SOURCE / f"{variable.read_in.replace('.', '/')}.py"
    assert re.search(rf"\b\w+\({constant}\)", path.read_text(encoding="utf-8"))


def test_a_variable_that_is_not_set_has_its_default(monkeypatch):
    monkeypatch.delenv(CC, raising=False)
    assert read(CC) == "cc"
    monkeypatch.setenv(CC, "gcc -m64")
    assert read(CC) == "gcc -m64"


def test_the_users_value_is_kept(monkeypatch):
    monkeypatch.setenv(GPU_SHARED_BY, "5")
    set_default(GPU_SHARED_BY, "2")
    assert read(GPU_SHARED_BY) == "5"


def test_a_name_outside_the_table_raises():
    with pytest.raises(KeyError):
        read("TIEDLM_NO_SUCH_THING")
