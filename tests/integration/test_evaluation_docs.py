"""The example of docs/evaluation.md works."""

from pathlib import Path

from conftest import write_corpus
from tests_support import blocks
from tiedlm.cli import main

PAGE = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")


def test_the_python_example_runs(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    corpus = write_corpus(tmp_path / "my.txt", lines=(60, 90, 90))
    main(["train", "small-real", f"--data={corpus}", "--out=runs/mine", "--quiet", "--d-embed=8",
          "--d-hidden=8", "--batch-size=4", "--bptt=5", "--epochs=1", "--threads=1"])  # fmt: skip
    (example,) = blocks(PAGE, "python")
    exec(compile(example, "docs/evaluation.md", "exec"), {})
    assert float(capsys.readouterr().out) > 1
