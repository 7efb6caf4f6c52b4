"""Child processes end with the process that started them, and those that they have started end with them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from bench_core import child_process
from bench_core.errors import CaseError
from bench_core.plan import discovery
from bench_core.run import replicate
from bench_core.timing.worker import Worker
from bench_core.timing.worker_protocol import WorkerSpec
from tests.support import ROOT

# A module for child_main, and a file of tests. It does not read its standard input, by whose end others notice.
WAITING = """
import os, signal, time

def end(number, frame):
    os.write(1, b"saved\\n")
    os._exit(0)

def test_it():
    signal.signal(signal.SIGTERM, end)
    os.write(1, b"\\nready %d\\n" % os.getpid())
    time.sleep(60)

if __name__ == "__main__":
    test_it()
"""
PARENT = """
import os, subprocess, sys
from bench_core import child_process as c

alone = ("-p", "no:cacheprovider", "-p", "no:benchmark", "-p", "no:xdist", "-p", "no:bench_core.pytest_plugin", "-s")
command = {
    "worker or probe": lambda: c.command("test_waiting", parent=os.getpid()),
    "pytest": lambda: c.pytest_command(sys.executable, *alone, "test_waiting.py", parent=os.getpid()),
    "another pytest": lambda: c.pytest_command(sys.argv[2], *alone, "test_waiting.py", parent=os.getpid()),
}[sys.argv[1]]()
subprocess.Popen(command, stdin=subprocess.DEVNULL).wait()
"""


def has_ended(pid):
    """Whether a process ends within 10 s; one that nobody has waited for counts."""
    late = time.monotonic() + 10
    while time.monotonic() < late:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.01)
    return False


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent has ended")
@pytest.mark.parametrize(
    ("child", "last_words"), [("worker or probe", ""), ("pytest", "saved\n"), ("another pytest", "saved\n")]
)
def test_a_child_ends_when_its_parent_is_killed_and_pytest_can_save_its_results(tmp_path, child, last_words):
    (tmp_path / "test_waiting.py").write_text(WAITING, encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    another = tmp_path / "python"  # by another path, it is another interpreter
    another.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n', encoding="utf-8")
    another.chmod(0o755)
    path = os.pathsep.join((str(tmp_path), str(ROOT)))
    environ = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")} | {"PYTHONPATH": path}
    command = [sys.executable, "-c", PARENT, child, str(another)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path, env=environ) as parent:
        pid = next(int(line.split()[1]) for line in parent.stdout if line.startswith("ready"))
        parent.kill()
        parent.wait()
        assert has_ended(pid)
        assert parent.stdout.read() == last_words


def test_an_end_before_the_kernel_was_told_is_noticed():
    code = "import os, sys; from bench_core import child_process as c; c.end_with(int(sys.argv[1])); os._exit(5)"
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    for pid, expected in ((gone.pid, 1), (os.getpid(), 5)):
        done = subprocess.run([sys.executable, "-c", code, str(pid)], cwd=ROOT, check=False)
        assert done.returncode == (expected if sys.platform == "linux" else 5)


def test_a_grandchild_whose_starter_has_ended_before_the_kernel_was_told_is_noticed():
    """Its command was made before its parent had an id, so it is told its grandparent."""
    code = "import os, sys; from bench_core import child_process as c; c.end_with(int(sys.argv[1])); os._exit(5)"
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    starter = "import subprocess, sys; sys.exit(subprocess.run([sys.executable, '-c', *sys.argv[1:]]).returncode)"
    for pid, expected in ((gone.pid, 1), (os.getpid(), 5)):
        done = subprocess.run([sys.executable, "-c", starter, code, str(-pid)], cwd=ROOT, check=False)
        assert done.returncode == (expected if sys.platform == "linux" else 5)


def test_workers_probes_and_repeated_runs_are_told_their_parent(monkeypatch):
    told = []

    def start(command, **_):
        told.append((command[3], command[4]))
        raise OSError("not started")

    monkeypatch.setattr(subprocess, "Popen", start)
    assert discovery.probe("numpy").reason_code == "not_started"
    with pytest.raises(CaseError, match="not started"):
        Worker(WorkerSpec("numpy", "cpu", 1, ())).start()
    command = replicate.command(replicate.Turn(replicate.Side("this"), 0, 0), Path("output"), [])
    told.append((command[3], command[4]))
    modules = ("bench_core.plan.discovery", "bench_core.timing.worker_child", "pytest")
    assert told == [(str(os.getpid()), module) for module in modules]


ENDS = {"killed": "input()", "ended": "", "aborted": "os.abort()"}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("system", ["posix", "windows"])
def test_all_that_a_child_has_started_ends_with_it_however_it_ends(monkeypatch, system, end):
    """Also on a system without groups of processes."""
    sleeper = "[sys.executable, '-c', 'import time; time.sleep(60)']"
    code = f"import os, subprocess, sys; print(subprocess.Popen({sleeper}).pid, flush=True); {ENDS[end]}"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    child = subprocess.Popen([sys.executable, "-c", code], **pipes, **child_process.apart())
    grandchild = psutil.Process(int(child.stdout.readline()))
    if end != "killed":
        child.wait()
    if system == "windows":
        monkeypatch.delattr(os, "killpg")
        monkeypatch.delattr(signal, "SIGHUP")
        others = psutil.Process.ppid  # an orphan has no new parent there
        monkeypatch.setattr(psutil.Process, "ppid", lambda p: child.pid if p == grandchild else others(p))
    child_process.kill(child)
    assert has_ended(grandchild.pid)
    assert child.returncode is not None
    child_process.kill(child)
    child.stdin.close()
    child.stdout.close()


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "ended with exit code 0"),
        (3, "ended with exit code 3"),
        (-9, "was killed by SIGKILL"),
        (-35, "was killed by signal 35"),
    ],
)
def test_the_end_of_a_process_is_told_by_its_exit_code_or_by_its_signal_which_may_have_no_name(code, words):
    assert child_process.ending(code) == words


def test_windows_starts_children_that_ctrl_c_does_not_reach(monkeypatch):
    monkeypatch.setattr(child_process.sys, "platform", "win32")
    monkeypatch.setattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0x200, raising=False)
    assert child_process.apart() == {"creationflags": 0x200}
    child_process.end_with(0)
