"""Workloads that misbehave in every way a kernel can, and one that does not."""

import os
import signal
import sys
import time
from typing import ClassVar

import numpy as np
import pytest

from bench_core import check
from bench_core.model import Costs
from bench_core.workload import Kernel, Kernels, Workload


def _segfault():
    os.kill(os.getpid(), signal.SIGSEGV)


def _eat():
    hoard = []
    while True:
        hoard.append(np.ones(1 << 27))  # 1 GiB a bite, touched, until the worker's own cap


def _garbage():
    print("\x1ebench-core {not json")
    os.write(1, b"\x1ebench-core garbage on the channel\n\xff\xfe")
    sys.stdout.flush()
    return np.ones(4)


def _raise():
    raise RuntimeError("the kernel\nfell over")


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
}


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


@pytest.mark.workload(Fault(*FAULTS))
def test_every(measure):
    measure()


@pytest.mark.workload(Fault("good"))
def test_good(measure):
    measure()


@pytest.mark.workload(Fault("good", "hang"))
def test_hang(measure):
    measure()
