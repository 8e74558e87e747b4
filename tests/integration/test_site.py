"""The site of the documentation builds without a warning, and loads nothing from elsewhere."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("sphinx")
pytest.importorskip("myst_parser")
pytest.importorskip("furo")

ROOT = Path(__file__).parents[2]
LOADS = re.compile(r'<(?:script|img|iframe)[^>]*\bsrc="(?:https?:)?//|<link[^>]*href="https?://')


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    out = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html",
         "-d", str(out / "doctrees"), str(ROOT / "docs"), str(out / "html")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return out / "html"


@pytest.mark.slow
def test_every_page_is_in_the_site_and_in_the_search(site):
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")} - {"README"}
    assert pages <= {path.stem for path in site.glob("*.html")}
    index = (site / "searchindex.js").read_text(encoding="utf-8")
    for page in pages | {"reference/api", "reference/settings", "reference/commands_help"}:
        assert f'"{page}"' in index


@pytest.mark.slow
def test_the_notebooks_and_the_citation_are_in_the_site(site):
    for name in ("weight_tying.ipynb", "reading_times.ipynb"):
        (link,) = re.findall(
            rf'href="(_downloads/[^"]*/{name})"', (site / "notebooks.html").read_text()
        )
        assert (site / link).read_bytes() == (ROOT / "notebooks" / name).read_bytes()
    assert "Khosravi" in (site / "citing.html").read_text()


@pytest.mark.slow
def test_no_page_loads_anything_from_another_machine(site):
    for page in site.rglob("*.html"):
        assert not LOADS.search(page.read_text(encoding="utf-8")), page


@pytest.mark.slow
def test_the_reference_has_every_public_name_command_and_setting(site):
    import tiedlm
    from tiedlm.cli import build_app
    from tiedlm.training.settings import Settings

    text = {
        name: (site / "reference" / f"{name}.html").read_text(encoding="utf-8")
        for name in ("api", "commands_help", "settings")
    }
    assert all(f'id="tiedlm.{name}"' in text["api"] for name in tiedlm.__all__)
    for name in build_app():
        assert name.startswith("-") or f'id="tiedlm-{name}"' in text["commands_help"]
    for name in Settings().to_dict():
        assert f">{name}</span>" in text["settings"]
