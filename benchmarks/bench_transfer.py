"""Transfers between host and device, inside a device, and between two devices, by size.

A byte that crosses a bus is counted once, as in nvbandwidth. A copy inside a device is counted as in STREAM, once for
the read and once for the write. A fit over the sizes gives latency and bandwidth of the link
(bench_core/results/sweep_fit.py). For that, each transfer is timed separately, starting and ending with an idle device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import numpy as np
import pytest

from bench_core import check
from bench_core.caches import flagged
from bench_core.workload import (
    Backend,
    Case,
    Ceiling,
    Claim,
    Costs,
    HostArrays,
    Kernel,
    Kernels,
    Machine,
    Preset,
    Selective,
    Traffic,
    Traits,
    Unavailable,
    Unsupported,
    Work,
    Workload,
)

from .sizes import KIB, MIB, PERIOD, size_label

SIZES = {
    Preset.SMOKE: (64 * KIB,),
    Preset.QUICK: (4 * KIB, MIB, 256 * MIB),
    Preset.STANDARD: (4 * KIB, 64 * KIB, MIB, 16 * MIB, 256 * MIB),
    Preset.FULL: tuple(KIB << step for step in range(0, 21, 2)),  # 1 KiB to 1 GiB
}
HEADLINE = 256 * MIB


def torch_transfer(backend: Backend, work: Work, host: HostArrays) -> Kernel:
    """Return the kernel of `copy_` between tensors; it is asynchronous if the host memory is pinned."""
    torch = backend.xp
    source = torch.from_numpy(np.array(host["x"]))  # a copy, since the check overwrites it
    if work["memory"] == "pinned":
        source = source.pin_memory()
    landed = torch.zeros_like(source, pin_memory=work["memory"] == "pinned")
    there = backend.from_host(host.get("back", host["x"]))
    arrived = torch.zeros_like(there)
    up = partial(arrived.copy_, source, non_blocking=True)
    down = partial(landed.copy_, there, non_blocking=True)
    if work.workload == "h2d":
        return Kernel(up, inputs={"x": source})
    if work.workload == "d2h":
        return Kernel(down, inputs={"x": there})
    if work.workload == "h2d_d2h":
        return both_ways(_torch_both(backend, up, down), source, there, arrived, landed)
    target = arrived if work.workload == "d2d" else torch.zeros_like(there, device=peer(backend))
    return Kernel(partial(target.copy_, there), inputs={"x": there})


def both_ways(both: Callable[[], Any], source: Any, there: Any, arrived: Any, landed: Any) -> Kernel:
    """Return the kernel of two simultaneous transfers: `source` to `arrived` (up), `there` to `landed` (down)."""
    outputs = {"up": arrived, "down": landed}
    return Kernel(both, inputs={"x": source, "back": there}, outputs=lambda _: outputs)


def _torch_both(backend: Backend, up: Callable[[], Any], down: Callable[[], Any]) -> Callable[[], Any]:
    """Return a call that runs both transfers at once, each in its own stream, and returns the upload's result.

    Both streams wait for the current one, and the current one then waits for both: to the caller it is one operation.
    Raise Unsupported if torch has no streams on the device, as on mps.
    """
    module = getattr(backend.xp, backend.device.partition(":")[0])
    if not hasattr(module, "Stream"):
        raise Unsupported("no_streams", f"torch has no streams on {backend.device}: one copy waits for the other")
    streams = module.Stream(), module.Stream()

    def both() -> Any:
        now = module.current_stream()
        results = []
        for stream, copy in zip(streams, (up, down), strict=True):
            stream.wait_stream(now)
            with module.stream(stream):
                results.append(copy())
        for stream in streams:
            now.wait_stream(stream)
        return results[0]

    return both


def cupy_transfer(backend: Backend, work: Work, host: HostArrays) -> Kernel:
    """Return the kernel of `set` and `get` of arrays; they are asynchronous if the host memory is pinned."""
    import cupyx

    xp, n = backend.xp, work["elements"]
    source, landed = np.array(host["x"]), np.zeros(n, work.dtype)  # a copy, since the check overwrites it
    if work["memory"] == "pinned":
        source, landed = cupyx.empty_pinned(n, work.dtype), cupyx.zeros_pinned(n, work.dtype)
        source[...] = host["x"]
    there, arrived = backend.from_host(host.get("back", source)), xp.zeros(n, work.dtype)
    stream = xp.cuda.get_current_stream()

    def up(stream: Any = stream) -> Any:
        arrived.set(source, stream=stream)
        return arrived

    def down(stream: Any = stream) -> Any:
        return there.get(stream=stream, out=landed, blocking=False)

    if work.workload == "h2d":
        return Kernel(up, inputs={"x": source})
    if work.workload == "d2h":
        return Kernel(down, inputs={"x": there})
    if work.workload == "h2d_d2h":
        return both_ways(_cupy_both(xp, up, down), source, there, arrived, landed)
    target = arrived
    if work.workload == "p2p":
        with xp.cuda.Device(int(peer(backend).partition(":")[2])):
            target = xp.zeros(n, work.dtype)
    return Kernel(partial(xp.copyto, target, there), inputs={"x": there}, outputs=lambda _: {"out": target})


def _cupy_both(xp: Any, up: Callable[[Any], Any], down: Callable[[Any], Any]) -> Callable[[], Any]:
    streams = xp.cuda.Stream(non_blocking=True), xp.cuda.Stream(non_blocking=True)

    def both() -> Any:
        now = xp.cuda.get_current_stream()
        results = []
        for stream, copy in zip(streams, (up, down), strict=True):
            stream.wait_event(now.record())
            results.append(copy(stream))
        for stream in streams:
            now.wait_event(stream.record())
        return results[0]

    return both


def peer(backend: Backend) -> str:
    """Return the address of another device of the same kind; raise Unavailable if there is none."""
    kind = backend.device.partition(":")[0]
    others = [d for d in type(backend).devices() if d.startswith(f"{kind}:") and d != backend.device]
    if not others:
        raise Unavailable("no_peer", f"{backend.device} is the only {kind} device")
    return others[0]


class Transfer(Workload):
    """Base class: one direction of a transfer. `memory`: how the host memory is allocated, "pinned" or "pageable"."""

    suite = "transfer"
    traits = Traits(order=2, traffic=Traffic.LINK)
    kernels: ClassVar[Kernels] = {
        "cupy": {"default": cupy_transfer},
        "torch": {"default": torch_transfer},
    }
    crossings: ClassVar[int] = 1  # how many times a byte is counted
    names: ClassVar[tuple[str, ...]] = ("x",)  # the arrays that are transferred
    memories: ClassVar[tuple[str, ...]] = ("pinned", "pageable")

    def works(self, preset: Preset, machine: Machine) -> Iterator[Work]:  # noqa: ARG002 - same sizes on every machine
        for memory in self.memories:
            # quick measures all sizes for pinned, one-way transfers only, and the largest size for all others.
            swept = preset is not Preset.QUICK or (memory == "pinned" and self.crossings == 1)
            for size in SIZES[preset] if swept else SIZES[preset][-1:]:
                yield self.work(f"{size_label(size)}-{memory}", "float32", elements=size // 4, memory=memory)

    def is_headline(self, work: Work, implementation: str, machine: Machine) -> bool:  # noqa: ARG002 - in every implementation
        """Whether the preset headline has it: one-way, pinned, of 256 MiB."""
        return self.ceiling is not None and work["memory"] == "pinned" and 4 * work["elements"] == HEADLINE

    def inputs(self, work: Work, rng: np.random.Generator) -> dict[str, np.ndarray]:
        n = work["elements"]
        return {name: np.resize(rng.standard_normal(min(n, PERIOD), np.float32), n) for name in self.names}

    def costs(self, work: Work) -> Costs:
        """Return the bytes of the array, times `crossings`."""
        bytes_ = float(self.crossings * 4 * work["elements"])
        return Costs(bytes=bytes_, least_bytes=bytes_)

    def require_supported(self, backend: Backend, case: Case) -> None:
        """Raise Unsupported on a CPU: its arrays are in host memory already."""
        if backend.device == "cpu":
            raise Unsupported("no_transfer", f"{backend.name} on the CPU computes in host memory: nothing to transfer")
        super().require_supported(backend, case)

    def build(self, backend: Backend, case: Case, host: HostArrays) -> Kernel:
        """Return the kernel of one transfer; calls are timed one by one."""
        return replace(super().build(backend, case, host), singly=True)

    def footprint(self, work: Work) -> float:
        return float(3 * 4 * work["elements"])

    def tolerance(self, work: Work) -> check.Tolerance:  # noqa: ARG002 - a copy is exact
        return check.Tolerance(0.0)

    def error(self, work: Work, expected: HostArrays, answer: HostArrays) -> float:
        for name, array in answer.items():
            check.require_dtype(name, array, work.dtype)
        moved = {"out": "x", "up": "x", "down": "back"}
        return max(check.largest_error(array, expected[moved[name]]) for name, array in answer.items())


class HostToDevice(Transfer):
    """From host memory to device memory."""

    name = "h2d"
    traits = replace(Transfer.traits, claims=(Claim.MOVING_DATA,), short_for="host to device")
    ceiling = Ceiling.HOST_TO_DEVICE


class DeviceToHost(Transfer):
    """From device memory to host memory."""

    name = "d2h"
    traits = replace(Transfer.traits, claims=(Claim.MOVING_DATA,), short_for="device to host")
    ceiling = Ceiling.DEVICE_TO_HOST


class BothWays(Transfer):
    """Both directions at once, in two streams; the bytes of both are counted."""

    name = "h2d_d2h"
    crossings = 2
    names = ("x", "back")
    memories = ("pinned",)


class OnDevice(Transfer):
    """A copy inside device memory; read and write are counted."""

    name = "d2d"
    crossings = 2
    memories = ("device",)

    def build(self, backend: Backend, case: Case, host: HostArrays) -> Kernel:
        """Return the kernel of a copy, flagged if both arrays fit in a cache."""
        array = 4.0 * case.work["elements"]
        return flagged(super().build(backend, case, host), backend, 2 * array, array)


class Peer(Transfer):
    """From one device to another of the same kind."""

    name = "p2p"
    memories = ("device",)

    def require_supported(self, backend: Backend, case: Case) -> None:
        """Raise Unsupported if a process opens one device alone."""
        if backend.device != "cpu" and isinstance(backend, Selective):
            reason = f"a process of {backend.name} opens the device that it measures and no other to copy to"
            raise Unsupported("one_device", reason)
        super().require_supported(backend, case)


@pytest.mark.workload(HostToDevice())
def test_h2d(measure: Callable[[], Any]) -> None:
    measure()


@pytest.mark.workload(DeviceToHost())
def test_d2h(measure: Callable[[], Any]) -> None:
    measure()


@pytest.mark.workload(BothWays())
def test_h2d_d2h(measure: Callable[[], Any]) -> None:
    measure()


@pytest.mark.workload(OnDevice())
def test_d2d(measure: Callable[[], Any]) -> None:
    measure()


@pytest.mark.workload(Peer())
def test_p2p(measure: Callable[[], Any]) -> None:
    measure()
