"""Residual networks (He et al., arXiv:1512.03385): convolutions that learn what to add to what came in.

Every unit is a convolution without bias and a batch normalisation. A block is two or (`bottleneck`) three units
with ReLU between them, plus a shortcut; a stage is a row of blocks, and each stage after the first halves the
image and doubles the channels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.nn.activations import relu, relu_backward
from benchmarks.nn.convolution import (
    conv2d,
    conv2d_backward,
    conv2d_weight_backward,
    max_pool,
    max_pool_backward,
    output_size,
)
from benchmarks.nn.functions import Array, Cache, linear, linear_backward
from benchmarks.nn.initial import initial_batchnorm, initial_linear, normal
from benchmarks.nn.names import named, scoped
from benchmarks.nn.normalisation import batchnorm, batchnorm_backward, batchnorm_inference

Params = Mapping[str, Array]
EXPANSION = 4  # a bottleneck's last unit has this many times the channels of its others


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
        """Pixels along a side of what comes out."""
        return output_size(self.size, self.kernel, self.stride, self.padding)

    @property
    def flops(self) -> int:
        """2 I O kernel^2 for every pixel that comes out."""
        return 2 * self.inputs * self.outputs * self.kernel**2 * self.places**2


@dataclass(frozen=True, slots=True)
class ResNet:
    """blocks: how many in each stage. width: channels of the first stage. pixels: along a side of an image.

    Images of 64 pixels and more are first reduced to a quarter, by a 7x7 convolution and a max pool.
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
        """Return the first convolution."""
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
        """Channels that the head sees."""
        return int(self.width * 2 ** (len(self.blocks) - 1)) * (EXPANSION if self.bottleneck else 1)

    def initial(self, rng: np.random.Generator, dtype: str) -> dict[str, np.ndarray]:
        """Return weights whose gain is that of ReLU (He et al., arXiv:1502.01852)."""
        params = named("stem", _initial_unit(rng, self.stem(), dtype))
        for name, convs in self.stages():
            for unit, conv in convs.items():
                params |= named(f"{name}.{unit}", _initial_unit(rng, conv, dtype))
        return params | named("head", initial_linear(rng, self.features, self.classes, dtype))

    def forward(self, xp: Any, params: Params, x: Array, copies: int = 1) -> tuple[Array, Cache]:
        """Return logits (B, classes) for x (B, 3, pixels, pixels); the running averages in `params` move.

        copies: as in `batchnorm`.
        """
        x, stem = unit(xp, x.swapaxes(0, 1), scoped(params, "stem"), self.stem(), copies)
        x, active = relu(xp, x)
        pooled: Cache = ()
        if self.large:
            x, pooled = max_pool(xp, x, 3, 2, 1)
        caches = []
        for name, convs in self.stages():
            x, cache = residual(xp, x, scoped(params, name), convs, copies)
            caches.append((name, cache))
        pixels = x.shape[2] * x.shape[3]
        logits, head = linear(xp, x.mean(axis=(2, 3)).T, params["head.weight"], params["head.bias"])
        return logits, (stem, active, pooled, caches, head, (x.shape, pixels))

    def backward(self, xp: Any, grad: Array, cache: Cache) -> dict[str, Array]:
        """Return the gradient of every parameter."""
        stem, active, pooled, caches, head, (shape, pixels) = cache
        dx, dweight, dbias = linear_backward(xp, grad, head)
        grads = {"head.weight": dweight, "head.bias": dbias}
        dx = xp.broadcast_to((dx.T / pixels)[:, :, None, None], shape)
        for name, block in reversed(caches):
            dx, block_grads = residual_backward(xp, dx, block)
            grads |= named(name, block_grads)
        if self.large:
            dx = max_pool_backward(xp, dx, pooled)
        return grads | named("stem", unit_parameters_backward(xp, relu_backward(xp, dx, active), stem))

    def infer(self, xp: Any, params: Params, x: Array) -> Array:
        """Return logits as a trained network gives them: normalised by the running averages."""
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
        """Return the FLOPs of one image: all convolutions and the head. Ignored: norms, ReLU, pools, additions."""
        return sum(conv.flops for conv in self.convs()) + 2 * self.features * self.classes

    def train_flops(self) -> int:
        """Return three times `forward_flops`, less the gradient of the image, which is not computed."""
        return 3 * self.forward_flops() - self.stem().flops

    def parameters(self) -> int:
        """Return how many trained numbers there are."""
        convs = sum(conv.outputs * (conv.inputs * conv.kernel**2 + 2) for conv in self.convs())
        return convs + (self.features + 1) * self.classes

    def activations(self) -> int:
        """Return how many numbers come out of all convolutions for one image."""
        return sum(conv.outputs * conv.places**2 for conv in self.convs())


def _initial_unit(rng: np.random.Generator, conv: Conv, dtype: str) -> dict[str, np.ndarray]:
    shape = (conv.outputs, conv.inputs, conv.kernel, conv.kernel)
    weight = normal(rng, shape, dtype, math.sqrt(2 / (conv.inputs * conv.kernel**2)))
    return {"conv.weight": weight} | named("norm", initial_batchnorm(rng, conv.outputs, dtype))


def unit(xp: Any, x: Array, params: Params, conv: Conv, copies: int = 1) -> tuple[Array, Cache]:
    """Return x convolved and normalised by its own batch; copies: as in `batchnorm`."""
    x, convolved = conv2d(xp, x, params["conv.weight"], conv.stride, conv.padding)
    names = ("weight", "bias", "running_mean", "running_var")
    out, normed = batchnorm(xp, x, *(params[f"norm.{name}"] for name in names), copies)
    return out, (convolved, normed)


def unit_backward(xp: Any, grad: Array, cache: Cache) -> tuple[Array, dict[str, Array]]:
    """Return the gradient of x and those of the parameters, by name."""
    convolved, normed = cache
    dx, dscale, dshift = batchnorm_backward(xp, grad, normed)
    dx, dweight = conv2d_backward(xp, dx, convolved)
    return dx, {"conv.weight": dweight, "norm.weight": dscale, "norm.bias": dshift}


def unit_parameters_backward(xp: Any, grad: Array, cache: Cache) -> dict[str, Array]:
    """Return the gradients of the parameters only: all that a first unit needs."""
    convolved, normed = cache
    dx, dscale, dshift = batchnorm_backward(xp, grad, normed)
    dweight = conv2d_weight_backward(xp, dx, convolved)
    return {"conv.weight": dweight, "norm.weight": dscale, "norm.bias": dshift}


def unit_inference(xp: Any, x: Array, params: Params, conv: Conv) -> Array:
    """Return x convolved and normalised by the running averages."""
    x, _ = conv2d(xp, x, params["conv.weight"], conv.stride, conv.padding)
    names = ("weight", "bias", "running_mean", "running_var")
    return batchnorm_inference(xp, x, *(params[f"norm.{name}"] for name in names))


def residual(xp: Any, x: Array, params: Params, convs: Mapping[str, Conv], copies: int = 1) -> tuple[Array, Cache]:
    """Return relu(units(x) + shortcut(x)), where the shortcut is x itself if the shapes allow it."""
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
    """Return the gradient of x and those of the parameters, by name."""
    caches, shortcut, summed = cache
    grads: dict[str, Array] = {}
    grad = relu_backward(xp, grad, summed)
    dx = grad
    for name, cached, active in reversed(caches):
        if active:
            dx = relu_backward(xp, dx, active)
        dx, unit_grads = unit_backward(xp, dx, cached)
        grads |= named(name, unit_grads)
    if not shortcut:
        return dx + grad, grads
    dshort, unit_grads = unit_backward(xp, grad, shortcut)
    return dx + dshort, grads | named("shortcut", unit_grads)


def residual_inference(xp: Any, x: Array, params: Params, convs: Mapping[str, Conv]) -> Array:
    """Return a block of a trained network."""
    units = [name for name in convs if name != "shortcut"]
    out = x
    for name in units:
        out = unit_inference(xp, out, scoped(params, name), convs[name])
        out = xp.maximum(out, 0) if name != units[-1] else out
    if "shortcut" in convs:
        x = unit_inference(xp, x, scoped(params, "shortcut"), convs["shortcut"])
    return xp.maximum(out + x, 0)
