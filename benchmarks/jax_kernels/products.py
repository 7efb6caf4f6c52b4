"""Matrix products in JAX: `lax.dot_general`, jitted, into a new array at every call."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from functools import partial
from typing import Any

import jax
from jax import lax

from bench_core.workload import Backend, HostArrays, Kernel, Work

from ..products import RESULTS, SECOND, require_short_call
from .programs import Program


class Operands(MutableMapping[str, Any]):
    """A and B by name, in the shapes of the workload, though stored in its layout: "t" as the transpose.

    JAX has no views. A transpose of a stored array is made where it is asked for, which is not in a timed call.
    """

    def __init__(self, backend: Backend, work: Work, host: HostArrays) -> None:
        self._layouts = dict(zip("ab", work["layout"], strict=True))
        self.stored: dict[str, Any] = {}
        for name, dtype in (("a", work.dtype), ("b", SECOND.get(work.dtype, work.dtype))):
            self[name] = backend.from_host(host[name], dtype)

    def _turned(self, name: str, array: Any) -> Any:
        return array.swapaxes(-1, -2) if self._layouts[name] == "t" else array

    def __getitem__(self, name: str) -> Any:
        return self._turned(name, self.stored[name])

    def __setitem__(self, name: str, array: Any) -> None:
        self.stored[name] = self._turned(name, array)

    def __delitem__(self, name: str) -> None:
        del self.stored[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.stored)

    def __len__(self) -> int:
        return len(self.stored)


def product(implementation: str, backend: Backend, work: Work, host: HostArrays) -> Kernel:  # noqa: ARG001 - there is one
    """Return the kernel of a product: int8 has int32 results, float8 bfloat16 ones."""
    result = RESULTS.get(work.dtype, work.dtype)
    require_short_call(backend, work, host, lambda x, y: _multiply("nn", result, x, y).block_until_ready())
    operands = Operands(backend, work, host)
    program = Program(partial(_multiply, work["layout"], result), [*operands.stored.values()])
    return Kernel(lambda: program(*operands.stored.values()), inputs=operands, prepare=program.compile)


def _multiply(layout: str, result: str, a: jax.Array, b: jax.Array) -> jax.Array:
    """Return A B for stored operands; a leading axis of both is that of a batch."""
    batch = tuple(range(a.ndim - 2))
    inner = (a.ndim - (1 if layout[0] == "n" else 2), b.ndim - (2 if layout[1] == "n" else 1))
    dimensions = ((inner[:1], inner[1:]), (batch, batch))
    return lax.dot_general(a, b, dimensions, preferred_element_type=jax.numpy.dtype(result))
