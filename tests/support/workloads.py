"""The smallest workloads, for tests of what is done with any workload."""

from typing import ClassVar

import numpy as np

from bench_core import check
from bench_core.records import Costs
from bench_core.workload import Kernel, Kernels, Workload

# A file of benchmarks with one small case on every backend.
SMALL_SUITE = """
import pytest
from bench_core.noise.cases import Add

class Small(Add):
    sizes = (1000,)

@pytest.mark.workload(Small())
def test_small(measure):
    measure()
"""


class Double(Workload):
    """y = 2 x, in whatever way the test wants it done."""

    suite, name = "tests", "double"
    kernels: ClassVar[Kernels] = {"array": {"default": lambda backend, work, host: doubling(backend, host)}}

    def works(self, preset, machine):
        return [self.work("1024", "float64")]

    def inputs(self, work, rng):
        return {"x": rng.standard_normal(1024)}

    def costs(self, work):
        return Costs(flops=1024.0, bytes=16384.0, least_bytes=16384.0)

    def error(self, work, host, answer):
        return check.relative_error(answer["out"], 2 * host["x"])


def doubling(backend, host, **special):
    """Return a kernel that writes 2 x to the same place every time."""
    x = backend.from_host(host["x"])
    out = np.empty_like(x)
    return Kernel(lambda: np.multiply(x, 2, out=out), inputs={"x": x}, **special)


def built_as(word):
    """Return what builds a kernel that does nothing but return a word, by which it is told from others."""
    return lambda backend, work, host: Kernel(lambda: word, library=word)


class Sum(Workload):
    """Sums of 8 and of 9 numbers, by two implementations that are told apart by what they return."""

    suite, name, version = "tests", "sum", 3
    kernels: ClassVar[Kernels] = {"array": {"default": built_as("array"), "tuned": built_as("tuned")}}
    counts = (None,)

    def works(self, preset, machine):
        return [self.work("8", "float64", n=8), self.work("9", "float64", n=9)]

    def inputs(self, work, rng):
        return {"x": rng.standard_normal(work["n"])}

    def costs(self, work):
        return Costs(flops=float(work["n"]), least_bytes=8.0 * work["n"])

    def error(self, work, host, answer):
        return check.relative_error(answer["out"], host["x"].sum(keepdims=True))

    def threads(self, work, preset):
        return self.counts
