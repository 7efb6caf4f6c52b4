"""Latency: the fixed cost of a call, and the latency of memory.

Every call adds two arrays of one element. On a CPU, its time is the overhead of the library. On an accelerator,
bench_core queues many calls before it waits, so `launch` gives the time between launches.

`chase` measures the latency of memory: each load needs the result of the one before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import numpy as np
import pytest

from bench_core import check
from bench_core.workload import (
    Backend,
    Builder,
    Case,
    Ceiling,
    Costs,
    Futures,
    HostArrays,
    Kernel,
    Kernels,
    Limit,
    Machine,
    Preset,
    Traits,
    Unsupported,
    Work,
    Workload,
)

from .sizes import KIB, MIB, size_label

GRAPH_SIZES = (1, 64)  # kernels in a graph
FOOTPRINTS = {
    Preset.SMOKE: (32 * KIB,),
    Preset.QUICK: (32 * KIB,),  # to draw a random cycle through a large memory takes seconds
    Preset.STANDARD: (32 * KIB, 512 * KIB, 8 * MIB, 64 * MIB),
    Preset.FULL: tuple(16 * KIB << step for step in range(0, 15, 2)),  # 16 KiB to 256 MiB
}
LOADS = 10_000  # loads per call
NOTHING: Callable[[], None] = [].clear  # a call of a C function, as calls of the libraries are


def array_launch(backend: Backend, work: Work, host: HostArrays) -> Kernel:  # noqa: ARG001 - signature of a builder
    """Return the kernel of `add` into a preallocated array."""
    xp = backend.xp
    a, b = backend.from_host(host["a"]), backend.from_host(host["b"])
    return Kernel(partial(xp.add, a, b, xp.empty_like(a)), inputs={"a": a, "b": b})


def torch_launch(backend: Backend, work: Work, host: HostArrays) -> Kernel:  # noqa: ARG001 - signature of a builder
    """Return the kernel of `add` into a preallocated tensor."""
    torch = backend.xp
    a, b = backend.from_host(host["a"]), backend.from_host(host["b"])
    return Kernel(partial(torch.add, a, b, out=torch.empty_like(a)), inputs={"a": a, "b": b})


def empty(backend: Backend, work: Work, host: HostArrays) -> Kernel:  # noqa: ARG001 - signature of a builder
    """Return the kernel that calls a function that does nothing."""
    return Kernel(NOTHING)


def waiting(launch: Builder) -> Builder:
    """Return a builder whose kernel makes the call of `launch` and then synchronizes."""

    def build(backend: Backend, work: Work, host: HostArrays) -> Kernel:
        kernel = launch(backend, work, host)
        call = kernel.run

        def run() -> Any:
            result = call()
            backend.synchronize()
            return result

        return replace(kernel, run=run)

    return build


def torch_graph(backend: Backend, work: Work, host: HostArrays) -> Kernel:
    """Return the kernel that replays a torch `CUDAGraph` of many launches, each adding b to the previous result."""
    torch = backend.xp
    a, b = backend.from_host(host["a"]), backend.from_host(host["b"])
    c = torch.empty_like(a)
    torch.add(a, b, out=c)  # load the kernel before the capture
    backend.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        _chain(partial(torch.add, a, b, out=c), partial(torch.add, c, b, out=c), work["kernels"])
    return Kernel(graph.replay, inputs={"a": a, "b": b}, outputs=lambda _: {"out": c})


def cupy_graph(backend: Backend, work: Work, host: HostArrays) -> Kernel:
    """Return the kernel that replays a CuPy graph of many launches, each adding b to the previous result."""
    xp = backend.xp
    a, b = backend.from_host(host["a"]), backend.from_host(host["b"])
    c = xp.empty_like(a)
    xp.add(a, b, c)
    backend.synchronize()
    stream = xp.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        _chain(partial(xp.add, a, b, c), partial(xp.add, c, b, c), work["kernels"])
        graph = stream.end_capture()
    return Kernel(graph.launch, inputs={"a": a, "b": b}, outputs=lambda _: {"out": c})


def _chain(first: Callable[[], Any], further: Callable[[], Any], kernels: int) -> None:
    """Launch `kernels` kernels, each of which needs the previous one: the result shows how many ran."""
    first()
    for _ in range(kernels - 1):
        further()


def numpy_chase(backend: Backend, work: Work, host: HostArrays) -> Kernel:  # noqa: ARG001 - signature of a builder
    """Return the kernel that follows links in a Python loop; each call continues where the previous one stopped."""
    array = backend.from_host(host["links"])
    links = memoryview(array)
    loads = range(LOADS)
    at = 0

    def run() -> int:
        nonlocal at
        place = at
        for _ in loads:
            place = links[place]
        at = place
        return place

    def restart() -> None:
        nonlocal at
        at = 0

    def outputs(end: int) -> dict[str, np.ndarray]:
        return {"out": np.asarray(end)}

    return Kernel(run, inputs={"links": array}, outputs=outputs, restart=restart, library="CPython")


class Latency(Workload):
    """Base class: an operation on arrays of one element."""

    suite = "latency"
    traits = Traits(order=3)

    def works(self, preset: Preset, machine: Machine) -> Iterator[Work]:  # noqa: ARG002 - same sizes on every machine
        yield self.work("1", "float32")

    def is_headline(self, work: Work, implementation: str, machine: Machine) -> bool:  # noqa: ARG002 - there is one work
        return self.ceiling is not None

    def inputs(self, work: Work, rng: np.random.Generator) -> dict[str, np.ndarray]:  # noqa: ARG002 - one size
        return {name: rng.standard_normal(1, np.float32) for name in "ab"}

    def costs(self, work: Work) -> Costs:  # noqa: ARG002 - no costs
        """Return no costs, so that no rate is computed."""
        return Costs()

    def tolerance(self, work: Work) -> check.Tolerance:
        """Return the bound for one rounding (2^-24) per launch, if it is wider than the default bound."""
        bounds = super().tolerance(work)
        return check.Tolerance(max(bounds.high, _launches(work) * 2.0**-24))

    def error(self, work: Work, expected: HostArrays, answer: HostArrays) -> float:
        """Return |out - (a + k b)| / (|a| + k |b|), where k is the number of launches.

        The first launch computes a + b, each further one adds b. The denominator is the scale of the rounding; the sum
        itself can be near zero.
        """
        check.require_dtype("out", answer["out"], work.dtype)
        check.require_shape(answer["out"], expected["a"].shape)
        launches = _launches(work)
        a, b = (expected[name].astype(np.float64) for name in "ab")
        return float(np.max(np.abs(answer["out"] - (a + launches * b)) / (np.abs(a) + launches * np.abs(b))))


def _launches(work: Work) -> int:
    return int(dict(work.params).get("kernels", 1))


class Queued(Latency):
    """Base class of work that an accelerator queues, so that the call alone does not tell when it is done."""

    def require_supported(self, backend: Backend, case: Case) -> None:
        """Raise Unsupported on a CPU, which has no queue: a call returns when its work is done."""
        if backend.device == "cpu":
            raise Unsupported(
                "no_queue", f"{backend.name} on the CPU has no queue: a call returns when its work is done"
            )
        super().require_supported(backend, case)


class EmptyCall(Latency):
    """No operation: the cost of the timing loop. It is part of every other time and never subtracted."""

    name = "empty_call"
    idle = True
    kernels: ClassVar[Kernels] = {"array": {"default": empty}, "torch": {"default": empty}}


class Launch(Latency):
    """Calls queued one after another, with one wait at the end."""

    name = "launch"
    traits = replace(Latency.traits, measures=Limit.LATENCY)
    ceiling = Ceiling.LAUNCH
    kernels: ClassVar[Kernels] = {"array": {"default": array_launch}, "torch": {"default": torch_launch}}

    def require_supported(self, backend: Backend, case: Case) -> None:
        """Raise Unsupported on an accelerator if the library's results are futures: no two calls wait in its queue."""
        if backend.device != "cpu" and isinstance(backend, Futures):
            raise Unsupported("awaited", f"every result of {backend.name} is awaited: see {LaunchWait.name}")
        super().require_supported(backend, case)


class LaunchWait(Queued):
    """One call and a wait for its result: the round trip to the device."""

    name = "launch_synchronize"
    kernels: ClassVar[Kernels] = {
        "array": {"default": waiting(array_launch)},
        "torch": {"default": waiting(torch_launch)},
    }


class GraphReplay(Queued):
    """A graph of kernels, launched with one call; each kernel needs the previous one."""

    name = "graph_replay"
    version = 2  # in version 1 all kernels computed the same, so the result did not show how many ran
    kernels: ClassVar[Kernels] = {
        "cupy": {"default": cupy_graph},
        "torch:cuda": {"default": torch_graph},
    }

    def require_supported(self, backend: Backend, case: Case) -> None:
        """Raise Unsupported on a CPU, and if the library has no graphs on its device."""
        if backend.device != "cpu" and not self._builders_on(backend):
            raise Unsupported("no_graphs", f"{backend.name} has no graphs on {backend.device}")
        super().require_supported(backend, case)

    def works(self, preset: Preset, machine: Machine) -> Iterator[Work]:  # noqa: ARG002 - same sizes on every machine
        for kernels in GRAPH_SIZES:
            yield self.work(f"{kernels}-kernels", "float32", kernels=kernels)


class Chase(Workload):
    """Pointer chasing: follow one random cycle through an array. No load can start before the previous one has ended.

    NumPy has no such operation, so a Python loop does it. Every step contains the time of the interpreter. The row of
    the smallest footprint, which fits in the L1 cache, shows how long that is.
    """

    suite, name = "latency", "chase"
    traits = Latency.traits
    kernels: ClassVar[Kernels] = {"numpy:cpu": {"default": numpy_chase}}

    def works(self, preset: Preset, machine: Machine) -> Iterator[Work]:  # noqa: ARG002 - same sizes on every machine
        for size in FOOTPRINTS[preset]:
            yield self.work(size_label(size), "int64", links=size // 8, loads=LOADS)

    def inputs(self, work: Work, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Return links (int64) that form one random cycle through all elements: links[i] is the successor of i."""
        order = rng.permutation(work["links"])
        links = np.empty_like(order)
        links[order[:-1]] = order[1:]
        links[order[-1]] = order[0]
        return {"links": links}

    def redraw(self, work: Work, host: HostArrays, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Return the cycle with all elements shifted by a random number: as random, and made in a tenth of the time."""
        links, n = host["links"], work["links"]
        by = int(rng.integers(1, n))
        return {"links": (np.roll(links, by) + by) % n}

    def reference(self, work: Work, host: HostArrays) -> np.ndarray:
        """Return the element that `loads` loads from element 0 lead to."""
        links, place = memoryview(host["links"]), 0
        for _ in range(work["loads"]):
            place = links[place]
        return np.asarray(place)

    def costs(self, work: Work) -> Costs:
        return Costs(amounts={"loads": float(work["loads"])})

    def footprint(self, work: Work) -> float:
        return float(8 * work["links"])

    def tolerance(self, work: Work) -> check.Tolerance:  # noqa: ARG002 - a loaded value is exact
        return check.Tolerance(0.0)

    def error(self, work: Work, expected: np.ndarray, answer: HostArrays) -> float:  # noqa: ARG002 - not needed
        return check.relative_error(answer["out"], expected)


@pytest.mark.workload(EmptyCall())
def test_empty_call(measure: Callable[[], Any]) -> None:
    measure()


@pytest.mark.workload(Launch())
def test_launch(measure: Callable[[], Any]) -> None:
    measure()


@pytest.mark.workload(LaunchWait())
def test_launch_synchronize(measure: Callable[[], Any]) -> None:
    measure()


@pytest.mark.workload(GraphReplay())
def test_graph_replay(measure: Callable[[], Any]) -> None:
    measure()


@pytest.mark.workload(Chase())
def test_chase(measure: Callable[[], Any]) -> None:
    measure()
