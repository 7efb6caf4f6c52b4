"""Workloads that misbehave in every way a kernel can, at any point of a case, and some that do not."""

import gc
import os
import shutil
import signal
import stat
import sys
import time
from collections import Counter
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from bench_core import check
from bench_core.records import Costs
from bench_core.workload import Kernel, Kernels, Workload


def _segfault():
    os.kill(os.getpid(), signal.SIGSEGV)


def _eat():
    hoard = []
    while True:
        hoard.append(np.ones(1 << 24))  # 128 MiB a bite, touched, until the worker's own cap


def _garbage():
    print("\x1ebench-core {not json")
    os.write(1, b"\x1ebench-core garbage on the channel\n\xff\xfe")
    sys.stdout.flush()
    return np.ones(4)


def _forge():
    """Write to the channel itself: half a line, an answer of the wrong shape, one that is about nothing."""
    for fd in range(3, 64):
        try:
            is_pipe = stat.S_ISFIFO(os.fstat(fd).st_mode)
        except OSError:
            continue
        if is_pipe and os.get_blocking(fd):
            os.write(
                fd, b'noise \x1ebench-core {"half\n\x1ebench-core 5\n\x1ebench-core {"measurement": {"case": 1}}\n'
            )


def _raise():
    raise RuntimeError("the kernel\nfell over")


def _raise_text():
    raise RuntimeError(os.environ["FAULT_TEXT"])


def _die_text():
    os.write(2, os.environ["FAULT_TEXT"].encode())
    os._exit(3)


def _to_pytest(number, *, then=lambda: time.sleep(60)):
    """Return a fault that signals the process which runs pytest; this one ends with it."""

    def send():
        os.kill(os.getppid(), number)
        then()

    return send


def _fill():
    """Take every byte that the file system of the results has left."""
    with Path("results", "junk").open("wb", buffering=0) as junk:
        for size in (1 << 12, 1):
            try:
                while junk.write(b"x" * size):
                    pass
            except OSError:
                continue


def _lose_gpu():
    """Let the driver lose the card, as on a fallen bus; the stand-in's array library does not notice."""
    import pynvml

    for device in pynvml.devices:
        device.lost = True


def _cuda_error():
    """Fail, and let every later call in this process fail too: a CUDA context does not recover."""
    import cupy

    def add(*_):
        raise cupy.cuda.runtime.CUDARuntimeError("cudaErrorIllegalAddress: an illegal memory access was encountered")

    cupy.add = add


def _turn_back():
    time.perf_counter.back += 1000.0  # see site/sitecustomize.py


FAULTS = {
    "good": lambda: np.ones(4),
    "garbage": _garbage,
    "wrong": lambda: np.array([1, 1, 1, 1.001]),
    "not_finite": lambda: np.array([1, 1, 1, np.nan]),
    "shape": lambda: np.ones(5),
    "raise": _raise,
    "segfault": _segfault,
    "exit": lambda: os._exit(3),
    "eat": _eat,
    "memory": lambda: np.empty(1 << 50),
    "hang": lambda: time.sleep(3600),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "kill_pytest": _to_pytest(signal.SIGKILL),
    "kill_both": _to_pytest(signal.SIGKILL, then=lambda: os.kill(os.getpid(), signal.SIGKILL)),
    "interrupt": _to_pytest(signal.SIGINT),
    "terminate": _to_pytest(signal.SIGTERM),
    "hang_up": _to_pytest(signal.SIGHUP),
    "forge": _forge,
    "fill": _fill,
    "remove": lambda: shutil.rmtree("results", ignore_errors=True),
    "lose_gpu": _lose_gpu,
    "cuda_error": _cuda_error,
    "turn_back": _turn_back,
    "raise_text": _raise_text,
    "die_text": _die_text,
    "overflow": lambda: np.full(4, 1e308),
}
EVERY = (*("good", "garbage", "wrong", "not_finite", "shape", "raise", "segfault", "exit", "eat", "memory", "hang"),)
PHASES = ("inputs", "build", "prepare", "first", "outputs", "check", "probe", "warm_up", "block", "again")


class Fault(Workload):
    suite, name = "faults", "fault"

    def __init__(self, *hows):
        self.hows = hows

    def works(self, preset, machine):
        return [self.work(how, "float64") for how in self.hows]

    def inputs(self, work, rng):
        return {"x": rng.standard_normal(4)}

    def costs(self, work):
        return Costs(flops=4.0, bytes=64.0, least_bytes=64.0)

    def error(self, work, host, answer):
        return check.relative_error(answer["out"], np.ones(4))

    kernels: ClassVar[Kernels] = {"array": {"default": lambda backend, work, host: Kernel(FAULTS[work.size])}}


def doubling(backend, work, host):
    """Return the kernel of Phased, on any library that speaks NumPy's dialect."""
    if log := os.environ.get("FAULT_LOG"):
        with Path(log).open("a", encoding="utf-8") as file:
            file.write(f"{work.size}\n")
    strike(work, "build")
    x = backend.from_host(host["x"])
    calls = Counter()

    def run():
        phase = "again" if calls["block"] else "warm_up" if calls else "first"
        if phase != "first" and not gc.isenabled():  # timed blocks run without garbage collection
            phase = "block"
        calls[phase] += 1
        strike(work, phase)
        return backend.xp.add(x, x)

    def probe():
        strike(work, "probe")
        return backend.xp.add(x, x)

    def outputs(result):
        strike(work, "outputs")
        return {"out": result}

    probes = {"time_to_first_token": Kernel(probe, inputs={"x": x})}
    return Kernel(run, inputs={"x": x}, outputs=outputs, probes=probes, prepare=lambda: strike(work, "prepare"))


def strike(work, phase):
    """Do what the size of a work asks for in this phase."""
    how, _, where = (os.environ.get("FAULT", "") if work.size == "struck" else work.size).partition(".")
    if where == phase:
        FAULTS[how]()


class Phased(Workload):
    """Doubles an array, and strikes in a chosen phase: size "segfault.block", or what FAULT says for "struck"."""

    suite, name = "faults", "phased"

    def __init__(self, *sizes):
        self.sizes = sizes

    def works(self, preset, machine):
        return [self.work(size, "float64") for size in self.sizes]

    def inputs(self, work, rng):
        strike(work, "inputs")
        return {"x": rng.standard_normal(64)}

    def costs(self, work):
        return Costs(flops=64.0, bytes=1024.0, least_bytes=1024.0)

    def error(self, work, host, answer):
        strike(work, "check")
        return check.relative_error(answer["out"], 2 * host["x"])

    kernels: ClassVar[Kernels] = {"array": {"default": doubling}}


@pytest.mark.workload(Fault(*EVERY))
def test_every(measure):
    measure()


@pytest.mark.workload(Fault("good"))
def test_good(measure):
    measure()


@pytest.mark.workload(Fault("good", "hang"))
def test_hang(measure):
    measure()


@pytest.mark.workload(Phased("calm.1", "struck", "calm.2", "calm.3"))
def test_struck(measure):
    measure()


@pytest.mark.workload(Phased("calm.1", "raise_text.build", "raise_text.block", "die_text.check"))
def test_tells(measure):
    measure()


@pytest.mark.workload(
    Phased("calm.1", *(f"{how}.{phase}" for how in ("raise", "segfault", "kill") for phase in PHASES))
)
def test_dies(measure):
    measure()


@pytest.mark.workload(
    Phased(
        "calm.1",
        *(f"{how}.{phase}" for how in ("exit", "memory", "hang", "forge") for phase in ("build", "check", "block")),
    )
)
def test_others(measure):
    measure()
