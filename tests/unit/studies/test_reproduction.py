"""The generated pages match results/."""

from pathlib import Path

from studies import reproduction

ROOT = Path(__file__).parents[3]


def test_the_committed_pages_are_the_generated_ones(monkeypatch, tmp_path):
    monkeypatch.setattr("sys.argv", ["/x/reproduction.py", "--out", str(tmp_path)])
    reproduction.main()
    for page in ("README.md", "docs/reproduction.md"):
        assert (tmp_path / page).read_text() == (ROOT / page).read_text()
    for picture in (tmp_path / "docs" / "images").iterdir():
        assert (ROOT / "docs" / "images" / picture.name).is_file()
