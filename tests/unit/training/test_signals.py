"""A signal asks a run to stop, and afterwards goes where it went before."""

import signal
import threading

import pytest

from tiedlm.training.signals import stop_signals

BOTH = (signal.SIGINT, signal.SIGTERM)


@pytest.mark.parametrize("number", BOTH)
def test_a_signal_is_noticed_inside_the_block_only(number):
    before = [signal.getsignal(one) for one in BOTH]
    with stop_signals() as signalled:
        assert not signalled()
        signal.raise_signal(number)
        assert signalled()
    assert [signal.getsignal(one) for one in BOTH] == before


def test_a_signal_that_another_language_handles_is_left_alone(monkeypatch):
    """Python knows no handler of a program around it, and could not put it back."""
    getsignal = signal.getsignal
    monkeypatch.setattr(
        signal, "getsignal", lambda number: None if number == signal.SIGINT else getsignal(number)
    )
    before = getsignal(signal.SIGINT)
    with stop_signals() as signalled:
        assert getsignal(signal.SIGINT) is before
        signal.raise_signal(signal.SIGTERM)
        assert signalled()


def test_outside_the_main_thread_nothing_is_taken():
    before, found = [signal.getsignal(one) for one in BOTH], []

    def look():
        with stop_signals() as signalled:
            found.append(signalled())

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found == [False]
    assert [signal.getsignal(one) for one in BOTH] == before
