import os
import signal
import time

import pytest

from gptexp.distributed.signals import StopSignals, explain_stop
from gptexp.errors import Preempted, RunError


def send(number):
    os.kill(os.getpid(), number)
    time.sleep(0.01)  # Python runs handlers between two instructions


def test_a_signal_stops_at_once_and_handlers_come_back():
    before = signal.getsignal(signal.SIGTERM)
    signals = StopSignals()
    with pytest.raises(Preempted, match="SIGTERM"), signals.handle():
        send(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_delayed_stop_comes_after_the_block():
    signals, steps = StopSignals(), []

    def train():
        with signals.handle(), signals.delay_stop():
            send(signal.SIGUSR1)
            steps.append(signals.received)

    with pytest.raises(Preempted, match="SIGUSR1"):
        train()
    assert steps == [signal.SIGUSR1]


def test_handlers_that_a_library_replaced_are_installed_again():
    signals = StopSignals()

    def train():
        with signals.handle(), signals.delay_stop():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            signals.install()
            send(signal.SIGTERM)

    with pytest.raises(Preempted, match="SIGTERM"):
        train()


class Deleted:
    def __del__(self):
        send(signal.SIGINT)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_signal_whose_exception_python_drops_stops_the_run_before_the_next_stage():
    signals = StopSignals()
    with signals.handle():
        signals.raise_if_received()
        Deleted()
        with pytest.raises(Preempted, match="SIGINT"):
            signals.raise_if_received()


@pytest.mark.parametrize(("is_failure", "kind"), [(False, Preempted), (True, RunError)])
def test_a_stop_for_a_reason_of_the_program_is_a_failure_where_somebody_has_to_act(
    is_failure, kind
):
    signals = StopSignals()
    signals.request("missing data", "no such file. Copy it there", is_failure)
    with pytest.raises(kind, match=r"missing data: no such file"):
        signals.raise_if_received()
    error = explain_stop(signals.received, 3)
    assert "missing data after step 3, which is saved: no such file. Copy it there" in str(error)
    assert str(error).endswith(". Then repeat the command") == is_failure
