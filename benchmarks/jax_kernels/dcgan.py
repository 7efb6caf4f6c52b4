"""The DCGAN in JAX: one program trains both networks."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from bench_core.workload import Backend, HostArrays, Kernel, Work

from ..bench_gan import BATCH, BETA1, RATE, samples, shape
from ..nn.batches import batch_of
from ..nn.dcgan import Discriminator, Generator, Shape
from ..nn.names import named, scoped
from ..nn.weights import device_weights
from .functions import Array, Params, for_products, product_format, widened
from .images import BatchNorms, RunningNorms, channels_first, channels_last, conv, conv_transpose
from .programs import inferring
from .training import AdamW, State, Step, started, trainer_kernel


class Gan(NamedTuple):
    """The states of both networks."""

    generator: State
    discriminator: State

    @property
    def params(self) -> dict[str, Array]:
        """The parameters of both, by their names among the weights."""
        return named("generator", self.generator.params) | named("discriminator", self.discriminator.params)

    @property
    def averages(self) -> dict[str, Array]:
        """The running averages of both."""
        return named("generator", self.generator.averages) | named("discriminator", self.discriminator.averages)


def generated(net: Shape, params: Params, norms: BatchNorms | RunningNorms, noise: Array) -> Array:
    """Return images (B, pixels, pixels, C) for noise (B, latent)."""
    x = noise[:, None, None]
    *hidden, last = enumerate(Generator(net).layers())
    for i, (*_, stride, padding, _) in hidden:
        x = jax.nn.relu(norms(conv_transpose(x, params[f"convs.{i}.weight"], stride, padding), f"norms.{i}"))
    i, (*_, stride, padding, _) = last
    return jnp.tanh(conv_transpose(x, params[f"convs.{i}.weight"], stride, padding))


def judged(net: Shape, params: Params, norms: BatchNorms, images: Array) -> Array:
    """Return logits (B) for images (B, pixels, pixels, C)."""
    x, network = images, Discriminator(net)
    *hidden, last = enumerate(network.layers())
    for i, (*_, stride, padding, _) in hidden:
        x = conv(x, params[f"convs.{i}.weight"], stride, padding)
        x = jax.nn.leaky_relu(norms(x, f"norms.{i}") if network.is_normed(i) else x, 0.2)
    i, (*_, stride, padding, _) = last
    return conv(x, params[f"convs.{i}.weight"], stride, padding).reshape(-1)


def binary_cross_entropy(logits: Array, target: float) -> Array:
    """Return the mean of -log p for target 1, of -log(1 - p) for target 0, with p = sigmoid(logits)."""
    wide = widened(logits)
    return jax.nn.softplus(-wide if target else wide).mean()


def train_step(net: Shape, products: str | None, adam: AdamW, state: Gan, noise: Array, images: Array) -> Step:
    """Take one step of the discriminator, then one of the generator against the updated discriminator.

    noise (B, latent); images (B, C, pixels, pixels). The Step is that of `benchmarks.nn.dcgan.train_step`.
    """
    real = channels_last(images)

    def make(params: Params) -> tuple[Array, dict[str, Array]]:
        norms = BatchNorms(params, state.generator.averages)
        return generated(net, for_products(params, products), norms, noise), norms.after

    def loss_of(params: Params, averages: Params, images: Array, target: float) -> tuple[Array, dict[str, Array]]:
        norms = BatchNorms(params, averages)
        logits = judged(net, for_products(params, products), norms, images)
        return binary_cross_entropy(logits, target), norms.after

    def judge_loss(params: Params) -> tuple[Array, dict[str, Array]]:
        true_loss, averages = loss_of(params, state.discriminator.averages, real, 1.0)
        fake_loss, averages = loss_of(params, averages, fakes, 0.0)
        return true_loss + fake_loss, averages

    def make_loss(fakes: Array) -> tuple[Array, dict[str, Array]]:
        return loss_of(discriminator.params, discriminator.averages, fakes, 1.0)

    # The images are made once: `backward` takes the generator's gradient through the same pass.
    fakes, backward, made = jax.vjp(make, state.generator.params, has_aux=True)
    (judging, averages), judge_grads = jax.value_and_grad(judge_loss, has_aux=True)(state.discriminator.params)
    discriminator = adam.update(state.discriminator, judge_grads)._replace(averages=averages)
    (making, averages), dfakes = jax.value_and_grad(make_loss, has_aux=True)(fakes)
    (make_grads,) = backward(dfakes)
    generator = adam.update(state.generator, make_grads)._replace(averages=made)
    gradients = named("generator", make_grads) | named("discriminator", judge_grads)
    after = Gan(generator, discriminator._replace(averages=averages))
    return Step(jnp.stack([judging, making]), channels_first(fakes), gradients, after)


def train(implementation: str, backend: Backend, work: Work, host: HostArrays) -> Kernel:  # noqa: ARG001 - there is one
    """Return the kernel of a training step of both networks, by Adam without weight decay."""
    adam, weights = AdamW(RATE, decay=0, beta1=BETA1), device_weights(backend, host)
    step = partial(train_step, shape(work), product_format(work), adam)

    def start() -> Gan:
        return Gan(*(started(adam, scoped(weights, name)) for name in Gan._fields))

    return trainer_kernel(step, start, batch_of(backend, work, host, BATCH), samples(work))


def generate(implementation: str, backend: Backend, work: Work, host: HostArrays) -> Kernel:  # noqa: ARG001 - there is one
    """Return the kernel that runs the generator with running averages."""
    net, products = shape(work), product_format(work)
    weights, batch = scoped(device_weights(backend, host), "generator"), batch_of(backend, work, host, ["noise"])

    def images(weights: Params, noise: Array) -> Array:
        return channels_first(generated(net, for_products(weights, products), RunningNorms(weights), noise))

    return inferring(images, weights, batch)
