"""Single layers in JAX: attention, layer normalisation, softmax, an embedding and its gradient, an LSTM.

`default` is one jitted program, whose result is a new array, as that of any call of JAX. `eager` calls the same
function without `jit`: one operation at a time; the LSTM is then a Python loop over its steps. `tuned` is for a CPU.
There malloc gives the memory of large results back to the system, and the next call has to clear new pages: `tuned`
donates the result of the call before, whose memory XLA then writes to; attention is then computed by blocks as well. An
accelerator has an allocator that keeps memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from bench_core.workload import Backend, HostArrays, Kernel, Work

from .functions import Array, attention, layernorm, softmax
from .programs import Program, computing, overwriting

BLOCK = 128  # queries: their scores, against all keys of a sequence, fit in a CPU's cache


def causal_attention(q: Array, k: Array, v: Array) -> Array:
    """Return `attention` where the queries are the last T of S tokens, and each sees those up to its own."""
    queries, keys = q.shape[-2], k.shape[-2]
    return attention(q, k, v, jnp.tri(queries, keys, keys - queries, dtype=bool))


def attention_by_blocks(q: Array, k: Array, v: Array) -> Array:
    """Return `causal_attention` of (B, H, T, D), sequence by sequence and BLOCK queries at a time.

    A block meets only the keys up to its last query, which saves nearly half of the work. Its scores stay in a cache.
    """

    def sequence(arrays: tuple[Array, Array, Array]) -> Array:
        q, k, v = arrays
        ends = [*range(BLOCK, q.shape[-2], BLOCK), q.shape[-2]]
        starts = [0, *ends[:-1]]
        blocks = [causal_attention(q[:, a:b], k[:, :b], v[:, :b]) for a, b in zip(starts, ends, strict=True)]
        return jnp.concatenate(blocks, axis=-2)

    return lax.map(sequence, (q, k, v))


def embedding(ids: Array, table: Array) -> Array:
    """Return the rows (T, C) of table (V, C) for ids (T)."""
    return table.at[ids].get(mode="promise_in_bounds")


def embedding_grad(ids: Array, values: Array, rows: Array) -> Array:
    """Return a table (V, C) of zeros with values (T, C) added to the rows ids (T), which may repeat.

    rows (V, 0) holds no data: it tells V. XLA makes the same program of this as of `jax.ops.segment_sum`, and of the
    gradient of `embedding`; to sort the ids first is slower.
    """
    total = jnp.zeros((rows.shape[0], values.shape[-1]), values.dtype)
    return total.at[ids].add(values, mode="promise_in_bounds")


def lstm(
    scan: Callable[..., Any], x: Array, weight_ih: Array, weight_hh: Array, bias_ih: Array, bias_hh: Array
) -> Array:
    """Return the hidden states (B, T, C) for inputs x (B, T, I); formulas and order of gates as in nn/recurrent.py.

    scan: `lax.scan`, or a function that is called like it.
    """
    # The inputs' part of the gates of all steps is one product; time comes first, as the loop goes along it.
    inputs = x.swapaxes(0, 1) @ weight_ih.T + (bias_ih + bias_hh)

    def step(state: tuple[Array, Array], gates: Array) -> tuple[tuple[Array, Array], Array]:
        hidden, cell = state
        i, f, g, o = jnp.split(gates + hidden @ weight_hh.T, 4, axis=-1)
        cell = jax.nn.sigmoid(f) * cell + jax.nn.sigmoid(i) * jnp.tanh(g)
        hidden = jax.nn.sigmoid(o) * jnp.tanh(cell)
        return (hidden, cell), hidden

    zeros = jnp.zeros((x.shape[0], weight_hh.shape[1]), x.dtype)
    _, hiddens = scan(step, (zeros, zeros), inputs)
    return hiddens.swapaxes(0, 1)


def python_scan(step: Callable[..., Any], state: Any, inputs: Array) -> tuple[Any, Array]:
    """Return what `lax.scan` returns, by a loop in Python."""
    outputs = []
    for each in inputs:
        state, output = step(state, each)
        outputs.append(output)
    return state, jnp.stack(outputs)


FUNCTIONS: Mapping[str, Callable[..., Array]] = {
    "attention": causal_attention,
    "layernorm": layernorm,
    "softmax": softmax,
    "embedding": embedding,
    "embedding_grad": embedding_grad,
    "lstm": partial(lstm, lax.scan),
}
# Where an implementation is another function.
OTHERS: Mapping[tuple[str, str], Callable[..., Array]] = {
    ("attention", "tuned"): attention_by_blocks,
    ("lstm", "eager"): partial(lstm, python_scan),
}
# What they are called with.
INPUTS: Mapping[str, Sequence[str]] = {
    "attention": "qkv",
    "layernorm": ("x", "weight", "bias"),
    "softmax": "x",
    "embedding": ("ids", "table"),
    "embedding_grad": ("ids", "values", "rows"),
    "lstm": ("x", *(f"weights.{name}_l0" for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))),
}


def layer(implementation: str, backend: Backend, work: Work, host: HostArrays) -> Kernel:
    """Return the kernel of a layer."""
    name = work.workload
    function = OTHERS.get((name, implementation), FUNCTIONS[name])
    inputs = {each: backend.from_host(host[each]) for each in INPUTS[name]}
    if implementation == "eager":
        return Kernel(lambda: function(*inputs.values()), inputs=inputs)
    if implementation == "tuned":
        result = jax.eval_shape(function, *inputs.values())
        first = jnp.zeros(result.shape, result.dtype)
        program = Program(lambda _before, *given: function(*given), [first, *inputs.values()], donated=[0])
        return overwriting(program, first, inputs)
    return computing(function, inputs)
