"""Tasks run in processes of their own. tests/integration/test_parallel.py kills them."""

import operator

import pytest

from tiedlm.experiments.supervisor import ChildDied, Work, supervise
from tiedlm.training.outcomes import OutOfTime, Stopped


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


def test_nothing_starts_without_time_left():
    with pytest.raises(OutOfTime, match="stopped before every model had begun"):
        supervise([1], Work(operator.truediv, lambda *_: None), at_once=1, seconds=0.0)


def test_tasks_that_wait_for_a_missing_task_are_left_out():
    work = Work(operator.truediv, lambda *_: None, may_begin=lambda task: False)
    with pytest.raises(Stopped):
        supervise([1], work, at_once=1)
