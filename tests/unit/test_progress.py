"""Progress is shown while a model is trained."""

import io

from rich.console import Console
from rich.table import Table

from tiedlm import progress
from tiedlm.progress import ProgressView, short_duration, table_console


def view(terminal=False):
    out = io.StringIO()
    console = Console(file=out, width=140, force_terminal=terminal)
    return out, ProgressView(console)


def test_durations_are_written_as_clocks_do():
    assert [short_duration(s) for s in (0, 59.6, 61, 3600, 3725)] == [
        "0:00", "1:00", "1:01", "1:00:00", "1:02:05",
    ]  # fmt: skip


def test_without_a_terminal_there_are_plain_lines_now_and_then(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    out, shown = view()
    with shown:
        task = shown.watcher()
        task.start("run", 1000, 0)
        for _ in range(7):
            now[0] += 10
            task.step(100, 1, 2, 123.4)
    lines = out.getvalue().splitlines()
    assert len(lines) == 1  # one line per 30 seconds, at 40 s; the next would come after 70 s
    # 400 targets in 40 s: 10 tokens/s, and 60 s for the other 600.
    assert lines[0].split() == ["run", "40%", "epoch", "1/2", "ppl", "123.4", "10", "tokens/s",
                                "ETA", "1:00"]  # fmt: skip


def test_a_terminal_that_cannot_move_its_cursor_gets_plain_lines(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.setenv("TERM", "dumb")
    out, shown = view(terminal=True)
    with shown:
        task = shown.watcher()
        task.start("run", 1000, 0)
        now[0] = 31.0
        task.step(100, 1, 2, 123.4)
    (line,) = out.getvalue().splitlines()
    assert "10%  epoch 1/2  ppl 123.4" in line


def test_eta_counts_only_the_work_of_this_process(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    out, shown = view()
    task = shown.watcher()
    task.start("run", 1000, 900)
    now[0] = 50.0
    task.step(50, 2, 2, 10.0)
    assert "1 tokens/s  ETA 0:50" in out.getvalue()


def test_the_rate_follows_a_machine_that_has_become_idle(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    out, shown = view()
    task = shown.watcher()
    task.start("run", 10**6, 0)
    for rate in (10, 100):
        for _ in range(60):  # an hour
            now[0] += 60
            task.step(60 * rate, 1, 1, 10.0)
    last = out.getvalue().splitlines()[-1]
    shown_rate = int(last.split(" tokens/s")[0].split()[-1])
    assert 98 <= shown_rate <= 100


def test_the_best_so_far_is_shown_after_an_epoch(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    out, shown = view()
    task = shown.watcher()
    task.start("run", 1000, 0)
    task.epoch_end("epoch 1 is over", 98.765)
    now[0] = 31.0
    task.step(100, 2, 2, 10.0)
    assert "epoch 1 is over" in out.getvalue()
    assert "best 98.77" in out.getvalue()


def test_on_a_terminal_there_is_a_live_bar():
    out, shown = view(terminal=True)
    with shown:
        task = shown.watcher()
        task.start("run", 1000, 0)
        task.step(500, 1, 2, 50.0)
    assert "━" in out.getvalue()
    assert "ppl 50.0" in out.getvalue()


def test_a_table_keeps_its_numbers_on_a_narrow_terminal(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")  # counts as a terminal
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "20")
    table = Table("model", "valid", "test", "parameters", "distance", "P(<unk>)", "tokens/s")
    table.add_row("VD-Transformer", "90.12", "81.34", "2,345,678", "0.943", "0.0412", "12,346")
    console = table_console()
    assert console.is_terminal
    console.print(table, highlight=False)
    out = capsys.readouterr().out
    assert "VD-Transformer │ 90.12 │ 81.34 │ 2,345,678 │ 0.943" in " ".join(out.split())
