"""Transfers in JAX: `device_put` between the memories of a device, `device_get` into memory of the host.

An array of JAX lies in one of the memories that its device addresses: its own, and pinned memory of the host. Each
call makes a new array in the other one. None is free: `device_put` to the memory where an array already lies would do
nothing, and an array keeps the host copy that `device_get` once made of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bench_core.workload import Backend, HostArrays, Kernel, Unsupported, Work

from .programs import Program, overwriting
from .streams import INTO

PINNED = "pinned_host"


def host_to_device(implementation: str, backend: Backend, work: Work, host: HostArrays) -> Kernel:  # noqa: ARG001 - there is one
    """Return the kernel of `device_put` of an array in pinned memory, or of one of NumPy."""
    device = device_memory(backend)
    pinned = work["memory"] == "pinned"
    inputs = {"x": jax.device_put(host["x"], pinned_memory(backend)) if pinned else np.array(host["x"])}
    return Kernel(lambda: jax.device_put(inputs["x"], device), inputs=inputs)


def device_to_host(implementation: str, backend: Backend, work: Work, host: HostArrays) -> Kernel:  # noqa: ARG001 - there is one
    """Return the kernel of `device_put` into pinned memory, or of `device_get` into new memory of NumPy."""
    inputs = {"x": backend.from_host(host["x"])}
    if work["memory"] == "pinned":
        pinned = pinned_memory(backend)
        return Kernel(lambda: jax.device_put(inputs["x"], pinned), inputs=inputs, outputs=lambda made: landed(out=made))
    return Kernel(lambda: jax.device_get(without_host_copy(inputs["x"])), inputs=inputs)


def both_ways(implementation: str, backend: Backend, work: Work, host: HostArrays) -> Kernel:  # noqa: ARG001 - there is one
    """Return the kernel of both directions: each is begun before either is awaited."""
    device, pinned = device_memory(backend), pinned_memory(backend)
    inputs = {"x": jax.device_put(host["x"], pinned), "back": backend.from_host(host["back"])}

    def run() -> dict[str, jax.Array]:
        return {"up": jax.device_put(inputs["x"], device), "down": jax.device_put(inputs["back"], pinned)}

    return Kernel(run, inputs=inputs, outputs=lambda made: {"up": made["up"], **landed(down=made["down"])})


def on_device(implementation: str, backend: Backend, work: Work, host: HostArrays) -> Kernel:  # noqa: ARG001 - there is one
    """Return the kernel of a jitted copy into the array of the call before, as in streams.py."""
    there = backend.from_host(host["x"])
    target = jnp.zeros_like(there)
    return overwriting(Program(INTO["copy"], [target, there], donated=[0]), target, {"x": there})


def device_memory(backend: Backend) -> jax.sharding.Sharding:
    """Return the sharding of the arrays of a backend: in the memory of its device."""
    sharding: jax.sharding.Sharding = backend.from_host(np.zeros(())).sharding
    return sharding


def pinned_memory(backend: Backend) -> jax.sharding.Sharding:
    """Return the sharding in pinned memory of the host; raise Unsupported if the device addresses none."""
    sharding = device_memory(backend)
    (device,) = sharding.device_set
    if PINNED not in {memory.kind for memory in device.addressable_memories()}:
        raise Unsupported("no_pinned_memory", f"jax addresses no pinned host memory on {backend.device}")
    return sharding.with_memory_kind(PINNED)


def without_host_copy(array: jax.Array) -> jax.Array:
    """Return another array of the same data, on the device: it has no host copy yet, and is made without moving any."""
    return jax.make_array_from_single_device_arrays(array.shape, array.sharding, [array])


def landed(**arrays: jax.Array) -> Mapping[str, Any]:
    """Return arrays in pinned memory as NumPy's: views, in which XLA need not compute to read a piece."""
    return {name: np.asarray(array) for name, array in arrays.items()}
