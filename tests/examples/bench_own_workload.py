"""A workload of one's own: more than one size, costs by formula, a kernel that writes to memory that it keeps."""

from typing import ClassVar

import pytest

from bench_core import check
from bench_core.workload import Costs, Kernel, Traffic, Traits, Workload


def into_kept_memory(backend, work, host):
    x, out = backend.from_host(host["x"]), backend.from_host(host["x"])
    return Kernel(lambda: backend.xp.sqrt(x, out=out), inputs={"x": x})


class SquareRoot(Workload):
    """The square roots of a vector: one read and one write of every element."""

    suite, name = "own", "square_root"
    kernels: ClassVar = {"array": {"default": into_kept_memory}, "torch": {"default": into_kept_memory}}
    traits = Traits(headline="bandwidth", traffic=Traffic.MEMORY)

    def works(self, preset, machine):
        return [self.work(str(n), "float32", n=n) for n in (10_000, 100_000)]

    def inputs(self, work, rng):
        return {"x": rng.random(work["n"], dtype="float32")}

    def costs(self, work):
        return Costs(flops=work["n"], bytes=8.0 * work["n"], least_bytes=8.0 * work["n"])

    def error(self, work, expected, answer):
        return check.relative_error(answer["out"], expected["x"].astype("float64") ** 0.5)


@pytest.mark.workload(SquareRoot())
def test_square_root(measure):
    measure()
