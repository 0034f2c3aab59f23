"""Signals that ask a run to stop: what sets the event, and what is as before afterwards."""

import os
import signal
import threading

import pytest

from xlm.training.signals import STOPPING, stop_on_signals


@pytest.mark.parametrize("number", STOPPING)
def test_a_signal_sets_the_event(number: signal.Signals, caplog: pytest.LogCaptureFixture) -> None:
    before = [signal.getsignal(each) for each in STOPPING]
    with stop_on_signals() as stop:
        assert not stop.is_set()
        os.kill(os.getpid(), number)
        assert stop.wait(5)
    assert [signal.getsignal(each) for each in STOPPING] == before
    assert f"{number.name}: saving after this update or the next, then stopping" in caplog.text


def test_a_second_interrupt_ends_the_program() -> None:
    with stop_on_signals() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.is_set()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_first_interrupt_after_another_signal_still_saves() -> None:
    with stop_on_signals() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.is_set()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_an_interrupt_that_torchrun_passes_on_is_no_second_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    clock = [100.0]
    monkeypatch.setattr("xlm.training.signals.time.monotonic", lambda: clock[0])
    with stop_on_signals() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.is_set()
        clock[0] += 60
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_handlers_come_back_after_an_error() -> None:
    before = [signal.getsignal(each) for each in STOPPING]
    with pytest.raises(RuntimeError), stop_on_signals():
        raise RuntimeError
    assert [signal.getsignal(each) for each in STOPPING] == before


def test_another_thread_has_no_handlers() -> None:
    before, found = [signal.getsignal(each) for each in STOPPING], []

    def work() -> None:
        with stop_on_signals() as stop:
            found.append((stop.is_set(), [signal.getsignal(each) for each in STOPPING]))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [(False, before)]
