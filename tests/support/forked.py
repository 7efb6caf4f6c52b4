"""Start pytest as a fork of a process that has imported what it needs: a third of a small run is imports.

It is a process of its own, with its own number, folder, environment and exit code, and signals reach it. But libraries
were imported before the environment was set. So it is not for tests of the environment, nor of how Python starts.
"""

import atexit
import multiprocessing
import os
import select
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from multiprocessing import util

import pytest
from _pytest.assertion.rewrite import AssertionRewritingHook

# What a run imports, but for plugins: their assertions are rewritten.
IMPORTS = (
    *("numpy", "pytest", "rich.console", "rich.table"),
    *("bench_core.run.session", "bench_core.own.planned", "bench_core.analysis.summary", "bench_core.analysis.figures"),
    __name__,
)
READ_AT_IMPORT = ("OPENBLAS_", "MKL_", "OMP_", "KMP_", "PYTHONHASHSEED", "PYTHONMALLOC", "PYTHONOPTIMIZE")
util.get_temp_dir()  # made here and removed by multiprocessing: that of conftest.py for all tests ends earlier
_STARTING = threading.Lock()  # multiprocessing asks for the ends of all processes when it starts one, not for threads


@dataclass(frozen=True)
class Ended:
    """A pytest that has ended: its exit code, and what it said on both streams."""

    returncode: int
    stdout: str


def run(arguments, folder, environ, timeout=120):
    """Run pytest in a folder, with a complete environment, and return how it ended."""
    process = start(arguments, folder, environ)
    said, _ = process.communicate(timeout)
    return Ended(process.returncode, said)


def start(arguments, folder, environ, *, fresh=False):
    """Start pytest in a folder, with a complete environment; return a process with the methods of Popen used here.

    fresh: a new process of Python instead of a fork.
    """
    if sys.platform == "linux" and not fresh:
        differ = {name for name in environ.keys() | os.environ.keys() if environ.get(name) != os.environ.get(name)}
        read = sorted(name for name in differ if name.startswith(READ_AT_IMPORT) or name.endswith("_NUM_THREADS"))
        assert not read, f"{read[0]} is read when libraries are imported: start a fresh process"
        return Forked(arguments, folder, environ)
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    command = [sys.executable, "-m", "pytest", *arguments]
    return subprocess.Popen(command, cwd=folder, env=environ, text=True, errors="replace", **pipes)


class Forked:
    """A running pytest; what it says on either stream is one text."""

    def __init__(self, arguments, folder, environ):
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(list(IMPORTS))
        self._said, said = context.Pipe(duplex=False)
        known = (list(arguments), str(folder), dict(environ), said)
        self._process = context.Process(target=_pytest, args=known, daemon=True)
        with _STARTING:
            self._process.start()
        said.close()

    @property
    def returncode(self):
        return self._process.exitcode

    def send_signal(self, number):
        os.kill(self._process.pid, number)

    def communicate(self, timeout):
        """Return what it said and None, when it and all that it started have ended; else raises TimeoutExpired."""
        said, end = [], time.monotonic() + timeout
        while not said or said[-1]:
            if not select.select([self._said], [], [], max(0.0, end - time.monotonic()))[0]:
                self._process.kill()
                raise subprocess.TimeoutExpired("pytest", timeout, b"".join(said))
            said.append(os.read(self._said.fileno(), 1 << 16))
        self._said.close()
        with _STARTING:
            self._process.join()
        return b"".join(said).decode(errors="replace"), None


def _pytest(arguments, folder, environ, said):
    for stream in (1, 2):
        os.dup2(said.fileno(), stream)
    said.close()
    os.environ.clear()
    os.environ.update(environ)
    os.chdir(folder)
    sys.path.insert(0, folder)
    sys.argv = ["pytest", *arguments]
    sys.dont_write_bytecode = bool(environ.get("PYTHONDONTWRITEBYTECODE"))
    tempfile.tempdir = None
    AssertionRewritingHook._warn_already_imported = lambda *_: None  # of bench_core, which is meant here
    try:
        code = pytest.console_main()
    finally:
        atexit._run_exitfuncs()  # which a process of multiprocessing leaves out
    sys.exit(code)
