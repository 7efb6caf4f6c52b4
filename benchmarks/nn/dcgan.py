"""Two networks against each other (DCGAN, Radford et al., arXiv:1511.06434).

The generator turns noise into images by transposed convolutions; the discriminator tells true images from
generated ones by convolutions with a stride. Each learns from the other. Kernels are 4 pixels a side; every layer
but the ends is normalised by its batch. Images are (C, B, pixels, pixels) inside, as in convolution.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from benchmarks.nn.activations import (
    binary_cross_entropy,
    binary_cross_entropy_backward,
    leaky_relu,
    leaky_relu_backward,
    relu,
    relu_backward,
    tanh,
    tanh_backward,
)
from benchmarks.nn.convolution import (
    conv2d,
    conv2d_input_backward,
    conv2d_weight_backward,
    conv_transpose2d,
    conv_transpose2d_backward,
    conv_transpose2d_weight_backward,
)
from benchmarks.nn.functions import Array, Cache
from benchmarks.nn.initial import initial_batchnorm, normal
from benchmarks.nn.normalisation import batchnorm, batchnorm_backward, batchnorm_inference
from benchmarks.nn.optimisers import Optimiser
from benchmarks.nn.training import Step

Params = Mapping[str, Array]
KERNEL = 4
CHANNELS = 3
_NORM = ("weight", "bias", "running_mean", "running_var")


@dataclass(frozen=True, slots=True)
class Shape:
    """What both networks share.

    latent: numbers of noise an image is made from. width: channels at half the image's size. pixels: along a side, a
    power of two from 16 on.
    """

    latent: int
    width: int
    pixels: int

    def channels(self) -> list[int]:
        """Return the channels from 4 pixels a side up to half the size: each doubling of pixels halves them."""
        halvings = (self.pixels // 8).bit_length() - 1
        return [self.width * 2**i for i in reversed(range(halvings + 1))]


@dataclass(frozen=True, slots=True)
class Generator:
    """Noise (B, latent) to images in [-1, 1]."""

    shape: Shape

    def layers(self) -> list[tuple[int, int, int, int, int]]:
        """Return inputs, outputs, stride, padding and pixels a side of what comes in, layer by layer."""
        channels = [*self.shape.channels(), CHANNELS]
        layers = [(self.shape.latent, channels[0], 1, 0, 1)]
        for i, (inputs, outputs) in enumerate(pairwise(channels)):
            layers.append((inputs, outputs, 2, 1, 4 * 2**i))
        return layers

    def initial(self, rng: np.random.Generator, dtype: str) -> dict[str, np.ndarray]:
        """Return weights under which every layer's numbers are about 1."""
        params = {}
        for i, (inputs, outputs, *_) in enumerate(self.layers()):
            # With a stride of 2, a quarter of the kernel's places meet in one pixel.
            seen = inputs if i == 0 else inputs * KERNEL**2 / 4
            params[f"convs.{i}.weight"] = normal(rng, (inputs, outputs, KERNEL, KERNEL), dtype, seen**-0.5)
            if i < len(self.layers()) - 1:
                norm = initial_batchnorm(rng, outputs, dtype)
                params |= {f"norms.{i}.{name}": array for name, array in norm.items()}
        return params

    def forward(self, xp: Any, params: Params, noise: Array, copies: int = 1) -> tuple[Array, Cache]:
        """Return images; the running averages in `params` move. copies: as in `batchnorm`."""
        x, caches = noise.T[:, :, None, None], []
        last = len(self.layers()) - 1
        for i, (*_, stride, padding, _) in enumerate(self.layers()):
            x, conv = conv_transpose2d(xp, x, params[f"convs.{i}.weight"], stride, padding)
            if i == last:
                x, active = tanh(xp, x)
                caches.append((conv, (), active))
            else:
                x, norm = batchnorm(xp, x, *(params[f"norms.{i}.{name}"] for name in _NORM), copies)
                x, active = relu(xp, x)
                caches.append((conv, norm, active))
        return x, tuple(caches)

    def backward(self, xp: Any, grad: Array, caches: Cache) -> dict[str, Array]:
        """Return the gradient of every parameter; that of the noise is not computed."""
        grads = {}
        last = len(caches) - 1
        for i in reversed(range(last + 1)):
            conv, norm, active = caches[i]
            if i == last:
                grad = tanh_backward(xp, grad, active)
            else:
                grad = relu_backward(xp, grad, active)
                grad, grads[f"norms.{i}.weight"], grads[f"norms.{i}.bias"] = batchnorm_backward(xp, grad, norm)
            if i == 0:
                grads["convs.0.weight"] = conv_transpose2d_weight_backward(xp, grad, conv)
            else:
                grad, grads[f"convs.{i}.weight"] = conv_transpose2d_backward(xp, grad, conv)
        return grads

    def generate(self, xp: Any, params: Params, noise: Array) -> Array:
        """Return images as a trained generator makes them: normalised by the running averages."""
        x = noise.T[:, :, None, None]
        last = len(self.layers()) - 1
        for i, (*_, stride, padding, _) in enumerate(self.layers()):
            x, _ = conv_transpose2d(xp, x, params[f"convs.{i}.weight"], stride, padding)
            if i == last:
                x = xp.tanh(x)
            else:
                x = batchnorm_inference(xp, x, *(params[f"norms.{i}.{name}"] for name in _NORM))
                x = xp.maximum(x, 0)
        return x

    def flops(self) -> list[int]:
        """Return 2 I O kernel^2 FLOPs for every pixel that comes in, layer by layer. Ignored: norms, activations."""
        return [2 * inputs * outputs * KERNEL**2 * pixels**2 for inputs, outputs, *_, pixels in self.layers()]

    def parameters(self) -> int:
        """Return how many trained numbers there are."""
        convs = sum(inputs * outputs * KERNEL**2 for inputs, outputs, *_ in self.layers())
        return convs + 2 * sum(self.shape.channels())


@dataclass(frozen=True, slots=True)
class Discriminator:
    """Images to one logit each: above zero means true."""

    shape: Shape

    def layers(self) -> list[tuple[int, int, int, int, int]]:
        """Return inputs, outputs, stride, padding and pixels a side of what comes out, layer by layer."""
        channels = [CHANNELS, *reversed(self.shape.channels())]
        layers = []
        for i, (inputs, outputs) in enumerate(pairwise(channels)):
            layers.append((inputs, outputs, 2, 1, self.shape.pixels // 2 ** (i + 1)))
        return [*layers, (channels[-1], 1, 1, 0, 1)]

    def initial(self, rng: np.random.Generator, dtype: str) -> dict[str, np.ndarray]:
        """Return weights under which every layer's numbers are about 1."""
        params = {}
        for i, (inputs, outputs, *_) in enumerate(self.layers()):
            deviation = (inputs * KERNEL**2) ** -0.5
            params[f"convs.{i}.weight"] = normal(rng, (outputs, inputs, KERNEL, KERNEL), dtype, deviation)
            if self.is_normed(i):
                norm = initial_batchnorm(rng, outputs, dtype)
                params |= {f"norms.{i}.{name}": array for name, array in norm.items()}
        return params

    def is_normed(self, layer: int) -> bool:
        """Whether a layer is neither the first nor the last."""
        return 0 < layer < len(self.layers()) - 1

    def forward(self, xp: Any, params: Params, images: Array, copies: int = 1) -> tuple[Array, Cache]:
        """Return logits (1, B, 1, 1); the running averages in `params` move. copies: as in `batchnorm`."""
        x, caches = images, []
        last = len(self.layers()) - 1
        for i, (*_, stride, padding, _) in enumerate(self.layers()):
            norm, active = (), ()
            x, conv = conv2d(xp, x, params[f"convs.{i}.weight"], stride, padding)
            if self.is_normed(i):
                x, norm = batchnorm(xp, x, *(params[f"norms.{i}.{name}"] for name in _NORM), copies)
            if i < last:
                x, active = leaky_relu(xp, x)
            caches.append((conv, norm, active))
        return x, tuple(caches)

    def backward(self, xp: Any, grad: Array, caches: Cache) -> dict[str, Array]:
        """Return the gradient of every parameter, for the discriminator's own step."""
        grads = {}
        for i in reversed(range(len(caches))):
            conv, norm, active = caches[i]
            grad = leaky_relu_backward(xp, grad, active) if active else grad
            if norm:
                grad, grads[f"norms.{i}.weight"], grads[f"norms.{i}.bias"] = batchnorm_backward(xp, grad, norm)
            grads[f"convs.{i}.weight"] = conv2d_weight_backward(xp, grad, conv)
            if i > 0:
                grad = conv2d_input_backward(xp, grad, conv)
        return grads

    def images_backward(self, xp: Any, grad: Array, caches: Cache) -> Array:
        """Return the gradient of the images alone, for the generator's step."""
        for conv, norm, active in reversed(caches):
            grad = leaky_relu_backward(xp, grad, active) if active else grad
            grad = batchnorm_backward(xp, grad, norm)[0] if norm else grad
            grad = conv2d_input_backward(xp, grad, conv)
        return grad

    def flops(self) -> list[int]:
        """Return 2 I O kernel^2 FLOPs for every pixel that comes out, layer by layer."""
        return [2 * inputs * outputs * KERNEL**2 * pixels**2 for inputs, outputs, *_, pixels in self.layers()]

    def parameters(self) -> int:
        """Return how many trained numbers there are."""
        convs = sum(inputs * outputs * KERNEL**2 for inputs, outputs, *_ in self.layers())
        return convs + 2 * sum(self.shape.channels()) - 2 * self.shape.width


def train_flops(shape: Shape) -> int:
    """Return the FLOPs an image of one step of both networks.

    The discriminator learns from a true and from a generated image: twice forward and backward, without the
    gradient of the images. The generator makes one image, sends it through the discriminator and back (gradients
    of images only), and goes back itself, without the gradient of the noise. Ignored: norms, activations,
    losses, optimisers.
    """
    g, d = Generator(shape).flops(), Discriminator(shape).flops()
    return 2 * (3 * sum(d) - d[0]) + 2 * sum(d) + 3 * sum(g) - g[0]


def train_step(
    xp: Any, shape: Shape, optimisers: tuple[Optimiser, Optimiser], noise: Array, images: Array, copies: int = 1
) -> Step:
    """Take one step of the discriminator, then one of the generator against the better discriminator.

    images (B, C, pixels, pixels); optimisers: the generator's and the discriminator's. The step's loss holds both
    losses (2), the discriminator's first; its logits are the generated images. copies: as in `batchnorm`.
    """
    generator, discriminator = Generator(shape), Discriminator(shape)
    generator_optimiser, discriminator_optimiser = optimisers
    fakes, making = generator.forward(xp, generator_optimiser.params, noise, copies)

    judge = partial(_judge, xp, discriminator, discriminator_optimiser.params, copies)
    true_loss, true_grads = judge(images.swapaxes(0, 1), 1.0)
    fake_loss, fake_grads = judge(fakes, 0.0)
    judge_grads = {name: true_grads[name] + fake_grads[name] for name in true_grads}
    discriminator_optimiser.update(judge_grads)

    logits, judging = discriminator.forward(xp, discriminator_optimiser.params, fakes, copies)
    make_loss, cached = binary_cross_entropy(xp, logits, 1.0)
    dfakes = discriminator.images_backward(xp, binary_cross_entropy_backward(xp, cached), judging)
    make_grads = generator.backward(xp, dfakes, making)
    generator_optimiser.update(make_grads)

    gradients = {f"discriminator.{name}": grad for name, grad in judge_grads.items()}
    gradients |= {f"generator.{name}": grad for name, grad in make_grads.items()}
    return Step(xp.stack([true_loss + fake_loss, make_loss]), fakes.swapaxes(0, 1), gradients)


def _judge(
    xp: Any, discriminator: Discriminator, params: Params, copies: int, images: Array, target: float
) -> tuple[Array, dict[str, Array]]:
    logits, cache = discriminator.forward(xp, params, images, copies)
    loss, cached = binary_cross_entropy(xp, logits, target)
    return loss, discriminator.backward(xp, binary_cross_entropy_backward(xp, cached), cache)
