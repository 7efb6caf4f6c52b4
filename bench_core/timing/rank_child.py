"""One of several processes (ranks) of a worker on several devices: `rank_child BACKEND DEVICE THREADS`.

A launcher has started them (backends/base.py). Rank 0 reads the commands of worker_protocol.py and answers them; it
hands them on to the others, which read nothing and write nothing. All of them run each case, and compare what became of
it. A rank that fails where the others do not has left them waiting for it: it says why in a file, and ends. The
launcher then ends all.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from bench_core.backends import registry
from bench_core.backends.base import Launcher, Launches, Ranked
from bench_core.errors import Unavailable
from bench_core.records import Measurement, Status, measurement_from_json, severity, to_json, type_of
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

GRACE = 2.0  # seconds that a rank which has failed waits for the others to fail as well, or for its end
FOLDER = "BENCH_CORE_FAILURES"  # the environment variable with the folder for what follows
FAILURE = "failure.json"  # the file of the first rank that has left the others, with what became of its case
GONE = "gone.json"  # the file of a rank that could not go on, with the ranks that had ended before it


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
    with private_channel() if rank == 0 else _silence() as channel, _ending_last() as processes:

        def answer(message: protocol.Message) -> None:
            if channel:
                channel.write(protocol.marked_line(message))
                channel.flush()

        if type_of(device) == "cpu":
            cap_memory(int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
        if here := _connected(launcher, device, rank, answer):
            here.set_threads(int(threads))
            _serve(here, answer, processes)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Give this process other streams than those of the parent, which it has inherited: rank 0 alone uses them."""
    os.dup2(2, 1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    yield


@contextlib.contextmanager
def _ending_last() -> Iterator[list[int]]:
    """End this process if an exception leaves the context, but later than a rank whose end may be the cause of it.

    The launcher names the first that fails, and ends all others. A rank that ends with exit code 0 does not fail. So
    this process says which have ended, if it knows the processes of all: the caller appends them to the list.
    """
    processes: list[int] = []
    try:
        yield processes
    except Exception:  # noqa: BLE001 - it ends here, with its traceback
        traceback.print_exc()
        time.sleep(GRACE)
        if gone := [rank for rank, pid in enumerate(processes) if not psutil.pid_exists(pid)]:
            with contextlib.suppress(OSError):
                _file(GONE).write_text(json.dumps(gone), encoding="utf-8")
        os._exit(1)


def _connected(launcher: Launcher, device: str, rank: int, answer: Answer) -> Ranked | None:
    """Return the backend of this rank, connected with the others; None if that is impossible and rank 0 has said so."""
    try:
        return launcher.connect(device)
    except Unavailable as error:
        answer(protocol.unavailable_answer(error))
        if rank:
            time.sleep(GRACE)  # for rank 0, if that has failed as well
            sys.exit(str(error))
        return None


def _serve(backend: Ranked, answer: Answer, processes: list[int]) -> None:
    world = backend.world
    own = commands() if world.rank == 0 else None
    while (command := world.every(next(own, None) if own else None)[0]) is not None:
        if command["do"] == "start":
            processes[:] = map(int, world.every(os.getpid()))
            here = protocol.process_environment(backend)
            exempt_imports()
            answer(protocol.ready_answer(replace(here, processes=tuple(processes))))
        else:
            done = _case(command, backend, answer)
            if done is not None:
                answer(protocol.measurement_answer(done))


def _case(command: protocol.Message, backend: Ranked, answer: Answer) -> Measurement | None:
    """Run a case with the other ranks; return what became of it on all of them, None on a rank that only waited."""
    case, source, settings = protocol.read_case_command(command)
    known, world = len(sys.modules), backend.world
    done, failed = None, None
    if backend.team(case.work.ranks):
        workload = source.workload()
        done = run_case(case, workload, backend, settings, lambda phase: answer(protocol.phase_answer(phase)))
        failed = None if done.status is Status.OK else to_json(done)
    with _leaving({"rank": world.rank, "measurement": failed}) if failed else contextlib.nullcontext():
        outcomes = world.every(failed)
    if len(sys.modules) > known:
        exempt_imports()
    return None if done is None else of_all(done, outcomes)


def of_all(done: Measurement, outcomes: Sequence[Any]) -> Measurement:
    """Return the worst of the outcomes of all ranks, with the number of the rank unless all have failed.

    done: of this rank. outcomes: of each rank None, or the failed measurement as plain JSON values.
    """
    failed = {rank: measurement_from_json(each) for rank, each in enumerate(outcomes) if each}
    if not failed:
        return done
    rank = min(failed, key=lambda rank: (severity(failed[rank].status), rank))
    return failed[rank] if len(failed) == done.case.work.ranks else of_rank(failed[rank], rank)


def of_rank(done: Measurement, rank: int) -> Measurement:
    """Return the measurement of one rank, its reason with the number of a rank."""
    return done if done.reason.startswith("rank ") else replace(done, reason=f"rank {rank}: {done.reason}")


@contextlib.contextmanager
def _leaving(why: dict[str, Any]) -> Iterator[None]:
    """End this process, which has failed, if the others do not come to the end of this context in time.

    They may be waiting for it somewhere else.
    """

    def leave() -> None:
        with contextlib.suppress(OSError), _file(FAILURE).open("x", encoding="utf-8") as file:
            json.dump(why, file)
        os._exit(1)

    timer = threading.Timer(GRACE, leave)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _file(name: str) -> Path:
    """Return the path of a file for the parent. Raises OSError without a folder."""
    if folder := os.environ.get(FOLDER):
        return Path(folder, name)
    raise FileNotFoundError(FOLDER)


if __name__ == "__main__":
    main(sys.argv[1:])
