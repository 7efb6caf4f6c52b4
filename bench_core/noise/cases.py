"""The built-in cases of `bench-core noise`: arithmetic, memory and call overhead in NumPy, a second each.

This is an ordinary benchmark file. It is part of the package, so that the command works outside a clone.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import numpy as np
import pytest

from bench_core import check
from bench_core.workload import (
    Backend,
    Builder,
    Costs,
    HostArrays,
    Kernel,
    Kernels,
    Limit,
    Machine,
    Preset,
    Traffic,
    Traits,
    Work,
    Workload,
)

Measure = Callable[[], object]


def _binary(name: str) -> Builder:
    """Return a builder for the function `name` of the array library: two inputs, the result written to `out`."""

    def build(backend: Backend, work: Work, host: HostArrays) -> Kernel:
        a, b = (backend.from_host(host[key], work.dtype) for key in "ab")
        out = backend.xp.empty_like(a)
        function = getattr(backend.xp, name)
        return Kernel(lambda: function(a, b, out=out), inputs={"a": a, "b": b})

    return build


class _Pairwise(Workload):
    """A float32 function of two square matrices (shape 2) or two vectors (shape 1) with one result of equal shape."""

    suite = "aa"  # part of the case_id, so it must not change although the command was renamed
    sizes: ClassVar[tuple[int, ...]]
    shape: ClassVar[int]

    def works(self, preset: Preset, machine: Machine) -> Iterable[Work]:  # noqa: ARG002 - the same everywhere
        return [self.work(str(n), "float32", n=n) for n in self.sizes]

    def inputs(self, work: Work, rng: np.random.Generator) -> dict[str, np.ndarray]:
        shape = (work["n"],) * self.shape
        return {key: rng.standard_normal(shape, dtype=np.float32) for key in "ab"}

    def error(self, work: Work, host: HostArrays, answer: HostArrays) -> float:  # noqa: ARG002 - what to compute is the class
        return check.relative_error(answer["out"], self.exact(*(host[key].astype(np.float64) for key in "ab")))

    @abstractmethod
    def exact(self, a: Any, b: Any) -> Any:
        """Return the answer in float64."""


class Multiply(_Pairwise):
    """C = A B of 384 x 384 matrices: arithmetic."""

    name = "multiply"
    sizes = (384,)
    traits = Traits(measures=Limit.COMPUTE)
    shape = 2
    kernels: ClassVar[Kernels] = {"array": {"default": _binary("matmul")}}

    def costs(self, work: Work) -> Costs:
        """Return 2 n^3 FLOPs."""
        return Costs(2.0 * work["n"] ** 3, least_bytes=12.0 * work["n"] ** 2)

    def exact(self, a: Any, b: Any) -> Any:
        return a @ b


class Add(_Pairwise):
    """C = A + B of 8 million numbers (memory) and of 1,000 (the overhead of a call)."""

    name = "add"
    sizes = (1_000, 8_000_000)
    traits = Traits(headline="bandwidth", traffic=Traffic.MEMORY)
    shape = 1
    kernels: ClassVar[Kernels] = {"array": {"default": _binary("add")}}

    def costs(self, work: Work) -> Costs:
        """Return one FLOP a number, and three arrays moved as STREAM counts them."""
        return Costs(float(work["n"]), 12.0 * work["n"], 12.0 * work["n"])

    def exact(self, a: Any, b: Any) -> Any:
        return a + b


@pytest.mark.workload(Multiply())
def test_multiply(measure: Measure) -> None:
    """Measure arithmetic."""
    measure()


@pytest.mark.workload(Add())
def test_add(measure: Measure) -> None:
    """Measure memory and call overhead."""
    measure()
