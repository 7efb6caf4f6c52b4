"""One of several processes (ranks) of a worker on several devices: `rank_child BACKEND DEVICE THREADS`.

A launcher has started them (backends/base.py). Rank 0 reads the commands of worker_protocol.py and answers them; it
hands them on to the others, which read nothing and write nothing. All of them run each case, and compare what became of
it. A rank that fails where the others do not has left them waiting for it: it says why in a file, and ends.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench_core.backends import registry
from bench_core.backends.base import Launches, Ranked
from bench_core.errors import Unavailable
from bench_core.records import Measurement, Status, measurement_from_json, severity, to_json
from bench_core.timing import worker_protocol as protocol
from bench_core.timing.case import run_case
from bench_core.timing.worker_child import (
    Answer,
    be_killed_first,
    cap_memory,
    commands,
    exempt_imports,
    private_channel,
)

GRACE = 5.0  # seconds that a rank which has failed waits for the others to fail as well
FAILURE = "failure.json"  # the file in the folder of all ranks, of the first that left
FOLDER = "BENCH_CORE_FAILURES"  # the environment variable with the folder


def main(arguments: Sequence[str]) -> None:
    """Serve the commands of the parent as one of the ranks."""
    name, device, threads = arguments
    if hasattr(faulthandler, "register"):  # the parent asks where a rank is that does not answer
        faulthandler.register(signal.SIGUSR1, all_threads=False)
    be_killed_first()
    backend = registry.load(name)
    assert isinstance(backend, Launches)  # noqa: S101 - the parent has asked it for the command
    launcher = backend.launcher()
    rank = launcher.rank_in(os.environ) or 0
    with private_channel() if rank == 0 else _silence() as channel:

        def answer(message: protocol.Message) -> None:
            if channel:
                channel.write(protocol.marked_line(message))
                channel.flush()

        if device.startswith("cpu"):
            cap_memory(int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
        try:
            here = launcher.connect(device)
        except Unavailable as error:
            answer(protocol.unavailable_answer(error))
            return
        here.set_threads(int(threads))
        _serve(here, answer)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Redirect standard output to standard error: it is inherited from the parent, which reads it."""
    os.dup2(2, 1)
    yield


def _serve(backend: Ranked, answer: Answer) -> None:
    world = backend.world
    own = commands() if world.rank == 0 else None
    while (command := world.every(next(own, None) if own else None)[0]) is not None:
        if command["do"] == "start":
            processes = tuple(map(int, world.every(os.getpid())))
            here = protocol.process_environment(backend)
            exempt_imports()
            answer(protocol.ready_answer(protocol.ProcessEnvironment(here.env_id, here.facts, processes)))
        else:
            done = _case(command, backend, answer)
            if done is not None:
                answer(protocol.measurement_answer(done))


def _case(command: protocol.Message, backend: Ranked, answer: Answer) -> Measurement | None:
    """Run a case with the other ranks, and return what became of it on all of them."""
    case, source, settings = protocol.read_case_command(command)
    known, world = len(sys.modules), backend.world
    done = None
    if backend.team(case.work.ranks):
        workload = source.workload()
        done = run_case(case, workload, backend, settings, lambda phase: answer(protocol.phase_answer(phase)))
    with _leaving(done, world.rank):
        outcomes = world.every(None if done is None or done.status is Status.OK else to_json(done))
    if len(sys.modules) > known:
        exempt_imports()
    return _of_all(done, outcomes)


def _of_all(done: Measurement | None, outcomes: Sequence[Any]) -> Measurement | None:
    """Return the worst of the outcomes of all ranks, with the number of the rank unless all have it."""
    failed = {rank: measurement_from_json(each) for rank, each in enumerate(outcomes) if each}
    if done is None or not failed:
        return done
    rank = min(failed, key=lambda rank: (severity(failed[rank].status), rank))
    return failed[rank] if len(failed) == done.case.work.ranks else of_rank(failed[rank], rank)


def of_rank(done: Measurement, rank: int) -> Measurement:
    """Return the measurement of one rank, its reason with the number of the rank."""
    if done.reason.startswith("rank "):
        return done
    return Measurement.missing(
        done.case, done.status, done.reason_code, f"rank {rank}: {done.reason}", traceback=done.traceback
    )


@contextlib.contextmanager
def _leaving(done: Measurement | None, rank: int) -> Iterator[None]:
    """End this process if it has failed, and the others do not come to the end of this context in time.

    They may be waiting for it somewhere else.
    """
    if done is None or done.status is Status.OK:
        yield
        return

    def leave() -> None:
        with contextlib.suppress(OSError), Path(os.environ[FOLDER], FAILURE).open("x", encoding="utf-8") as file:
            json.dump({"rank": rank, "measurement": to_json(done)}, file)
        os._exit(1)

    timer = threading.Timer(GRACE, leave)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


if __name__ == "__main__":
    main(sys.argv[1:])
