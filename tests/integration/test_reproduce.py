"""A table of the paper, run in small: sessions, budget, going on, what is kept."""

import json

import pytest

from tests_support import run_command as run
from tiedlm.experiments.cells import Cell
from tiedlm.experiments.paper import Published
from tiedlm.experiments.reproduce import find_results, line_of, run_cells
from tiedlm.progress import ProgressView
from tiedlm.training.loop import Stopped
from tiedlm.training.settings import Settings

TINY = {
    "d_embed": 12, "d_hidden": 12, "tied": True, "alpha": 2.0, "temperature": 5.0,
    "batch_size": 4, "bptt": 5, "epochs": 2,
}  # fmt: skip


def reproduce(cells, tmp_path, seconds=float("inf")):
    with ProgressView() as view:
        run_cells(
            cells, 1, tmp_path / "runs", view, at_once=2, seconds=seconds,
            results=tmp_path / "results", command="tiedlm reproduce", changes={"threads": 1},
        )  # fmt: skip


def test_a_table_stops_in_time_goes_on_and_keeps_both_sessions(tiny_corpus, tmp_path, capsys):
    settings = Settings(data=str(tiny_corpus), **TINY)
    cells = [
        Cell("twice", settings, Published(50.0, 60.0), sessions=2),
        Cell("once", settings.replace(alpha=0.0), Published(None, 61.0)),
    ]
    with pytest.raises(Stopped, match="the same command goes on"):
        reproduce(cells, tmp_path, seconds=0.0)
    reproduce(cells, tmp_path)
    names = sorted(path.name.partition("_")[2] for path in (tmp_path / "results").iterdir())
    assert names == ["once-seed1", "twice-seed1", "twice-seed1-session2"]
    first, second = (
        json.loads((tmp_path / "runs" / name / "result.json").read_text())
        for name in ("twice-seed1", "twice-seed1-session2")
    )
    assert second["valid_ppl"] < first["valid_ppl"]  # it began from the best weights
    found = find_results(tmp_path / "results")
    line = line_of(Cell("twice", settings, Published(50.0, 60.0), 2), found)
    assert line.sessions[0] == f"{first['valid_ppl']:.1f} / {first['test_ppl']:.1f} (1 seed)"
    assert line.difference == (f"{second['valid_ppl'] - 50:+.1f} / {second['test_ppl'] - 60:+.1f}")
    capsys.readouterr()
    reproduce(cells, tmp_path)  # nothing is left to do
    assert "3 runs, 3 finished" in capsys.readouterr().err
    assert len(list((tmp_path / "results").iterdir())) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["table9"], "table9"),
        (["table1", "--only", "ptb-smal"], "no such cell; there are ptb-small"),
        (["table1", "--seeds", "0"], "--seeds: expected at least 1"),
        (["table1", "--budget", "0"], "--budget: expected minutes above 0"),
    ],
)
def test_a_mistake_is_one_line(capsys, arguments, message):
    status, _, err = run(capsys, "reproduce", *arguments)
    assert status == 2
    assert message in err
    assert err.count("\n") == 1


def test_a_table_is_shown_without_training(capsys, tmp_path):
    folders = ("--out", tmp_path / "runs", "--results", tmp_path / "results")
    status, out, _ = run(capsys, "reproduce", "table2", "--show", *folders)
    assert status == 0
    assert "wikitext-2-first-half-small-real" in out
    assert "not begun: 8 runs" in out
    assert not (tmp_path / "runs").exists()
