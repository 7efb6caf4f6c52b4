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
_ANOTHER = "import os, sys; sys.path.append(os.getcwd()); import {}; "
_PYTEST = _ANOTHER.format("pytest") + "sys.exit(pytest.console_main())"


def command(module: str, *arguments: str) -> list[str]:
    """Return the command line of `python -m module` in a child that has the bench_core of this process."""
    return [sys.executable, "-P", str(_MAIN), module, *arguments]


def pytest_command(python: str, *arguments: str) -> list[str]:
    """Return the command line of pytest: of this interpreter, or of another one with a bench_core of its own."""
    if python == sys.executable:
        return command("pytest", *arguments)
    return [python, "-P", "-c", _PYTEST, *arguments]


def import_command(python: str, module: str) -> list[str]:
    """Return the command line by which an interpreter imports a module as `pytest_command` would."""
    return [python, "-P", "-c", _ANOTHER.format(module)]


def apart() -> dict[str, Any]:
    """Return the arguments of Popen for a child that Ctrl-C does not reach, and that leads those that it starts."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


def kill(process: subprocess.Popen[Any]) -> None:
    """End a child started with `apart` and all processes that it has started, and wait for it. Raises nothing."""
    if process.poll() is not None:
        return
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    else:  # Windows has no groups of processes that end together
        with contextlib.suppress(psutil.Error):
            for child in psutil.Process(process.pid).children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    child.kill()
    with contextlib.suppress(OSError):
        process.kill()
    process.wait()


def end_with(parent: int) -> None:
    """Have the kernel kill this process when the process that started it ends; end now if that has happened (Linux).

    Elsewhere a child ends when its standard input does, or after a time limit of its own.
    """
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent and _is_gone(parent):  # before the kernel was told
        os._exit(1)


def _is_gone(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
    except (psutil.Error, OSError):  # /proc is hidden
        return False
