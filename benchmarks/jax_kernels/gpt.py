"""The language model in JAX: causal Transformer blocks; training, prefill, and decoding with a static KV cache."""

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

Chosen = tuple[Array, Array, Array]  # the token, its logits, the KV cache


def heads_of(x: Array, params: Params, heads: int) -> Array:
    """Return queries, keys and values (3, B, T, H, D) of the stream x (B, T, C)."""
    batch, time, width = x.shape
    return linear(x, params, "attention.qkv").reshape(batch, time, 3, heads, width // heads).transpose(2, 0, 1, 3, 4)


def block(x: Array, params: Params, heads: int) -> Array:
    """Return the stream (B, T, C) after one block: x + attention(norm1(x)), then x + mlp(norm2(x))."""
    q, k, v = heads_of(layernorm(x, params["norm1.weight"], params["norm1.bias"]), params, heads)
    return mixed(x, attention(q, k, v, jnp.tri(x.shape[1], dtype=bool)), params)


def mixed(x: Array, attended: Array, params: Params) -> Array:
    """Return the stream x (B, T, C) after the rest of a block, given what its heads attended to (B, T, H, D)."""
    x = x + linear(attended.reshape(x.shape), params, "attention.out")
    normed = layernorm(x, params["norm2.weight"], params["norm2.bias"])
    return x + linear(jax.nn.gelu(linear(normed, params, "mlp.up"), approximate=True), params, "mlp.down")


def forward(net: Gpt, products: str | None, params: Params, ids: Array) -> Array:
    """Return logits (B, T, V) for the token after each of ids (B, T). products: as in `for_products`."""
    x = params["tokens.weight"][ids] + params["positions.weight"][: ids.shape[1]]
    params = for_products(params, products)
    for i in range(net.layers):
        x = block(x, scoped(params, f"blocks.{i}"), net.heads)
    head = params["tokens.weight"]
    return layernorm(x, params["norm.weight"], params["norm.bias"]).astype(head.dtype) @ head.T


def extend(net: Gpt, params: Params, kv_cache: Array, ids: Array, start: Array | int) -> Chosen:
    """Return the token (B, 1) after ids (B, T), its logits (B, V), and the KV cache with the keys and values of ids.

    kv_cache (layers, 2, B, S, H, D): holds `start` tokens. Attention reads all of it, through a mask: the shapes are
    the same at every step, and so is the program.
    """
    time, capacity = ids.shape[1], kv_cache.shape[3]
    positions = start + jnp.arange(time)
    x = params["tokens.weight"][ids] + params["positions.weight"][positions]
    seen = jnp.arange(capacity)[None] <= positions[:, None]  # (T, S): each token sees those up to its own
    for i in range(net.layers):
        own = scoped(params, f"blocks.{i}")
        q, *new = heads_of(layernorm(x, own["norm1.weight"], own["norm1.bias"]), own, net.heads)
        kv_cache = lax.dynamic_update_slice(kv_cache, jnp.stack(new)[None], (i, 0, 0, start, 0, 0))
        x = mixed(x, attention(q, *kv_cache[i], seen), own)
    logits = layernorm(x[:, -1], params["norm.weight"], params["norm.bias"]) @ params["tokens.weight"].T
    return logits.argmax(axis=-1)[:, None], logits, kv_cache


def empty_cache(net: Gpt, params: Params, batch: int, capacity: int) -> Array:
    """Return a KV cache (layers, 2, B, S, H, D) of zeros: what a mask hides must be finite."""
    dtype = params["tokens.weight"].dtype
    return jnp.zeros((net.layers, 2, batch, capacity, net.heads, net.width // net.heads), dtype)


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


class JaxGeneration:
    """Greedy generation, one program call for each token; the KV cache is donated from step to step."""

    def __init__(self, net: Gpt, params: Params, prompt: Array, new: int) -> None:
        self.inputs, self.new, self._params = {"x": prompt}, new, params
        self._kv_cache = empty_cache(net, params, len(prompt), prompt.shape[1] + new)
        start = jnp.zeros((), prompt.dtype)
        self._read = Program(partial(extend, net, start=0), [params, self._kv_cache, prompt], donated=[1])
        self.next = Program(partial(extend, net), [params, self._kv_cache, prompt[:, :1], start], donated=[1])
        self._positions = [jnp.asarray(at, prompt.dtype) for at in range(self._kv_cache.shape[3])]

    def prefill(self) -> tuple[Array, Array]:
        token, logits, self._kv_cache = self._read(self._params, self._kv_cache, self.inputs["x"])
        return token, logits

    def decode(self, token: Array, at: int) -> tuple[Array, Array]:
        token, logits, self._kv_cache = self.next(self._params, self._kv_cache, token, self._positions[at])
        return token, logits

    def concatenate(self, parts: list[Array]) -> np.ndarray:
        return np.concatenate(parts, axis=1)  # on the host: JAX would compile a program for each number of parts


def decode(implementation: str, backend: Backend, work: Work, host: HostArrays) -> Kernel:  # noqa: ARG001 - there is one
    """Return the kernel that generates tokens greedily. The compile_time is that of a step."""
    params: Any = device_weights(backend, host, work.dtype)
    loop = JaxGeneration(network(work), params, backend.from_host(host["x"]), work["new"])
    return replace(generation_kernel(loop), prepare=loop.next.compile)
