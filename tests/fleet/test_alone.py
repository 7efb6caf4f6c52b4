"""One process drives a fleet, and whoever looks can tell whether one does."""

import signal
import subprocess
import sys

import pytest

from bench_core.errors import UsageError
from bench_core.fleet.alone import LOCK, alone, is_driven
from tests.support.fleets import fleet

pytest.importorskip("fcntl", reason="this system has no such locks")
_DRIVE = """
import sys
from pathlib import Path
from bench_core.fleet.alone import alone
from bench_core.fleet.plan import FleetFolder
with alone(FleetFolder(Path(sys.argv[1]))):
    print("drives", flush=True)
    sys.stdin.read()
"""


def test_it_is_known_whether_a_fleet_is_driven_before_meanwhile_and_afterwards(tmp_path):
    folder = fleet(tmp_path)
    assert is_driven(folder) is False  # nobody ever drove it
    with alone(folder):
        assert is_driven(folder) is True
        with pytest.raises(UsageError, match="another process is measuring this fleet"), alone(folder):
            raise AssertionError("two processes drive one fleet")
        assert is_driven(folder) is True
    assert (folder.private / LOCK).exists()
    assert is_driven(folder) is False


def test_to_look_keeps_nobody_from_driving(tmp_path):
    folder = fleet(tmp_path)
    with alone(folder):
        pass
    assert is_driven(folder) is False
    with alone(folder):
        pass


def test_two_may_look_at_once(tmp_path):
    import fcntl

    folder = fleet(tmp_path)
    with alone(folder):
        pass
    with (folder.private / LOCK).open() as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        assert is_driven(folder) is False


def test_a_process_that_was_killed_no_longer_drives(tmp_path):
    folder = fleet(tmp_path)
    command = [sys.executable, "-c", _DRIVE, str(folder.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout.readline() == "drives\n"
        assert is_driven(folder) is True
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    assert is_driven(folder) is False


def test_without_locks_it_is_not_known(tmp_path, monkeypatch):
    import fcntl

    folder = fleet(tmp_path)

    def no_locks(file, how):
        raise OSError("no locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with alone(folder):
        assert is_driven(folder) is None
