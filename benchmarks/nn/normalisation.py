"""Layer and batch normalisation: subtract a mean, divide by a deviation, scale and shift."""

from __future__ import annotations

from typing import Any

from benchmarks.nn.functions import Array, Cache

EPSILON = 1e-5  # PyTorch's default in both, added to a variance
MOMENTUM = 0.1  # of batch normalisation's running averages, PyTorch's default


def normalise(xp: Any, x: Array, epsilon: float) -> tuple[Array, Array]:
    """Return (x - mean) / sqrt(variance + epsilon) over the last axis of x (..., C), and that 1 / sqrt (..., 1)."""
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred * centred).mean(axis=-1, keepdims=True)
    inverse = 1 / xp.sqrt(variance + epsilon)
    centred *= inverse
    return centred, inverse


def layernorm(xp: Any, x: Array, weight: Array, bias: Array) -> tuple[Array, Cache]:
    """Return weight (x - mean) / sqrt(variance + 1e-5) + bias, over the last axis of x (..., C)."""
    normed, inverse = normalise(xp, x, EPSILON)
    return normed * weight + bias, (normed, inverse, weight)


def layernorm_backward(xp: Any, grad: Array, cache: Cache) -> tuple[Array, Array, Array]:
    """Return the gradients of x, weight, bias.

    With n = (x - mean) / deviation and h = g weight, dx = (h - mean(h) - n mean(h n)) / deviation: the mean
    and the deviation are functions of x too, and the two subtractions are their share.
    """
    normed, inverse, weight = cache
    rows = tuple(range(grad.ndim - 1))
    dweight, dbias = (grad * normed).sum(axis=rows), grad.sum(axis=rows)
    dx = grad * weight
    along = (dx * normed).mean(axis=-1, keepdims=True)
    dx -= dx.mean(axis=-1, keepdims=True)
    dx -= normed * along
    dx *= inverse
    return dx, dweight, dbias


_PLACES = (1, 2, 3)  # every axis of an image batch (C, B, height, width) but the channels


def batchnorm(
    xp: Any, x: Array, weight: Array, bias: Array, mean: Array, variance: Array, copies: int = 1
) -> tuple[Array, Cache]:
    """Return weight (x - batch mean) / sqrt(batch variance + 1e-5) + bias for x (C, B, height, width).

    Moves the running `mean` and `variance` (C), in place, a tenth of the way to the batch's; the running
    variance follows the unbiased one, as PyTorch's does. `copies`: how often every sample of x stands in the batch that
    x is a part of, which changes what is unbiased and nothing else.
    """
    batch_mean = x.mean(axis=_PLACES)
    centred = x - _channels(batch_mean)
    batch_variance = (centred * centred).mean(axis=_PLACES)
    count = copies * (x.size // len(x))
    mean += MOMENTUM * (batch_mean - mean)
    variance += MOMENTUM * (batch_variance * (count / (count - 1)) - variance)
    inverse = 1 / xp.sqrt(batch_variance + EPSILON)
    centred *= _channels(inverse)
    out = centred * _channels(weight)
    out += _channels(bias)
    return out, (centred, inverse, weight)


def batchnorm_backward(xp: Any, grad: Array, cache: Cache) -> tuple[Array, Array, Array]:
    """Return the gradients of x, weight, bias: the formula of `layernorm_backward`, with other axes."""
    normed, inverse, weight = cache
    count = grad.size // len(grad)
    dweight, dbias = (grad * normed).sum(axis=_PLACES), grad.sum(axis=_PLACES)
    dx = grad - _channels(dbias / count)
    dx -= normed * _channels(dweight / count)
    dx *= _channels(weight * inverse)
    return dx, dweight, dbias


def batchnorm_inference(xp: Any, x: Array, weight: Array, bias: Array, mean: Array, variance: Array) -> Array:
    """Return x normalised by the running averages: one scale and one shift a channel."""
    scale = weight / xp.sqrt(variance + EPSILON)
    out = x * _channels(scale)
    out += _channels(bias - mean * scale)
    return out


def _channels(values: Array) -> Array:
    """Return values (C) in a shape that broadcasts over (C, B, height, width)."""
    return values[:, None, None, None]
