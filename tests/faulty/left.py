"""What a run has left behind: processes, listening ports and temporary folders."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

import psutil

MARK = "FAULT_RUN"  # the environment variable by which all processes of a run are found


def processes(run):
    """Return the command lines of all processes whose environment has the mark of a run, but for zombies."""
    others = (each for each in psutil.process_iter() if each.pid != os.getpid())  # a test may start ranks itself
    return [" ".join(process.cmdline()) for process in others if _mark(process) == run]


def _mark(process):
    """Return the mark of a process that lives, None if it has none or cannot be asked."""
    with contextlib.suppress(psutil.Error, OSError):
        return process.environ().get(MARK) if process.status() != psutil.STATUS_ZOMBIE else None
    return None


def ports(known, run):
    """Return those of some ports on which somebody listens who may be of a run. Others get the same numbers later."""
    listening = [each for each in psutil.net_connections("tcp") if each.status == psutil.CONN_LISTEN]
    found = [each for each in listening if each.laddr.port in known]
    return sorted({each.laddr.port for each in found if not each.pid or _mark(psutil.Process(each.pid)) == run})


def behind(run, log, temporary=None, wait=5.0):
    """Return all that a run has left, `wait` seconds after its end at the latest; "" if there is nothing.

    log: the file of its ranks with the ports on which they listened. temporary: its folder for temporary files, if none
    may be in it.
    """
    text = Path(log).read_text(encoding="utf-8") if Path(log).exists() else ""
    known = {int(line.split()[2]) for line in text.splitlines() if line.startswith("listens")}
    end = time.monotonic() + wait
    while (left := [*processes(run), *ports(known, run)]) and time.monotonic() < end:
        time.sleep(0.1)
    left += [path.name for path in Path(temporary).iterdir()] if temporary else []
    return ", ".join(map(str, left))
