"""The generated pages match results/."""

from pathlib import Path

from studies import reproduction

ROOT = Path(__file__).parents[3]
PAGES = {
    "README.md",
    "docs/carry_over.md",
    "docs/questions.md",
    "docs/questions_appendix.md",
    "docs/reproduction.md",
    "results/README.md",
}


def test_the_committed_pages_are_the_generated_ones(monkeypatch, tmp_path):
    monkeypatch.setattr("sys.argv", ["/x/reproduction.py", "--out", str(tmp_path)])
    reproduction.main()
    written = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.md")}
    assert written == PAGES
    for page in PAGES:
        assert (tmp_path / page).read_text() == (ROOT / page).read_text()
    for picture in (tmp_path / "docs" / "images").iterdir():
        assert (ROOT / "docs" / "images" / picture.name).is_file()
