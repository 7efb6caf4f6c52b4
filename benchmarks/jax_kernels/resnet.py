"""The residual networks in JAX: channels last, and the running averages of batch norms as state of the training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import jax

from bench_core.workload import Backend, HostArrays, Kernel, Work

from ..bench_cnn import RATE, network, samples
from ..nn.batches import batch_of
from ..nn.resnet import Conv, ResNet
from ..nn.weights import device_weights
from .functions import Array, Params, for_products, linear, product_format
from .images import BatchNorms, RunningNorms, channels_last, conv, max_pool
from .programs import inferring
from .training import Sgd, train_kernel

Norms = Callable[[Array, str], Array]


def unit(x: Array, params: Params, norms: Norms, name: str, shape: Conv) -> Array:
    """Return x (B, height, width, I) convolved and normalised: (B, places, places, O)."""
    return norms(conv(x, params[f"{name}.conv.weight"], shape.stride, shape.padding), f"{name}.norm")


def residual(x: Array, params: Params, norms: Norms, name: str, convs: Mapping[str, Conv]) -> Array:
    """Return relu(units(x) + shortcut(x)); the shortcut is x itself, or a unit if the shapes differ."""
    units = {f"{name}.{each}": shape for each, shape in convs.items() if each != "shortcut"}
    out = x
    for i, (each, shape) in enumerate(units.items()):
        out = unit(jax.nn.relu(out) if i else x, params, norms, each, shape)
    short = unit(x, params, norms, f"{name}.shortcut", convs["shortcut"]) if "shortcut" in convs else x
    return jax.nn.relu(out + short)


def forward(net: ResNet, products: str | None, params: Params, norms: Norms, x: Array) -> Array:
    """Return logits (B, classes) for x (B, 3, pixels, pixels). products: as in `for_products`."""
    params = for_products(params, products)
    x = jax.nn.relu(unit(channels_last(x), params, norms, "stem", net.stem()))
    if net.large:
        x = max_pool(x, 3, 2, 1)
    for name, convs in net.stages():
        x = residual(x, params, norms, name, convs)
    return linear(x.mean(axis=(1, 2)), params, "head")


def forward_in_training(
    net: ResNet, products: str | None, params: Params, averages: Params, x: Array
) -> tuple[Array, dict[str, Array]]:
    """Return the logits, normalised by the batch, and the new running averages."""
    norms = BatchNorms(params, averages)
    return forward(net, products, params, norms, x), norms.after


def train(implementation: str, backend: Backend, work: Work, host: HostArrays) -> Kernel:
    """Return the kernel of a training step: forward, `jax.grad`, SGD."""
    apply = partial(forward_in_training, network(work), product_format(work))
    return train_kernel(implementation, backend, work, host, apply, Sgd(RATE), samples(work))


def infer(implementation: str, backend: Backend, work: Work, host: HostArrays) -> Kernel:  # noqa: ARG001 - there is one
    """Return the kernel of inference: the forward pass with running averages."""
    net, products = network(work), product_format(work)
    weights, batch = device_weights(backend, host), batch_of(backend, work, host, ["x"])
    return inferring(lambda w, x: forward(net, products, w, RunningNorms(w), x), weights, batch)
