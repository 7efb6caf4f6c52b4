"""Memory bandwidth in JAX: each operation is one jitted program, which XLA fuses into one loop over the arrays.

b + s c reads b and c and writes a in one pass, as do the others; a sum and a dot product keep no array between. But a
scatter first converts its index to 32 bits, in an array between: 40 bytes an element move in float64, where 24 are
counted. The result is a new array. So that no call has to get its memory from the system, the array of the call before
is donated: XLA writes into it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from bench_core.workload import Backend, HostArrays, Kernel, Work

from ..bench_memory import SCALAR, device_arrays, flagged_by_cache, read_arrays
from .programs import Program, computing, overwriting

Array = jax.Array

# What an operation computes of `a`, whose memory the result takes over, and of its inputs b, c, index.
INTO: Mapping[str, Callable[..., Array]] = {
    "copy": lambda _a, b: jnp.copy(b),
    "scale": lambda _a, b: SCALAR * b,
    "add": lambda _a, b, c: b + c,
    "triad": lambda _a, b, c: b + SCALAR * c,
    "fill": lambda a: jnp.full_like(a, SCALAR),
    "gather": lambda _a, b, index: b.at[index].get(
        mode="promise_in_bounds", unique_indices=True, wrap_negative_indices=False
    ),
    "scatter": lambda a, b, index: a.at[index].set(
        b, mode="promise_in_bounds", unique_indices=True, wrap_negative_indices=False
    ),
}
REDUCED: Mapping[str, Callable[..., Array]] = {"dot": jnp.dot, "sum": jnp.sum}


def stream(implementation: str, backend: Backend, work: Work, host: HostArrays) -> Kernel:  # noqa: ARG001 - there is one
    """Return the kernel of an operation, flagged as those of the other backends."""
    arrays = device_arrays(backend, work, host)
    inputs = read_arrays(work, arrays)
    if work.workload in REDUCED:
        kernel = computing(REDUCED[work.workload], inputs)
    else:
        kernel = overwriting(Program(INTO[work.workload], [arrays.a, *inputs.values()], donated=[0]), arrays.a, inputs)
    return flagged_by_cache(kernel, backend, work)
