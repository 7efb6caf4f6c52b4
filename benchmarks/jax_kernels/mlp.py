"""The multi-layer perceptron in JAX: linear layers with ReLU between them."""

from __future__ import annotations

from functools import partial

import jax

from bench_core.workload import Backend, HostArrays, Kernel, Work

from ..bench_mlp import RATE, network, samples
from ..nn.batches import batch_of
from ..nn.weights import device_weights
from .programs import Program
from .training import Array, Params, Sgd, train_kernel


def forward(layers: int, params: Params, x: Array) -> Array:
    """Return logits (B, classes) for x (B, inputs)."""
    for i in range(layers):
        x = x @ params[f"layers.{i}.weight"].T + params[f"layers.{i}.bias"]
        x = jax.nn.relu(x) if i < layers - 1 else x
    return x


def train(implementation: str, backend: Backend, work: Work, host: HostArrays) -> Kernel:
    """Return the kernel of a training step: forward, `jax.grad`, SGD."""
    apply = partial(forward, len(network(work).widths) - 1)
    return train_kernel(implementation, backend, work, host, apply, Sgd(RATE), samples(work))


def infer(implementation: str, backend: Backend, work: Work, host: HostArrays) -> Kernel:
    """Return the kernel of inference: the forward pass."""
    apply = partial(forward, len(network(work).widths) - 1)
    params, batch = device_weights(backend, host), batch_of(backend, work, host, ["x"])
    if implementation == "eager":
        return Kernel(lambda: apply(params, *batch()), inputs=batch.arrays)
    program = Program(apply, [params, *batch()])
    return Kernel(lambda: program(params, *batch()), inputs=batch.arrays, prepare=program.compile)
