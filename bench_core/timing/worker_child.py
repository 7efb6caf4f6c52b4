"""The child's side of worker_protocol.py: `python -m bench_core.timing.worker_child` serves one worker.

The parent sets the environment before this process starts, so every library is imported with it. The output of
libraries goes to standard error, whose last line the parent reports after a crash.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

from bench_core.backends import registry
from bench_core.backends.base import Backend
from bench_core.errors import Unavailable
from bench_core.machine import allotment
from bench_core.timing import worker_protocol as protocol
from bench_core.timing.case import run_case

_HEADROOM = 0.95  # share of the available memory that this process may use; the rest keeps the machine responsive
_GRACE = 2.0  # seconds that this process has to end by itself after its parent has closed the pipe

Answer = Callable[[protocol.Message], None]


def main() -> None:
    """Serve commands until the parent closes its end of the pipe."""
    be_killed_first()
    with private_channel() as channel:

        def answer(message: protocol.Message) -> None:
            channel.write(protocol.marked_line(message))
            channel.flush()

        backend: Backend | None = None
        for command in commands():
            if command["do"] == "start":
                backend = _start(command, answer)
            elif backend is not None:
                _case(command, backend, answer)


def _start(command: protocol.Message, answer: Answer) -> Backend | None:
    if command["device"] == "cpu":
        cap_memory()
    try:
        backend = registry.load(command["backend"])(command["device"])
        backend.set_threads(command["threads"])
        here = protocol.process_environment(backend)
    except Unavailable as error:
        answer(protocol.unavailable_answer(error))
        return None
    exempt_imports()
    answer(protocol.ready_answer(here))
    return backend


def _case(command: protocol.Message, backend: Backend, answer: Answer) -> None:
    case, source, settings = protocol.read_case_command(command)
    known = len(sys.modules)
    done = run_case(case, source.workload(), backend, settings, lambda phase: answer(protocol.phase_answer(phase)))
    answer(protocol.measurement_answer(done))
    if len(sys.modules) > known:
        exempt_imports()


def exempt_imports() -> None:
    """Exempt what was imported from the cyclic garbage collector: with PyTorch, each of its runs took 0.1 s."""
    gc.collect()
    gc.freeze()


@contextlib.contextmanager
def private_channel() -> Iterator[TextIO]:
    """Yield the original standard output; redirect everything that is printed from now on to standard error."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as channel:
        os.dup2(2, 1)
        yield channel


def commands() -> Iterator[protocol.Message]:
    """Yield the commands of the parent, until it closes its end of the pipe or dies.

    A thread waits for them. If the pipe ends while a case runs, it ends the process: not every kernel does that when a
    parent dies. It cannot while a call of a library holds the interpreter's lock.
    """
    lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()

    def read() -> None:
        rest = b""
        while chunk := os.read(0, 1 << 16):  # no buffer, whose lock a process could not get at its end
            *whole, rest = (rest + chunk).split(b"\n")
            for line in whole:
                lines.put(line)
        lines.put(None)
        time.sleep(_GRACE)
        os._exit(1)

    threading.Thread(target=read, daemon=True).start()
    while (line := lines.get()) is not None:
        yield json.loads(line)


def be_killed_first() -> None:
    """Have the kernel kill this process before others when memory runs out (Linux)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def cap_memory(processes: int = 1) -> None:
    """Limit this process's memory, so that its allocations fail before the machine runs out of memory.

    processes: how many share what there is.
    """
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource  # noqa: PLC0415 - not on Windows

        if limit := allotment.memory_limit():
            capped = int(_HEADROOM * limit / processes)
            resource.setrlimit(resource.RLIMIT_DATA, (capped, capped))


if __name__ == "__main__":
    main()
