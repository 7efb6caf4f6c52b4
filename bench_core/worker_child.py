"""The child's side of worker.py: `python -m bench_core.worker_child`, driven by JSON lines.

The parent has set the environment before this process began, so that no library can have read another.
Whatever a library prints goes to standard error, which the parent keeps for a crash's last words.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

from bench_core import backends, host
from bench_core.backends.base import Backend
from bench_core.errors import Unavailable
from bench_core.measure import Plan
from bench_core.model import case_from_json, to_json
from bench_core.perform import Settings, perform
from bench_core.worker import MARK, Source, identify

_HEADROOM = 0.95  # of the memory that this process may use; the rest keeps the machine alive
_PR_SET_PDEATHSIG = 1  # prctl(2)


def main() -> None:
    """Serve commands until the parent closes its end."""
    with _private_channel() as channel:
        _die_with_parent()

        def answer(**message: Any) -> None:
            channel.write(MARK + json.dumps(message, allow_nan=False) + "\n")
            channel.flush()

        backend: Backend | None = None
        for line in sys.stdin:
            command = json.loads(line)
            if command["do"] == "start":
                backend = _start(command, answer)
            elif backend is not None:
                _case(command, backend, answer)


def _start(command: dict[str, Any], answer: Callable[..., None]) -> Backend | None:
    if command["device"] == "cpu":
        _cap_memory()
    try:
        backend = backends.load(command["backend"])(command["device"])
        backend.set_threads(command["threads"])
        identity = identify(backend)
    except Unavailable as error:
        answer(unavailable=error.code, reason=str(error))
        return None
    answer(env_id=identity.env_id, facts=to_json(identity.facts))
    return backend


def _case(command: dict[str, Any], backend: Backend, answer: Callable[..., None]) -> None:
    settings = Settings(**{**command["settings"], "plan": Plan(**command["settings"]["plan"])})
    case = case_from_json(command["case"])
    workload = Source(**command["source"]).workload()
    done = perform(case, workload, backend, settings, lambda phase: answer(phase=phase))
    answer(measurement=to_json(done))


@contextlib.contextmanager
def _private_channel() -> Iterator[TextIO]:
    """Yield the original standard output, and send everything printed from now on to standard error."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as channel:
        os.dup2(2, 1)
        yield channel


def _die_with_parent() -> None:
    """Have the kernel end this process should its parent be killed; be the first to go when memory runs out."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def _cap_memory() -> None:
    """Make this process's allocations fail before the machine's memory is gone."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource  # noqa: PLC0415 - not on Windows

        limit = int(_HEADROOM * host.memory_limit())
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


if __name__ == "__main__":
    main()
