"""Plant each kind of fault in a rank of torch:cpu:x2 many times, and tell how many were found, and what was left.

    python -m tests.faulty.trial_ranks [NUMBER [KIND ...]]

Not a part of the tests: a launch takes 6 to 9 s on two cores, and most faults need one each.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import tempfile
import time
from pathlib import Path

from bench_core.errors import CaseError
from bench_core.timing import worker
from bench_core.timing.ranks_worker import RanksWorker
from bench_core.timing.worker_protocol import WorkerSpec
from tests.faulty import left
from tests.faulty.runs import HERE, Project, in_journal, reasons, statuses

TARGET = "torch:cpu:x2"
LATE = r"no result within 6 s, stopped in \w+: rank {} {}, rank {} waits in .*"
# By the name of a fault: the status of its case, and its reason.
CASES = {
    "hang.block": ("timeout", LATE.format(1, r"is in \S+ \(hang\)", 0)),
    "slow.always": ("timeout", LATE.format(1, r"is in \S+ \(crawl\)", 0)),
    "hang-0.block": ("timeout", LATE.format(0, r"is in \S+ \(hang\)", 1)),
    "kill.block": ("crashed", "rank 1 was killed by SIGKILL in measure: here it ends"),
    "kill-0.block": ("crashed", "rank 0 was killed by SIGKILL in measure: here it ends"),
    "kill_other.block": ("crashed", r"rank 1 was killed by SIGKILL in \w+"),
    "stop_other.block": ("timeout", LATE.format(1, "does not say where it is", 0)),
    "exit.block": ("crashed", "rank 1 ended with exit code 3 in measure: here it ends"),
    "exit-0.block": ("crashed", "rank 0 ended with exit code 3 in measure: here it ends"),
    "leave.block": ("crashed", "rank 1 ended with exit code 0 in measure: here it ends"),
    "raise.block": ("error", "rank 1: RuntimeError: the kernel fell over"),
    "raise-0.block": ("error", "rank 0: RuntimeError: the kernel fell over"),
    "memory.block": ("oom", "rank 1: MemoryError: Unable to allocate 8 PiB"),
    "wrong.first": ("invalid", "rank 1: relative error .* is above the tolerance .*"),
    "wrong.again": ("invalid", "right in the first check, wrong in the second: rank 1: relative error .*"),
    "wrong-0.again": ("invalid", "right in the first check, wrong in the second: rank 0: relative error .*"),
    "kill_launcher.block": ("crashed", "the launcher was killed by SIGKILL in measure.*"),
    "terminate_launcher.block": ("crashed", "the launcher ended with exit code 1 in measure.*"),
    "uneven": ("ok", ""),
    "uneven-0": ("ok", ""),
}  # fmt: skip
STARTS = {
    "starting_kill": "rank 1 was killed by SIGKILL while starting: here it ends",
    "starting_exit": "rank 1 ended with exit code 3 while starting: here it ends",
    "starting_hang": "the worker did not start within 15 s: .*rank 1 does not say where it is.*",
}
ENDS = {"interrupt.block": 2, "terminate.block": 2, "kill_pytest.block": -signal.SIGKILL}


def environ(folder):
    """Return the variables of a run in a folder, which has a temporary folder and a mark of its own."""
    temporary = folder / "tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    return {"TMPDIR": str(temporary), left.MARK: str(folder)}


@contextlib.contextmanager
def interrupts_reach_children():
    """Let SIGINT reach the processes that are started here, also in a background job of a shell, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def cases(how, number, folder):
    """Run a calm case before each of many faults, and return how many are found, and what is left."""
    project = Project(folder, environ(folder), "ranks.py")
    sizes = [size for i in range(number) for size in (f"calm.{i}", f"{how}.{i}")] + ["calm.last"]
    project.run("--bench-timeout=6", "--bench-budget=1.2", backends=TARGET, timeout=3600, FAULT=" ".join(sizes))
    found, why = statuses(project.folder), reasons(project.folder)
    status, reason = CASES[how]
    is_right = [
        found[f"{how}.{i}"] == status and bool(re.fullmatch(reason, why.get(f"{how}.{i}", ("", ""))[1]))
        for i in range(number)
    ]
    other = [text for i, (_, text) in enumerate(why.values()) if not re.fullmatch(reason, text)]
    calm = [found[size] for size in sizes if size.startswith("calm")]
    if how.startswith("uneven"):
        flag = f"slow_rank_{how.partition('-')[2] or 1}"
        rows = (project.folder / "results.csv").read_text(encoding="utf-8").splitlines()
        is_right = [flag in "".join(r for r in rows if f"{how}.{i}," in r) for i in range(number)]
    said = f"{sum(is_right)} of {number}, calm {calm.count('ok')} of {len(calm)}"
    return said, other, left.behind(str(folder), project.path / "begun.txt", folder / "tmp")


def starts(how, number, folder):
    """Start ranks of which one dies or hangs before it is connected."""
    worker.START_TIMEOUT = 15.0 if how == "starting_hang" else 60.0
    before, site = (
        dict(os.environ),
        {"PYTHONPATH": os.pathsep.join([str(HERE / "site"), str(Path.cwd())]), "FAULT_RANK": how},
    )
    os.environ.update(environ(folder) | site)
    tempfile.tempdir = None
    said = []
    for _ in range(number):
        one = RanksWorker(WorkerSpec("torch", "cpu:x2", 1, ()))
        try:
            one.start()
            said.append("started")
        except CaseError as error:
            said.append(str(error))
        one.close()
    os.environ.clear()
    os.environ.update(before)
    tempfile.tempdir = None
    right = [text for text in said if re.fullmatch(STARTS[how], text)]
    other = [text for text in said if text not in right]
    return f"{len(right)} of {number}", other, left.behind(str(folder), folder / "begun.txt", folder / "tmp")


def ends(how, number, folder):
    """End whole runs, by a signal to pytest."""
    right, other, remains = 0, [], []
    for i in range(number):
        here = folder / str(i)
        project = Project(here, environ(here), "ranks.py")
        with interrupts_reach_children():
            done = project.run(
                "--bench-timeout=6", "--bench-budget=1.2", backends=TARGET, timeout=600, FAULT=f"calm.1 {how} calm.2"
            )
        kept = set(in_journal(project.folder)) if how.startswith("kill") else statuses(project.folder)
        expected = (
            {"calm.1"} if how.startswith("kill") else {"calm.1": "ok", how: "interrupted", "calm.2": "interrupted"}
        )
        right += (done.code, kept) == (ENDS[how], expected)
        other += [] if (done.code, kept) == (ENDS[how], expected) else [f"{done.code} {kept}"]
        begin = time.monotonic()
        # What a process that was killed could not remove, a later run does: bench_core/scratch.py.
        temporary = None if how.startswith("kill") else here / "tmp"
        last = left.behind(str(here), project.path / "begun.txt", temporary)
        remains += [last] if last else []
        remains += [f"{time.monotonic() - begin:.1f} s"] if time.monotonic() - begin > 3 else []
    return f"{right} of {number}", other, "; ".join(remains)


def main(number="20", *kinds):
    for how in kinds or (*CASES, *STARTS, *ENDS):
        try_it = cases if how in CASES else starts if how in STARTS else ends
        begin = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            said, other, remains = try_it(how, int(number), Path(folder).resolve())
        took = time.monotonic() - begin
        print(f"| {how} | {said} | {remains or 'nothing'} | {took:.0f} s | {'; '.join(other)[:300]} |", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
