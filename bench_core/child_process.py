"""Start child processes with the same bench_core as this process, and end them with all that they have started.

A child runs `child_main.py`, by its path. So it finds bench_core wherever this process found it, installed or not, and
has no other folder of the user before the standard library: with `python -m`, a `statistics.py` in the working folder
would be imported in place of Python's own.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import psutil

# Options of pytest that load the plugin, installed or not. The entry point was once named `bench_core`: an old
# installation would load the same module again under that name, which pytest refuses.
PLUGIN = ("-p", "bench_core.pytest_plugin", "-p", "no:bench_core")
# With these, pytest measures. What the user gives follows, and so overrides the last of them.
MEASURING = (*PLUGIN, "--benchmark-only", "--bench-suite=auto")

_PR_SET_PDEATHSIG = 1  # prctl(2)
_MAIN = Path(__file__).resolve().with_name("child_main.py")
# pytest of another interpreter, with that interpreter's bench_core. The working folder may hold modules of the
# benchmarks; it comes last, so that they hide no library.
_ANOTHER = "import os, sys; sys.path.append(os.getcwd()); import {}\n"
_PYTEST = """
import importlib.util, runpy
try:
    folder = importlib.util.find_spec("bench_core").submodule_search_locations[0]
    runpy.run_path(os.path.join(folder, "child_process.py"))["end_with"]({}, gently=True)
except (OSError, KeyError, TypeError):
    pass  # an earlier release
sys.exit(pytest.main())
"""


def command(module: str, *arguments: str, parent: int = 0) -> list[str]:
    """Return the command line of `python -m module` in a child that has the bench_core of this process.

    parent: the process with which the child ends, as `end_with` says; 0 for none.
    """
    return [sys.executable, "-P", str(_MAIN), str(parent), module, *arguments]


def pytest_command(python: str, *arguments: str, parent: int = 0) -> list[str]:
    """Return the command line of pytest: of this interpreter, or of another one with a bench_core of its own."""
    if python == sys.executable:
        return command("pytest", *arguments, parent=parent)
    return [python, "-P", "-c", _ANOTHER.format("pytest") + _PYTEST.format(parent), *arguments]


def import_command(python: str, module: str) -> list[str]:
    """Return the command line by which an interpreter imports a module as `pytest_command` would."""
    return [python, "-P", "-c", _ANOTHER.format(module)]


def apart() -> dict[str, Any]:
    """Return the arguments of Popen for a child that Ctrl-C does not reach, and that leads those that it starts."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


def ending(code: int) -> str:
    """Return in words how a process has ended: "was killed by SIGKILL", "ended with exit code 3".

    code: its exit code, or the negative number of the signal that has ended it, which may have no name ("signal 40").
    """
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def kill(process: subprocess.Popen[Any]) -> None:
    """End a child started with `apart` and all processes that it has started, and wait for it. Raises nothing.

    What it has started outlives a child that ends by itself. So call this once for every child, right after its end.
    """
    if hasattr(os, "killpg"):
        # The system gives the number of a child that has been waited for to no other process as long as its group has
        # a member. If it has none, this finds no group, unless the number was given away since: after all others.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    else:  # Windows has no groups of processes that end together
        _kill_all(_started_by(process.pid))
    with contextlib.suppress(OSError):
        process.kill()
    process.wait()


def kill_apart(processes: Sequence[psutil.Process], wait: float = 5.0) -> None:
    """End processes that are no children of this one, and all that they have started. Raises nothing.

    Each leads a group of its own, as one started with `apart`. wait: seconds to wait at most for their ends.
    """
    started = []
    for process in processes:
        with contextlib.suppress(psutil.Error, OSError):
            if not process.is_running():  # its id may be another's by now
                continue
            started += process.children(recursive=True)
            if hasattr(os, "killpg") and os.getpgid(process.pid) == process.pid:
                os.killpg(process.pid, signal.SIGKILL)
    _kill_all([*processes, *started])
    psutil.wait_procs([*processes, *started], timeout=wait)


def _kill_all(processes: Iterable[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill()


def _started_by(pid: int) -> list[psutil.Process]:
    """Return the processes that a process has started, and those that they have, also if it has ended (Windows).

    There a process keeps the number of its parent, which no other gets while this process has a handle of it.
    """
    found = []
    for each in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if each.ppid() == pid:
                found += [each, *each.children(recursive=True)]
    return found


def end_with(parent: int, *, gently: bool = False) -> None:
    """Have the kernel end this process when the process that started it ends; end now if that has happened (Linux).

    parent: the id of the process that has started this one. A negative number is the id of the grandparent: the parent
    had no id yet when the command was made.
    gently: by SIGTERM, which it may handle; otherwise by SIGKILL. Elsewhere a child ends when its standard input does,
    after a time limit of its own, or when its work is done.
    """
    if sys.platform != "linux":
        return
    started_by = parent if parent > 0 else os.getppid()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM if gently else signal.SIGKILL)
    # Before the kernel was told?
    if (os.getppid() != started_by and _is_gone(started_by)) or (parent < 0 and not _is_below(started_by, -parent)):
        os._exit(1)


def _is_below(pid: int, ancestor: int) -> bool:
    """Return whether a process is a child of another one, or a child of a child."""
    try:
        return any(each.pid == ancestor for each in psutil.Process(pid).parents())
    except psutil.NoSuchProcess:
        return False
    except (psutil.Error, OSError):  # /proc is hidden
        return True


def _is_gone(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
    except (psutil.Error, OSError):  # /proc is hidden
        return False
