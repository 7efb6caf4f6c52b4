"""Residual networks (He et al., arXiv:1512.03385): each block learns what to add to its input.

A unit is a convolution without bias, followed by a batch normalisation. A block is two or (`bottleneck`) three units
with ReLU between them, plus a shortcut from its input. A stage is a sequence of blocks; each stage after the first
halves the image's sides and doubles the channels. Images inside the network are (C, B, height, width), as in
convolution.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .activations import relu, relu_backward
from .convolution import (
    conv2d,
    conv2d_backward,
    conv2d_weight_backward,
    max_pool,
    max_pool_backward,
    output_size,
)
from .functions import Array, Cache, linear, linear_backward
from .initial import initial_batchnorm, initial_linear, normal
from .names import named, scoped
from .normalisation import batchnorm, batchnorm_backward, batchnorm_inference

Params = Mapping[str, Array]
EXPANSION = 4  # the last unit of a bottleneck block has this many times the channels of its other units


@dataclass(frozen=True, slots=True)
class Conv:
    """The shape of one convolution on a square image of `size` pixels a side."""

    inputs: int
    outputs: int
    kernel: int
    stride: int
    padding: int
    size: int

    @property
    def places(self) -> int:
        """Pixels along a side of the result."""
        return output_size(self.size, self.kernel, self.stride, self.padding)

    @property
    def flops(self) -> int:
        """FLOPs per image: 2 I O kernel^2 for each pixel of the result."""
        return 2 * self.inputs * self.outputs * self.kernel**2 * self.places**2


@dataclass(frozen=True, slots=True)
class ResNet:
    """The shape of a ResNet.

    blocks: number of blocks in each stage. width: channels of the first stage. pixels: along a side of an image.
    For images of 64 pixels and more, a 7x7 convolution and a max pool first reduce each side to a quarter.
    """

    blocks: tuple[int, ...]
    width: int
    pixels: int
    classes: int
    bottleneck: bool = False

    @property
    def large(self) -> bool:
        return self.pixels >= 64

    def stem(self) -> Conv:
        """Return the first convolution, from 3 colour channels to `width`."""
        return Conv(3, self.width, 7, 2, 3, self.pixels) if self.large else Conv(3, self.width, 3, 1, 1, self.pixels)

    def stages(self) -> Iterator[tuple[str, dict[str, Conv]]]:
        """Yield every block's name and its convolutions by name, in order."""
        size = output_size(self.stem().places, 3, 2, 1) if self.large else self.stem().places
        channels = self.width
        for stage, blocks in enumerate(self.blocks):
            for i in range(blocks):
                stride = 2 if stage > 0 and i == 0 else 1
                convs = self._block(channels, self.width * 2**stage, stride, size)
                yield f"stages.{stage}.{i}", convs
                last = [conv for name, conv in convs.items() if name != "shortcut"][-1]
                channels, size = last.outputs, last.places

    def _block(self, channels: int, width: int, stride: int, size: int) -> dict[str, Conv]:
        outputs = width * EXPANSION if self.bottleneck else width
        half = output_size(size, 3, stride, 1)
        if self.bottleneck:
            convs = {
                "unit0": Conv(channels, width, 1, 1, 0, size),
                "unit1": Conv(width, width, 3, stride, 1, size),
                "unit2": Conv(width, outputs, 1, 1, 0, half),
            }
        else:
            convs = {"unit0": Conv(channels, width, 3, stride, 1, size), "unit1": Conv(width, width, 3, 1, 1, half)}
        if stride != 1 or channels != outputs:
            convs["shortcut"] = Conv(channels, outputs, 1, stride, 0, size)
        return convs

    @property
    def features(self) -> int:
        """Channels of the last stage, which are the inputs of the head."""
        return int(self.width * 2 ** (len(self.blocks) - 1)) * (EXPANSION if self.bottleneck else 1)

    def initial(self, rng: np.random.Generator, dtype: str) -> dict[str, np.ndarray]:
        """Return initial parameters and running averages; the convolutions' gain is sqrt(2) (arXiv:1502.01852)."""
        params = named("stem", _initial_unit(rng, self.stem(), dtype))
        for name, convs in self.stages():
            for unit, conv in convs.items():
                params |= named(f"{name}.{unit}", _initial_unit(rng, conv, dtype))
        return params | named("head", initial_linear(rng, self.features, self.classes, dtype))

    def forward(self, xp: Any, params: Params, x: Array, copies: int = 1) -> tuple[Array, Cache]:
        """Return logits (B, classes) for x (B, 3, pixels, pixels); updates the running averages in `params` in place.

        copies: as in `batchnorm`.
        """
        x, stem = unit(xp, x.swapaxes(0, 1), scoped(params, "stem"), self.stem(), copies)  # (C, B, ...) from here on
        x, active = relu(xp, x)
        pooled: Cache = ()
        if self.large:
            x, pooled = max_pool(xp, x, 3, 2, 1)
        caches = []
        for name, convs in self.stages():
            x, cache = residual(xp, x, scoped(params, name), convs, copies)
            caches.append((name, cache))
        pixels = x.shape[2] * x.shape[3]
        logits, head = linear(xp, x.mean(axis=(2, 3)).T, params["head.weight"], params["head.bias"])  # mean: (B, C)
        return logits, (stem, active, pooled, caches, head, (x.shape, pixels))

    def backward(self, xp: Any, grad: Array, cache: Cache) -> dict[str, Array]:
        """Return the gradient of every parameter, by name, for grad = dL/dlogits (B, classes)."""
        stem, active, pooled, caches, head, (shape, pixels) = cache
        dx, dweight, dbias = linear_backward(xp, grad, head)
        grads = {"head.weight": dweight, "head.bias": dbias}
        # The backward of a mean over pixels: every pixel gets the same share, 1 / pixels of the gradient.
        dx = xp.broadcast_to((dx.T / pixels)[:, :, None, None], shape)
        for name, block in reversed(caches):
            dx, block_grads = residual_backward(xp, dx, block)
            grads |= named(name, block_grads)
        if self.large:
            dx = max_pool_backward(xp, dx, pooled)
        return grads | named("stem", unit_parameters_backward(xp, relu_backward(xp, dx, active), stem))

    def infer(self, xp: Any, params: Params, x: Array) -> Array:
        """Return logits (B, classes) for x (B, 3, pixels, pixels), normalised by the running averages (inference)."""
        x = xp.maximum(unit_inference(xp, x.swapaxes(0, 1), scoped(params, "stem"), self.stem()), 0)
        if self.large:
            x, _ = max_pool(xp, x, 3, 2, 1)
        for name, convs in self.stages():
            x = residual_inference(xp, x, scoped(params, name), convs)
        return linear(xp, x.mean(axis=(2, 3)).T, params["head.weight"], params["head.bias"])[0]

    def convs(self) -> list[Conv]:
        """Return every convolution, the stem first."""
        return [self.stem(), *(conv for _, convs in self.stages() for conv in convs.values())]

    def forward_flops(self) -> int:
        """Return the FLOPs per image of all convolutions and the head. Ignored: norms, ReLU, pooling, additions."""
        return sum(conv.flops for conv in self.convs()) + 2 * self.features * self.classes

    def train_flops(self) -> int:
        """Return the FLOPs per image of forward and backward pass.

        For each layer dL/dweight costs as much as the forward pass, and so does dL/dx, which the stem does not compute.
        """
        return 3 * self.forward_flops() - self.stem().flops

    def parameters(self) -> int:
        """Return the number of trained parameters."""
        # Each output channel has its kernel, and a weight and a bias of the norm.
        convs = sum(conv.outputs * (conv.inputs * conv.kernel**2 + 2) for conv in self.convs())
        return convs + (self.features + 1) * self.classes

    def activations(self) -> int:
        """Return the number of output elements of all convolutions, per image."""
        return sum(conv.outputs * conv.places**2 for conv in self.convs())


def _initial_unit(rng: np.random.Generator, conv: Conv, dtype: str) -> dict[str, np.ndarray]:
    shape = (conv.outputs, conv.inputs, conv.kernel, conv.kernel)
    weight = normal(rng, shape, dtype, math.sqrt(2 / (conv.inputs * conv.kernel**2)))
    return {"conv.weight": weight} | named("norm", initial_batchnorm(rng, conv.outputs, dtype))


def unit(xp: Any, x: Array, params: Params, conv: Conv, copies: int = 1) -> tuple[Array, Cache]:
    """Return x (I, B, height, width) convolved and normalised by its batch, (O, B, ...). copies: as in `batchnorm`."""
    x, convolved = conv2d(xp, x, params["conv.weight"], conv.stride, conv.padding)
    names = ("weight", "bias", "running_mean", "running_var")
    out, normed = batchnorm(xp, x, *(params[f"norm.{name}"] for name in names), copies)
    return out, (convolved, normed)


def unit_backward(xp: Any, grad: Array, cache: Cache) -> tuple[Array, dict[str, Array]]:
    """Return dL/dx (I, B, height, width) and the gradients of the parameters, by name."""
    convolved, normed = cache
    dx, dscale, dshift = batchnorm_backward(xp, grad, normed)
    dx, dweight = conv2d_backward(xp, dx, convolved)
    return dx, {"conv.weight": dweight, "norm.weight": dscale, "norm.bias": dshift}


def unit_parameters_backward(xp: Any, grad: Array, cache: Cache) -> dict[str, Array]:
    """Return the gradients of the parameters only, by name: the input of the first unit is data."""
    convolved, normed = cache
    dx, dscale, dshift = batchnorm_backward(xp, grad, normed)
    dweight = conv2d_weight_backward(xp, dx, convolved)
    return {"conv.weight": dweight, "norm.weight": dscale, "norm.bias": dshift}


def unit_inference(xp: Any, x: Array, params: Params, conv: Conv) -> Array:
    """Return x (I, B, height, width) convolved and normalised by the running averages, (O, B, ...)."""
    x, _ = conv2d(xp, x, params["conv.weight"], conv.stride, conv.padding)
    names = ("weight", "bias", "running_mean", "running_var")
    return batchnorm_inference(xp, x, *(params[f"norm.{name}"] for name in names))


def residual(xp: Any, x: Array, params: Params, convs: Mapping[str, Conv], copies: int = 1) -> tuple[Array, Cache]:
    """Return relu(units(x) + shortcut(x)); the shortcut is x itself, or a unit if the shapes differ."""
    units = [name for name in convs if name != "shortcut"]
    out, caches = x, []
    for name in units:
        out, cache = unit(xp, out, scoped(params, name), convs[name], copies)
        active: Cache = ()
        if name != units[-1]:
            out, active = relu(xp, out)
        caches.append((name, cache, active))
    short, shortcut = x, ()
    if "shortcut" in convs:
        short, shortcut = unit(xp, x, scoped(params, "shortcut"), convs["shortcut"], copies)
    out, summed = relu(xp, out + short)
    return out, (caches, shortcut, summed)


def residual_backward(xp: Any, grad: Array, cache: Cache) -> tuple[Array, dict[str, Array]]:
    """Return dL/dx and the gradients of the parameters, by name, for grad = dL/dout.

    The sum units(x) + shortcut(x) passes its gradient unchanged to both terms. x feeds both, so dL/dx is the sum of
    what comes back through the units and through the shortcut.
    """
    caches, shortcut, summed = cache
    grads: dict[str, Array] = {}
    grad = relu_backward(xp, grad, summed)  # dL/d(units(x) + shortcut(x))
    dx = grad
    for name, cached, active in reversed(caches):
        if active:
            dx = relu_backward(xp, dx, active)
        dx, unit_grads = unit_backward(xp, dx, cached)
        grads |= named(name, unit_grads)
    if not shortcut:  # the shortcut is x itself
        return dx + grad, grads
    dshort, unit_grads = unit_backward(xp, grad, shortcut)
    return dx + dshort, grads | named("shortcut", unit_grads)


def residual_inference(xp: Any, x: Array, params: Params, convs: Mapping[str, Conv]) -> Array:
    """Return relu(units(x) + shortcut(x)) as `residual`, normalised by the running averages."""
    units = [name for name in convs if name != "shortcut"]
    out = x
    for name in units:
        out = unit_inference(xp, out, scoped(params, name), convs[name])
        out = xp.maximum(out, 0) if name != units[-1] else out
    if "shortcut" in convs:
        x = unit_inference(xp, x, scoped(params, "shortcut"), convs["shortcut"])
    return xp.maximum(out + x, 0)
