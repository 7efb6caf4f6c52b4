"""Signals that end a process, in real processes: the first is obeyed, others change nothing, ignored ones stay so."""

import signal
import subprocess
import sys
import threading

import pytest

from bench_core.interrupts import Interrupts

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="sends POSIX signals")

# It says "ready", waits for a signal, and is then sent every other one while it ends.
_CHILD = """
import os, signal, sys, time
from bench_core.interrupts import Interrupts
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell ignores it
{before}
Interrupts().take()
try:
    print("ready", flush=True)
    time.sleep(30)
except KeyboardInterrupt:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(os.getpid(), number)
    time.sleep(0.05)
    print("saved", flush=True)
    sys.exit(2)
"""


def _end(first: signal.Signals, *others: signal.Signals, before: str = "") -> tuple[int, str]:
    process = subprocess.Popen([sys.executable, "-c", _CHILD.format(before=before)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    for number in (first, *others):
        process.send_signal(number)
    output, _ = process.communicate(timeout=30)
    return process.returncode, output


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_interrupts_and_those_that_follow_change_neither_output_nor_exit_code(first):
    assert _end(first) == (2, "saved\n")


def test_two_signals_at_once_are_one():
    assert _end(signal.SIGTERM, signal.SIGTERM, signal.SIGINT) == (2, "saved\n")


def test_a_signal_that_was_ignored_as_by_nohup_stays_ignored():
    ignored = "signal.signal(signal.SIGHUP, signal.SIG_IGN)"
    assert _end(signal.SIGHUP, signal.SIGTERM, before=ignored) == (2, "saved\n")
    code, output = _end(signal.SIGHUP, signal.SIGKILL, before=ignored)
    assert (code, output) == (-signal.SIGKILL, "")  # SIGHUP alone has ended nothing


def test_the_handlers_of_before_are_given_back():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    interrupts = Interrupts()
    interrupts.take()
    interrupts.ignore()
    interrupts.give_back()
    assert {number: signal.getsignal(number) for number in before} == before
    assert not interrupts.came


def test_outside_of_the_main_thread_nothing_is_done():
    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=Interrupts().take)
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGTERM) == before
