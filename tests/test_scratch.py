"""A temporary folder ends with its process; that of a process that was killed is removed by a later one, no other."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from bench_core import scratch
from bench_core.scratch import Scratch
from tests.support import ROOT

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no locks that end with a process")

KILLED = """
import os, tempfile
from bench_core.scratch import Scratch
one = Scratch()
print(one.name)
open(one.name + "/inputs", "w").close()
os.kill(os.getpid(), 9)
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """Where temporary folders are made, and a way to see those that were there before as old."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    scratch._sweep.cache_clear()
    yield tmp_path
    scratch._sweep.cache_clear()


def later(folder):
    """Let all that lies in a folder be old, and this process be another one."""
    for path in folder.iterdir():
        os.utime(path, (0, 0))
    scratch._sweep.cache_clear()


@pytest.fixture
def killed(temporary):
    """The folder that a killed process has left."""
    command = [sys.executable, "-uc", KILLED]
    environ = os.environ | {"TMPDIR": str(temporary)}
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    folder = Path(done.stdout.strip())
    assert (folder / "inputs").exists()
    return folder


def test_what_a_killed_process_has_left_is_removed_by_a_later_one_and_nothing_else(killed, temporary):
    alive = Scratch()
    others = ["bench-core-results", scratch._PREFIX + "without-lock", "scratch"]
    for name in others:
        (temporary / name).mkdir()
    later(temporary)
    with Scratch() as mine:
        left = {path.name for path in temporary.iterdir()}
        assert left == {Path(alive.name).name, Path(mine).name, *others}
    alive.cleanup()
    assert {path.name for path in temporary.iterdir()} == {*others}


def test_a_folder_of_another_user_and_one_that_may_not_have_its_lock_yet_stay(killed, temporary, monkeypatch):
    with Scratch():
        assert killed.exists(), "it is young"
    later(temporary)
    monkeypatch.setattr(os, "getuid", lambda: killed.stat().st_uid + 1)
    with Scratch():
        assert killed.exists()


def test_without_locks_a_folder_is_never_taken_for_one_that_was_left(temporary, monkeypatch):
    import fcntl

    def refuse(*_):
        raise OSError("no locks here")

    monkeypatch.setattr(fcntl, "flock", refuse)
    alive = Scratch()
    monkeypatch.undo()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    later(temporary)
    with Scratch():
        assert Path(alive.name).exists()
    alive.cleanup()
    assert list(temporary.iterdir()) == []
