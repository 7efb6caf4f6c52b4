"""A workload across ranks, one of which misbehaves.

Of size "kill.block", rank 1 is killed in a timed block; of size "kill-0.block" it is rank 0. Of size
"kill_other.block", rank 0 computes alone and kills rank 1, which only waits.
"""

import gc
import os
import signal
import time
from pathlib import Path
from typing import ClassVar

import numpy as np
import psutil
import pytest

from bench_core import check
from bench_core.records import Costs
from bench_core.workload import Kernel, Kernels, Workload

LOG = "FAULT_LOG"  # the environment variable with the file of `note`
ALONE = "other"  # how a fault ends that rank 0 brings upon a rank which takes no part


def note(*words):
    with Path(os.environ[LOG]).open("a", encoding="utf-8") as file:
        file.write(" ".join(map(str, words)) + "\n")


def die(number):
    """End this rank, with last words."""
    os.write(2, b"here it ends\n")
    if number > 0:
        os.kill(os.getpid(), number)
    os._exit(-number)


def hang():
    time.sleep(3600)


def crawl():
    time.sleep(2)


def fall_over():
    raise RuntimeError("the kernel\nfell over")


def exhaust():
    raise MemoryError("Unable to allocate 8 PiB")


def to(pid, number):
    """Send a signal to the launcher or to pytest, and wait for the end."""
    os.kill(pid, number)
    time.sleep(60)


def to_others(number):
    """Send a signal to all other ranks, and compute on."""
    for process in psutil.Process(os.getppid()).children(recursive=True):
        if process.pid != os.getpid():
            process.send_signal(number)


def pytest_process():
    """Return the id of the process that runs pytest: it has started the launcher, which has started this one."""
    return psutil.Process(os.getppid()).ppid()


def note_ports():
    """Note where this rank and the launcher listen."""
    for process in (psutil.Process(), psutil.Process(os.getppid())):
        for known in process.net_connections():
            if known.status == psutil.CONN_LISTEN:
                note("listens", *known.laddr)


FAULTS = {
    "hang": hang,
    "slow": crawl,
    "kill": lambda: die(signal.SIGKILL),
    "exit": lambda: die(-3),
    "leave": lambda: die(0),
    "raise": fall_over,
    "memory": exhaust,
    "kill_other": lambda: to_others(signal.SIGKILL),
    "stop_other": lambda: to_others(signal.SIGSTOP),
    "kill_launcher": lambda: to(os.getppid(), signal.SIGKILL),
    "terminate_launcher": lambda: to(os.getppid(), signal.SIGTERM),
    "kill_pytest": lambda: to(pytest_process(), signal.SIGKILL),
    "interrupt": lambda: to(pytest_process(), signal.SIGINT),
    "terminate": lambda: to(pytest_process(), signal.SIGTERM),
}


def kernel(backend, work, host):
    """Return a kernel that sums arrays over the ranks: all of them wait for the faulty one."""
    how, where = work.size.split(".")[:2]
    how, _, faulty = how.partition("-")
    faulty = int(faulty or (0 if how.endswith(ALONE) else 1))
    distributed, ranks = backend.xp.distributed, backend.ranks
    note_ports()
    x = backend.from_host(host["x"])
    calls = dict.fromkeys(("block", "warm_up", "first"), 0)

    def phase():
        if calls["block"] and gc.isenabled():
            return "again"
        return ("warm_up" if gc.isenabled() else "block") if calls["first"] else "first"  # blocks: without collection

    def strike(now):
        calls[now] = calls.get(now, 0) + 1
        is_due = ranks.rank == faulty and where in {now, "always"}
        if is_due and how in FAULTS:
            FAULTS[how]()
        return is_due and how == "wrong"

    def run():
        is_wrong = strike(phase())
        out = x + x
        distributed.all_reduce(out, group=ranks.group)
        return out + 1 if is_wrong else out

    def alone():
        """Take as long as this rank does, and print what looks like an answer."""
        phase()
        time.sleep(0.02 if ranks.rank == faulty else 0.002)
        out = x + x
        print("\x1ebench-core {}", flush=True)
        os.write(1, b'\x1ebench-core {"measurement": 5}\n')
        return out * 2

    strike("build")
    return Kernel(alone if how == "uneven" else run, inputs={"x": x})


class Striking(Workload):
    """Doubles an array and sums it over the ranks, which have the same."""

    suite, name = "faults", "ranks"
    across_ranks = True
    kernels: ClassVar[Kernels] = {"torch": {"default": kernel}}

    def __init__(self, *sizes):
        self.sizes = sizes

    def works(self, preset, machine):
        some = os.environ.get("FAULT")
        sizes = some.split() if some else self.sizes
        return [self.work(size, "float64", ranks=1 if ALONE in size else 2) for size in sizes]

    def inputs(self, work, rng):
        return {"x": rng.standard_normal(64)}

    def costs(self, work):
        return Costs()

    def error(self, work, host, answer):
        return check.relative_error(answer["out"], 2 * work.ranks * np.asarray(host["x"]))


@pytest.mark.workload(
    Striking(
        *("calm.1", "uneven.1", "wrong.again", "kill-0.block", "hang.block", "calm.2", "interrupt.block", "calm.3"),
    )
)
def test_striking(measure):
    measure()
