"""Signals end a job in order, once, and for good when they come again; what is ignored from the start stays so."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from ddpm_lightning.utils import signals
from ddpm_lightning.utils.errors import Interrupted

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="needs SIGHUP")


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_is_raised_and_what_was_begun_is_cleared_away(name):
    before = signal.getsignal(getattr(signal, name))
    cleared = []
    with pytest.raises(Interrupted) as caught, signals.raised("SIGTERM", "SIGHUP"):
        try:
            os.kill(os.getpid(), getattr(signal, name))
            os.kill(os.getpid(), getattr(signal, name))  # an echo
            time.sleep(1)
        except Exception:
            pytest.fail("taken for an ordinary error")
        finally:
            cleared.append(True)
    assert caught.value.code == 128 + getattr(signal, name) and cleared
    assert signal.getsignal(getattr(signal, name)) == before


def test_what_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals.raised("SIGHUP", "SIGTERM"):
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(0.05)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def run(program, between):
    """Runs a program and sends it SIGTERM twice; returns its exit code and what it said."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, text=True, bufsize=1
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    time.sleep(between)
    process.send_signal(signal.SIGTERM)
    said = process.stdout.read()
    return process.wait(20), said


def test_a_second_signal_kills_what_does_not_clear_away():
    code, said = run(
        """
        import time
        from ddpm_lightning.utils.signals import raised
        with raised("SIGTERM"):
            try:
                print("ready", flush=True)
                time.sleep(30)
            finally:
                print("clearing away", flush=True)
                time.sleep(30)
        """,
        between=1.5,
    )
    assert (code, said) == (-signal.SIGTERM, "clearing away\n")


def test_a_computation_that_cannot_be_left_is_ended_by_the_second_signal():
    """A handler of Python runs between its steps alone, and one step of a training may take a minute."""
    code, said = run(
        """
        import signal, torch
        from ddpm_lightning.utils.signals import Alarm
        signal.signal(signal.SIGTERM, lambda *_: None)
        say = [lambda number, name=name: print(name, number, flush=True) for name in ("first", "second")]
        alarm = Alarm([signal.SIGTERM], *say)
        torch.set_num_threads(1)
        a = torch.zeros(5000, 5000)
        print("ready", flush=True)
        torch.matrix_power(a, 2**60)
        """,
        between=1.5,
    )
    assert (code, said) == (128 + signal.SIGTERM, "first 15\nsecond 15\n")


def test_an_alarm_is_over_when_it_is_closed():
    heard = []
    with signals.taken([signal.SIGHUP], lambda *_: None):
        alarm = signals.Alarm([signal.SIGHUP], heard.append, heard.append)
        os.kill(os.getpid(), signal.SIGHUP)
        time.sleep(0.2)
        alarm.close()
        os.kill(os.getpid(), signal.SIGHUP)
        time.sleep(0.2)
    assert heard == [signal.SIGHUP] and signal.set_wakeup_fd(-1) == -1
