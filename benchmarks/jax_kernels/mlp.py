"""The multi-layer perceptron in JAX: linear layers with ReLU between them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax

from bench_core.workload import Backend, HostArrays, Kernel, Work

from ..bench_mlp import RATE, network, samples
from ..nn.batches import batch_of
from ..nn.weights import device_weights
from .functions import Array, Params, for_products, linear, product_format
from .programs import inferring
from .training import Sgd, train_kernel, without_averages


def forward(layers: int, products: str | None, params: Params, x: Array) -> Array:
    """Return logits (B, classes) for x (B, inputs). products: as in `for_products`."""
    params = for_products(params, products)
    for i in range(layers):
        x = linear(x, params, f"layers.{i}")
        x = jax.nn.relu(x) if i < layers - 1 else x
    return x


def _forward(work: Work) -> Callable[[Params, Array], Array]:
    return partial(forward, len(network(work).widths) - 1, product_format(work))


def train(implementation: str, backend: Backend, work: Work, host: HostArrays) -> Kernel:
    """Return the kernel of a training step: forward, `jax.grad`, SGD."""
    apply = without_averages(_forward(work))
    return train_kernel(implementation, backend, work, host, apply, Sgd(RATE), samples(work))


def infer(implementation: str, backend: Backend, work: Work, host: HostArrays) -> Kernel:
    """Return the kernel of inference: the forward pass."""
    apply = _forward(work)
    params, batch = device_weights(backend, host), batch_of(backend, work, host, ["x"])
    if implementation == "eager":
        return Kernel(lambda: apply(params, *batch()), inputs=batch.arrays)
    return inferring(apply, params, batch)
