"""The cost of a call of JAX: a program that adds two arrays of one element, and the wait for its result."""

from __future__ import annotations

import jax.numpy as jnp

from bench_core.workload import Backend, HostArrays, Kernel, Work

from ..bench_latency import empty
from .programs import computing


def empty_call(implementation: str, backend: Backend, work: Work, host: HostArrays) -> Kernel:  # noqa: ARG001 - there is one
    """Return the kernel that calls a function that does nothing."""
    return empty(backend, work, host)


def addition(implementation: str, backend: Backend, work: Work, host: HostArrays) -> Kernel:  # noqa: ARG001 - a builder's
    """Return the kernel of `a + b`, whose result is awaited, as all results of JAX are."""
    inputs = {name: backend.from_host(host[name]) for name in "ab"}
    if implementation == "eager":
        return Kernel(lambda: jnp.add(*inputs.values()), inputs=inputs)
    return computing(jnp.add, inputs)
