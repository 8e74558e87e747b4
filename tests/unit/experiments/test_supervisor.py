"""Tasks run in processes of their own. tests/integration/test_parallel.py kills them."""

import multiprocessing
import operator
from types import SimpleNamespace

import pytest
from torch import OutOfMemoryError

from tests_support import run_command
from tiedlm.cli import leave_after
from tiedlm.errors import UserError
from tiedlm.experiments import demo, reproduce, supervisor
from tiedlm.experiments.supervisor import ChildDied, Work, supervise
from tiedlm.training.outcomes import OutOfTime, Stopped

ENDED = SimpleNamespace(join=lambda: None, exitcode=-9)  # a process that was killed


def test_each_result_comes_with_the_number_of_its_task():
    results = {}
    supervise("ab", Work(operator.is_, results.__setitem__), at_once=2)
    assert results == {0: False, 1: False}


def test_a_failed_task_is_distinguished_from_a_killed_one(capfd):
    work = Work(operator.truediv, lambda *_: None, name="division by {}".format)
    with pytest.raises(ChildDied, match="division by 7: the process ended with 1") as found:
        supervise([7], work, at_once=1)
    assert not found.value.was_killed
    assert ChildDied("it", -9).was_killed
    assert "TypeError" in capfd.readouterr().err


def raise_out_of_memory(task, channel):
    raise OutOfMemoryError("CUDA out of memory")


@pytest.mark.parametrize(
    ("sharing", "says"), [(6, "memory for 6 at once; give fewer --jobs"), (1, "memory for it")]
)
def test_too_little_memory_on_the_gpu_is_one_line(monkeypatch, sharing, says):
    monkeypatch.setattr(supervisor, "_ignore_signals", lambda: None)
    monkeypatch.setattr(supervisor, "share_gpu", lambda number: None)
    ours, theirs = multiprocessing.Pipe()

    def begin(tasks, work, waiting, running, at_once):
        if waiting:
            running[waiting.pop()] = supervisor._Child(ENDED, ours)
            supervisor.work_in_child(work.run, tasks[0], theirs, sharing)

    monkeypatch.setattr(supervisor, "_begin", begin)
    work = Work(raise_out_of_memory, print, name="runs/{}".format)
    with pytest.raises(UserError, match=f"runs/a: the GPU has too little {says}"):
        supervise("a", work, at_once=sharing)


def test_a_task_that_is_killed_while_all_stop_is_named(monkeypatch):
    pipes = [multiprocessing.Pipe() for _ in "ab"]

    def begin(tasks, work, waiting, running, at_once):
        while waiting:
            number = waiting.pop(0)
            running[number] = supervisor._Child(ENDED, pipes[number][0])

    monkeypatch.setattr(supervisor, "_begin", begin)
    pipes[0][1].send(("stopped", ("saved",)))  # as it was asked to
    pipes[1][1].send(("line", ("now it is killed",)))
    killed = Work(int, print, on_report=lambda *_: pipes[1][1].close(), name="runs/{}".format)
    with pytest.raises(ChildDied, match="runs/b: the process ended with -9"):
        supervise("ab", killed, at_once=2)


def test_nothing_starts_without_time_left():
    with pytest.raises(OutOfTime, match="stopped before every model had begun"):
        supervise([1], Work(operator.truediv, lambda *_: None), at_once=1, seconds=0.0)


def test_tasks_that_wait_for_a_missing_task_are_left_out():
    work = Work(operator.truediv, lambda *_: None, may_begin=lambda task: False)
    with pytest.raises(Stopped):
        supervise([1], work, at_once=1)


def test_a_task_that_crashed_is_not_said_to_lack_memory(capsys):
    for code, name in ((-11, "SIGSEGV"), (-4, "SIGILL")):
        with pytest.raises(SystemExit, match="1"):
            leave_after(ChildDied("runs/a", code))
        shown = capsys.readouterr().err
        assert f"runs/a: the process ended with {code} ({name}); the same command" in shown


@pytest.mark.parametrize(
    ("module", "function", "command"),
    [(demo, "run_demo", ["demo"]), (reproduce, "run_cells", ["reproduce", "table1"])],
)
def test_a_killed_task_ends_a_command_with_one_line(capsys, monkeypatch, module, function, command):
    def killed(*_, **__):
        raise ChildDied("runs/a", -9)

    monkeypatch.setattr(module, function, killed)
    status, _, shown = run_command(capsys, *command)
    assert status == 1
    assert shown.count("\n") == 1
    assert "error: runs/a: the process ended with -9; is there too little memory?" in shown
