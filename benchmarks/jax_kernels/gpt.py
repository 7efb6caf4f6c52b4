"""The language model in JAX: causal Transformer blocks; training, prefill, and decoding with a static KV cache.

Decoding calls a program for each token, or one for all of them.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from bench_core.workload import Backend, HostArrays, Kernel, Work

from ..bench_gpt import RATE, network, samples
from ..nn.batches import batch_of
from ..nn.generation import generation_kernel
from ..nn.gpt import Gpt
from ..nn.names import scoped
from ..nn.weights import device_weights
from .functions import Array, Params, attention, for_products, layernorm, linear, product_format
from .programs import Program
from .training import AdamW, train_kernel, without_averages

KvCache = list[tuple[Array, Array]]  # keys and values (B, H, S, D) of each layer
Chosen = tuple[Array, Array, KvCache]  # the token, its logits, the KV cache


def heads_of(x: Array, params: Params, heads: int) -> Array:
    """Return queries, keys and values (3, B, H, T, D) of the stream x (B, T, C)."""
    batch, time, width = x.shape
    return linear(x, params, "attention.qkv").reshape(batch, time, 3, heads, width // heads).transpose(2, 0, 3, 1, 4)


def block(x: Array, params: Params, heads: int) -> Array:
    """Return the stream (B, T, C) after one block: x + attention(norm1(x)), then x + mlp(norm2(x))."""
    q, k, v = heads_of(layernorm(x, params["norm1.weight"], params["norm1.bias"]), params, heads)
    return mixed(x, attention(q, k, v, jnp.tri(x.shape[1], dtype=bool)), params)


def merged(attended: Array) -> Array:
    """Return what the heads attended to, (B, H, T, D), as (B, T, C)."""
    batch, heads, time, depth = attended.shape
    return attended.swapaxes(1, 2).reshape(batch, time, heads * depth)


def mixed(x: Array, attended: Array, params: Params) -> Array:
    """Return the stream x (B, T, C) after the rest of a block, given what its heads attended to (B, H, T, D)."""
    x = x + linear(merged(attended), params, "attention.out")
    return x + perceptron(layernorm(x, params["norm2.weight"], params["norm2.bias"]), params)


def perceptron(x: Array, params: Params) -> Array:
    """Return what the two linear layers of a block, with GELU between, compute of x (B, T, C)."""
    return linear(jax.nn.gelu(linear(x, params, "mlp.up"), approximate=True), params, "mlp.down")


def forward(net: Gpt, products: str | None, params: Params, ids: Array) -> Array:
    """Return logits (B, T, V) for the token after each of ids (B, T). products: as in `for_products`."""
    x = params["tokens.weight"][ids] + params["positions.weight"][: ids.shape[1]]
    params = for_products(params, products)
    for i in range(net.layers):
        x = block(x, scoped(params, f"blocks.{i}"), net.heads)
    head = params["tokens.weight"]
    return layernorm(x, params["norm.weight"], params["norm.bias"]).astype(head.dtype) @ head.T


def extend(net: Gpt, params: Params, kv_cache: KvCache, ids: Array, start: Array | int) -> Chosen:
    """Return the token (B, 1) after ids (B, T), its logits (B, V), and the KV cache with the keys and values of ids.

    kv_cache: holds `start` of S tokens. Attention reads all of it, through a mask: the shapes are the same at every
    step, and so is the program.
    """
    time, capacity, extended = ids.shape[1], room(kv_cache), []
    positions = start + jnp.arange(time)
    x = params["tokens.weight"][ids] + params["positions.weight"][positions]
    seen = jnp.arange(capacity)[None] <= positions[:, None]  # (T, S): each token sees those up to its own
    for i, held in enumerate(kv_cache):
        own = scoped(params, f"blocks.{i}")
        q, *new = heads_of(layernorm(x, own["norm1.weight"], own["norm1.bias"]), own, net.heads)
        k, v = (lax.dynamic_update_slice_in_dim(a, b, start, axis=2) for a, b in zip(held, new, strict=True))
        x = mixed(x, attention(q, k, v, seen), own)
        extended.append((k, v))
    logits = layernorm(x[:, -1], params["norm.weight"], params["norm.bias"]) @ params["tokens.weight"].T
    return logits.argmax(axis=-1)[:, None], logits, extended


def generate(net: Gpt, new: int, params: Params, kv_cache: KvCache, token: Array, logits: Array) -> Chosen:
    """Return all `new` tokens (B, new), the logits (B, V) of the last, and the KV cache, given the first of them.

    token (B, 1), logits (B, V): the first token and its logits. The KV cache has room for `new` tokens after a prompt.
    """

    def step(before: Chosen, at: Array) -> tuple[Chosen, Array]:
        token, _, kv_cache = before
        after = extend(net, params, kv_cache, token, at)
        return after, after[0]

    end = room(kv_cache) - 1
    positions = jnp.arange(end + 1 - new, end)
    (_, logits, kv_cache), following = lax.scan(step, (token, logits, kv_cache), positions)
    return jnp.concatenate([token, following[..., 0].T], axis=1), logits, kv_cache


def empty_cache(net: Gpt, params: Params, batch: int, capacity: int) -> KvCache:
    """Return a KV cache of zeros: what a mask hides must be finite."""
    shape, dtype = (batch, net.heads, capacity, net.width // net.heads), params["tokens.weight"].dtype
    return [(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype)) for _ in range(net.layers)]


def room(kv_cache: KvCache) -> int:
    """Return the number of tokens that a KV cache has room for."""
    return kv_cache[0][0].shape[2]


def train(implementation: str, backend: Backend, work: Work, host: HostArrays) -> Kernel:
    """Return the kernel of a training step: forward, `jax.grad`, AdamW."""
    apply = without_averages(partial(forward, network(work), product_format(work)))
    return train_kernel(implementation, backend, work, host, apply, AdamW(RATE), samples(work))


def prefill(implementation: str, backend: Backend, work: Work, host: HostArrays) -> Kernel:  # noqa: ARG001 - there is one
    """Return the kernel that fills an empty KV cache with a whole context; its memory is donated from call to call."""
    net, params = network(work), device_weights(backend, host, work.dtype)
    batch = batch_of(backend, work, host, ["x"])
    held = [empty_cache(net, params, work["batch"], net.context)]
    program = Program(partial(extend, net, start=0), [params, held[0], *batch()], donated=[1])

    def run() -> Chosen:
        token, logits, held[0] = program(params, held[0], *batch())
        return token, logits, held[0]

    return Kernel(run, inputs=batch.arrays, outputs=lambda made: {"out": made[1]}, prepare=program.compile)


class Prompted:
    """A prompt (B, P), the input "x", and a KV cache for it and `new` tokens, which every program call donates."""

    def __init__(self, net: Gpt, params: Params, prompt: Array, new: int) -> None:
        self.inputs, self.new, self.net, self.params = {"x": prompt}, new, net, params
        self.kv_cache = empty_cache(net, params, len(prompt), prompt.shape[1] + new)
        self._read = self.program(partial(extend, net, start=0), prompt)

    def program(self, function: Any, *like: Array) -> Program:
        """Return the program of a function of parameters, KV cache and others, which returns the KV cache last."""
        return Program(function, [self.params, self.kv_cache, *like], donated=[1])

    def call(self, program: Program, *arguments: Array) -> tuple[Array, Array]:
        """Call a program, and keep the KV cache that it returns; return tokens and logits."""
        tokens, logits, self.kv_cache = program(self.params, self.kv_cache, *arguments)
        return tokens, logits

    def prefill(self) -> tuple[Array, Array]:
        """Read the prompt; return the first new token (B, 1) and its logits (B, V)."""
        return self.call(self._read, self.inputs["x"])


class StepByStep(Prompted):
    """Greedy generation, one program call for each token."""

    def __init__(self, net: Gpt, params: Params, prompt: Array, new: int) -> None:
        super().__init__(net, params, prompt, new)
        self._positions = [jnp.asarray(at, prompt.dtype) for at in range(room(self.kv_cache))]
        self.next = self.program(partial(extend, net), prompt[:, :1], self._positions[0])

    def decode(self, token: Array, at: int) -> tuple[Array, Array]:
        return self.call(self.next, token, self._positions[at])

    def concatenate(self, parts: list[Array]) -> np.ndarray:
        return np.concatenate(parts, axis=1)  # on the host: JAX would compile a program for each number of parts


def whole_kernel(prompted: Prompted) -> Kernel:
    """Return the kernel that generates all tokens after the first in one program.

    As in `generation_kernel`, the prompt is read when it is built and restarted. There is no single step to be timed.
    """
    first = [prompted.prefill()]
    program = prompted.program(partial(generate, prompted.net, prompted.new), *first[0])

    def run() -> tuple[Array, Array]:
        return prompted.call(program, *first[0])

    def restart() -> None:
        first[0] = prompted.prefill()

    def outputs(made: tuple[Array, Array]) -> dict[str, Array]:
        return dict(zip(("tokens", "logits"), made, strict=True))

    return Kernel(run, inputs=prompted.inputs, outputs=outputs, restart=restart, prepare=program.compile)


def decode(implementation: str, backend: Backend, work: Work, host: HostArrays) -> Kernel:
    """Return the kernel that generates tokens greedily: a program call for each token, or one for all (`scan`).

    The compile_time is that of the step, or of the loop.
    """
    params: Any = device_weights(backend, host, work.dtype)
    prompted = network(work), params, backend.from_host(host["x"]), work["new"]
    if implementation == "scan":
        return whole_kernel(Prompted(*prompted))
    loop = StepByStep(*prompted)
    return replace(generation_kernel(loop), prepare=loop.next.compile)
