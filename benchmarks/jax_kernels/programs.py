"""A function of arrays, compiled ahead of its calls, and the kernels of such functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from bench_core.workload import Kernel

from ..nn.batches import Batch


class Program:
    """A pure function, compiled by XLA for arguments of certain shapes and dtypes: other arguments are an error.

    like: arguments, of which only shapes and dtypes are read. donated: the numbers of those whose memory the results
    may take over; the caller must not use them afterwards. A call before `compile` compiles first.
    """

    def __init__(self, function: Callable[..., Any], like: Sequence[Any], donated: Sequence[int] = ()) -> None:
        self.function, self.donated = function, tuple(donated)
        self.like = jax.tree.map(lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype), tuple(like))
        self._compiled: Any = None

    def compile(self) -> None:
        """Trace the function, and let XLA compile it, once."""
        if self._compiled is not None:
            return
        # A function of its own: of one that is known, with these shapes, JAX would return the program that it has.
        function = partial(self.function)
        # `keep_unused`: an argument that is donated for its memory alone is otherwise dropped.
        jitted = jax.jit(function, donate_argnums=self.donated, keep_unused=True)
        self._compiled = jitted.lower(*self.like).compile()

    def __call__(self, *arguments: Any) -> Any:
        if self._compiled is None:
            self.compile()
        return self._compiled(*arguments)

    @property
    def flops(self) -> float:
        """The FLOPs that XLA counts in the compiled program; a loop's body is counted once."""
        self.compile()
        return float(self._compiled.cost_analysis()["flops"])


def computing(function: Callable[..., Any], inputs: dict[str, Any]) -> Kernel:
    """Return the kernel of function(*inputs), jitted."""
    program = Program(function, [*inputs.values()])
    return Kernel(lambda: program(*inputs.values()), inputs=inputs, prepare=program.compile)


def inferring(function: Callable[..., Any], weights: Mapping[str, Any], batch: Batch) -> Kernel:
    """Return the kernel of function(weights, *batch), jitted: the forward pass of a network."""
    program = Program(function, [weights, *batch()])
    return Kernel(lambda: program(weights, *batch()), inputs=batch.arrays, prepare=program.compile)


def overwriting(program: Program, first: jax.Array, inputs: dict[str, Any]) -> Kernel:
    """Return the kernel of a program(before, *inputs) that takes over the memory of `before`, the result of a call.

    first: what the first call is given. The program must donate it.
    """
    held = [first]

    def run() -> jax.Array:
        held[0] = program(held[0], *inputs.values())
        return held[0]

    def restart() -> None:
        held[0] = jnp.zeros_like(held[0])

    # The array that an earlier call returned is gone: the answer is the one that is held. Without inputs it is the same
    # at every call, so a check needs another array first.
    again = None if inputs else restart
    return Kernel(run, inputs=inputs, outputs=lambda _: {"out": held[0]}, restart=again, prepare=program.compile)
