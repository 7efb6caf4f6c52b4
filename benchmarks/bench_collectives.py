"""Collectives: what it costs several processes (ranks), each with a device of its own, to exchange arrays.

They run on targets of several devices alone: `--bench-backends=torch:cuda:x8`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import pytest

from bench_core import check
from bench_core.workload import Backend, Costs, HostArrays, Kernel, Kernels, Machine, Preset, Work, Workload

from .sizes import KIB, MIB, size_label

SIZES = {
    Preset.SMOKE: (4 * KIB, 64 * KIB),
    Preset.QUICK: (4 * KIB, 64 * KIB, MIB, 16 * MIB),
    Preset.STANDARD: tuple(4 * KIB << step for step in range(0, 17, 2)),
    Preset.FULL: tuple(4 * KIB << step for step in range(19)),
}
MODULUS = 4


def torch_all_reduce(backend: Backend, work: Work, host: HostArrays) -> Kernel:
    torch, group = backend.xp, backend.ranks.group
    x = backend.from_host(host["x"])
    out = torch.empty_like(x)

    def run() -> Any:
        out.copy_(x)
        torch.distributed.all_reduce(out, group=group)
        return out

    return Kernel(run, inputs={"x": x})


class AllReduce(Workload):
    suite, name = "collectives", "all_reduce"
    across_ranks = True
    kernels: ClassVar[Kernels] = {"torch": {"default": torch_all_reduce}}

    def works(self, preset: Preset, machine: Machine) -> Iterator[Work]:
        for size in SIZES[preset]:
            yield self.work(size_label(size), "float32", elements=size // 4, ranks=machine.ranks)

    def inputs(self, work: Work, rng: np.random.Generator) -> dict[str, np.ndarray]:
        return {"x": rng.integers(0, MODULUS, work["elements"]).astype(np.float32)}

    def on_rank(self, work: Work, host: HostArrays, rank: int) -> HostArrays:
        return {"x": (host["x"] + rank) % MODULUS, "base": host["x"]}

    def costs(self, work: Work) -> Costs:
        return Costs()

    def reference(self, work: Work, host: HostArrays) -> Any:
        return sum((host["base"] + rank) % MODULUS for rank in range(work.ranks))

    def error(self, work: Work, expected: Any, answer: HostArrays) -> float:
        return check.relative_error(answer["out"], expected)


@pytest.mark.workload(AllReduce())
def test_all_reduce(measure):
    measure()
