"""Latency: what a call costs before it computes anything.

Every call adds two arrays of one element. On a CPU that is the library's own overhead; on an accelerator the
harness queues many calls before it waits, so `launch` is the rate of launching.

`chase` is the latency of memory: loads of which each needs the one before it.
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
    Ceiling,
    Costs,
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
from benchmarks.sizes import KIB, MIB, size_label

GRAPH_SIZES = (1, 64)  # kernels in a graph
FOOTPRINTS = {
    Preset.SMOKE: (32 * KIB,),
    Preset.QUICK: (32 * KIB, 64 * MIB),
    Preset.STANDARD: (32 * KIB, 512 * KIB, 8 * MIB, 64 * MIB),
    Preset.FULL: tuple(16 * KIB << step for step in range(0, 15, 2)),  # 16 KiB to 256 MiB
}
LOADS = 10_000  # of a call
NOTHING: Callable[[], None] = [].clear  # a call into C, as those of the libraries are


def array_launch(backend: Backend, work: Work, host: HostArrays) -> Kernel:  # noqa: ARG001 - a builder
    """`add` into a given array."""
    xp = backend.xp
    a, b = backend.from_host(host["a"]), backend.from_host(host["b"])
    return Kernel(partial(xp.add, a, b, xp.empty_like(a)), inputs={"a": a, "b": b})


def torch_launch(backend: Backend, work: Work, host: HostArrays) -> Kernel:  # noqa: ARG001 - a builder
    """`add` into a given tensor."""
    torch = backend.xp
    a, b = backend.from_host(host["a"]), backend.from_host(host["b"])
    return Kernel(partial(torch.add, a, b, out=torch.empty_like(a)), inputs={"a": a, "b": b})


def empty(backend: Backend, work: Work, host: HostArrays) -> Kernel:  # noqa: ARG001 - a builder
    """Call a function that does nothing."""
    return Kernel(NOTHING)


def waiting(launch: Builder) -> Builder:
    """Return a builder whose kernel makes the call of `launch` and waits for its result."""

    def build(backend: Backend, work: Work, host: HostArrays) -> Kernel:
        require_queue(backend)
        kernel = launch(backend, work, host)
        call = kernel.run

        def run() -> Any:
            result = call()
            backend.synchronize()
            return result

        return replace(kernel, run=run)

    return build


def torch_graph(backend: Backend, work: Work, host: HostArrays) -> Kernel:
    """Replay a `CUDAGraph` of many launches, each of which adds b to what the one before it left."""
    require_queue(backend)
    torch = backend.xp
    if not backend.device.startswith("cuda"):
        raise Unsupported("no_graphs", f"torch has no graphs on {backend.device}")
    a, b = backend.from_host(host["a"]), backend.from_host(host["b"])
    c = torch.empty_like(a)
    torch.add(a, b, out=c)  # loaded before it is captured
    backend.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        _chain(partial(torch.add, a, b, out=c), partial(torch.add, c, b, out=c), work["kernels"])
    return Kernel(graph.replay, inputs={"a": a, "b": b}, outputs=lambda _: {"out": c})


def cupy_graph(backend: Backend, work: Work, host: HostArrays) -> Kernel:
    """Replay what a stream captured of the same launches."""
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
    """Launch so many kernels of which each needs the one before: the result tells how many have run."""
    first()
    for _ in range(kernels - 1):
        further()


def no_graph(backend: Backend, work: Work, host: HostArrays) -> Kernel:  # noqa: ARG001 - a builder
    """Say why there is nothing to measure."""
    require_queue(backend)
    raise Unsupported("no_graphs", f"{backend.name} has no graphs here")


def numpy_chase(backend: Backend, work: Work, host: HostArrays) -> Kernel:  # noqa: ARG001 - a builder
    """Follow the links in the interpreter. Each call goes on where the last one stopped, so that all are followed."""
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


def require_queue(backend: Backend) -> None:
    """Raise Unsupported on a CPU, where a call returns when its work is done."""
    if backend.device == "cpu":
        raise Unsupported("no_queue", f"{backend.name} on the CPU has no queue: a call returns when its work is done")


class Latency(Workload):
    """An operation on one element."""

    suite = "latency"

    def works(self, preset: Preset, machine: Machine) -> Iterator[Work]:  # noqa: ARG002 - the same everywhere
        yield self.work("1", "float32")

    def is_headline(self, work: Work, implementation: str, machine: Machine) -> bool:  # noqa: ARG002 - there is one work
        return self.ceiling is not None

    def inputs(self, work: Work, rng: np.random.Generator) -> dict[str, np.ndarray]:  # noqa: ARG002 - one size
        return {name: rng.standard_normal(1, np.float32) for name in "ab"}

    def costs(self, work: Work) -> Costs:  # noqa: ARG002 - none
        """Nothing that would make a rate."""
        return Costs()

    def tolerance(self, work: Work) -> check.Tolerance:
        """Return the bound of as many roundings as there are launches, where it is wider than that of one."""
        bounds = super().tolerance(work)
        return check.Tolerance(max(bounds.high, _launches(work) * 2.0**-24))

    def error(self, work: Work, expected: HostArrays, answer: HostArrays) -> float:
        """Compare with a + k b, k the launches of which each adds b to what the one before it left.

        The scale is |a| + k |b|, that of the rounding: the sum itself may be near zero.
        """
        check.require_dtype("out", answer["out"], work.dtype)
        check.require_shape(answer["out"], expected["a"].shape)
        launches = _launches(work)
        a, b = (expected[name].astype(np.float64) for name in "ab")
        return float(np.max(np.abs(answer["out"] - (a + launches * b)) / (np.abs(a) + launches * np.abs(b))))


def _launches(work: Work) -> int:
    return int(dict(work.params).get("kernels", 1))


class EmptyCall(Latency):
    """No operation: the cost of the timing loop itself, which is in every other time and never subtracted."""

    name = "empty_call"
    idle = True
    kernels: ClassVar[Kernels] = {"array": {"default": empty}, "torch": {"default": empty}}


class Launch(Latency):
    """One call after another, waited for at the end."""

    name = "launch"
    traits = Traits(measures=Limit.LATENCY)
    ceiling = Ceiling.LAUNCH
    kernels: ClassVar[Kernels] = {"array": {"default": array_launch}, "torch": {"default": torch_launch}}


class LaunchWait(Latency):
    """One call, waited for: the round trip to the device."""

    name = "launch_synchronize"
    kernels: ClassVar[Kernels] = {
        "array": {"default": waiting(array_launch)},
        "torch": {"default": waiting(torch_launch)},
    }


class GraphReplay(Latency):
    """A graph of kernels, launched as one; each needs the one before it."""

    name = "graph_replay"
    version = 2  # its kernels were alike, so that one could not be told from 64
    kernels: ClassVar[Kernels] = {
        "array": {"default": no_graph},
        "cupy": {"default": cupy_graph},
        "torch": {"default": torch_graph},
    }

    def works(self, preset: Preset, machine: Machine) -> Iterator[Work]:  # noqa: ARG002 - the same everywhere
        for kernels in GRAPH_SIZES:
            yield self.work(f"{kernels}-kernels", "float32", kernels=kernels)


class Chase(Workload):
    """A walk along one random cycle through an array: no load can begin before the one before it has ended.

    There is no such call in NumPy, so the interpreter walks. Its own time is in every step: the row of the
    smallest footprint, which the nearest cache holds, shows how much that is.
    """

    suite, name = "latency", "chase"
    kernels: ClassVar[Kernels] = {"numpy:cpu": {"default": numpy_chase}}

    def works(self, preset: Preset, machine: Machine) -> Iterator[Work]:  # noqa: ARG002 - the same everywhere
        for size in FOOTPRINTS[preset]:
            yield self.work(size_label(size), "int64", links=size // 8, loads=LOADS)

    def inputs(self, work: Work, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Return the links of one cycle through all elements."""
        order = np.concatenate([[0], 1 + rng.permutation(work["links"] - 1)])
        links = np.empty_like(order)
        links[order] = np.roll(order, -1)
        return {"links": links}

    def reference(self, work: Work, host: HostArrays) -> np.ndarray:
        """Return where so many loads from element 0 lead."""
        links, place = memoryview(host["links"]), 0
        for _ in range(work["loads"]):
            place = links[place]
        return np.asarray(place)

    def costs(self, work: Work) -> Costs:
        return Costs(amounts={"loads": float(work["loads"])})

    def footprint(self, work: Work) -> float:
        return float(8 * work["links"])

    def tolerance(self, work: Work) -> check.Tolerance:  # noqa: ARG002 - there is one right element
        return check.Tolerance(0.0)

    def error(self, work: Work, expected: np.ndarray, answer: HostArrays) -> float:  # noqa: ARG002 - the end says it all
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
