"""The forms for NumPy of the operations on images: in rows of pixels, which threads share (rows.py).

Arrays keep the shape (C, B, height, width) of the plain forms. In memory they lie as (height, C, width, B), in which
BLAS multiplies them without copies of patches. NumPy's element-wise operations keep that order, so it goes from one
layer to the next by itself. A form that gets an array in another order copies it once.

There are no forms of `unfold` and `fold`, which these forms do not call, and none of `max_pool`: only networks that are
too large for NumPy have one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .. import activations, convolution
from ..functions import Array, Cache
from ..normalisation import EPSILON, MOMENTUM
from . import Form, Tuned
from .rows import (
    Geometry,
    as_images,
    by_rows,
    correlate,
    correlate_transposed,
    correlate_weight,
    in_row_blocks,
    split_columns,
)

# ---------------------------------------------------------------- convolutions


class _Convolved(NamedTuple):
    """The cache of a convolution: its input (height, I, width, B), for conv2d as from `split_columns`."""

    x: Array
    weight: Array
    geometry: Geometry


def conv2d(xp: Tuned, x: Array, weight: Array, stride: int = 1, padding: int = 0) -> tuple[Array, Cache]:
    """Convolution as a sum of products with the image itself, shifted by one column each."""
    if x.shape[2:] == weight.shape[2:] and padding == 0:  # a single place: the image is one column already
        return convolution.conv2d.plain(xp, x, weight, stride, padding)
    geometry = Geometry(weight.shape[2], stride, padding, *x.shape[2:])
    parts = split_columns(xp, by_rows(x), stride)
    return as_images(correlate(xp, parts, weight, geometry)), _Convolved(parts, weight, geometry)


def conv2d_input_backward(xp: Tuned, grad: Array, cache: Cache) -> Array:
    """Go back to the pixels: each row is a sum of products with rows of grad, and no patches are added in memory."""
    if not isinstance(cache, _Convolved):
        return convolution.conv2d_input_backward.plain(xp, grad, cache)
    return as_images(correlate_transposed(xp, by_rows(grad), cache.weight, cache.geometry))


def conv2d_weight_backward(xp: Tuned, grad: Array, cache: Cache) -> Array:
    """Go back to the weight, as a sum over rows."""
    if not isinstance(cache, _Convolved):
        return convolution.conv2d_weight_backward.plain(xp, grad, cache)
    return correlate_weight(xp, by_rows(grad), cache.x, cache.weight, cache.geometry)


def conv_transpose2d(xp: Tuned, x: Array, weight: Array, stride: int = 1, padding: int = 0) -> tuple[Array, Cache]:
    """Transposed convolution, computed as `conv2d_input_backward` is."""
    if x.shape[2:] == (1, 1) and padding == 0:  # patches do not overlap
        return convolution.conv_transpose2d.plain(xp, x, weight, stride, padding)
    kernel, rows = weight.shape[2], by_rows(x)
    height, width = ((side - 1) * stride + kernel - 2 * padding for side in x.shape[2:])
    geometry = Geometry(kernel, stride, padding, height, width)
    return as_images(correlate_transposed(xp, rows, weight, geometry)), _Convolved(rows, weight, geometry)


def conv_transpose2d_backward(xp: Tuned, grad: Array, cache: Cache) -> tuple[Array, Array]:
    """Go back to the pixels by a convolution of grad, and to the weight as a sum over rows."""
    if not isinstance(cache, _Convolved):
        return convolution.conv_transpose2d_backward.plain(xp, grad, cache)
    parts = split_columns(xp, by_rows(grad), cache.geometry.stride)
    dx = correlate(xp, parts, cache.weight, cache.geometry)
    return as_images(dx), correlate_weight(xp, cache.x, parts, cache.weight, cache.geometry)


def conv_transpose2d_weight_backward(xp: Tuned, grad: Array, cache: Cache) -> Array:
    """Go back to the weight only."""
    if not isinstance(cache, _Convolved):
        return convolution.conv_transpose2d_weight_backward.plain(xp, grad, cache)
    parts = split_columns(xp, by_rows(grad), cache.geometry.stride)
    return correlate_weight(xp, cache.x, parts, cache.weight, cache.geometry)


# ---------------------------------------------------------------- batch normalisation

# On arrays (height, C, width B), since NumPy multiplies by one factor per channel in loops over the last axis only.


def _dots(a: Array, b: Array) -> Array:
    """Return the sums of a * b per channel, for a and b (rows, C, N), as dot products of BLAS."""
    return np.matmul(a[:, :, None, :], b[:, :, :, None])[:, :, 0, 0].sum(axis=0)


def batchnorm(
    xp: Tuned, x: Array, weight: Array, bias: Array, mean: Array, variance: Array, copies: int = 1
) -> tuple[Array, Cache]:
    """Batch normalisation in blocks of rows. The cache has x itself instead of normalised values.

    Mean and squared deviations of the blocks are combined to those of the batch (Chan, Golub and LeVeque, 1979). This
    reads x once, and is as exact as two passes over it.
    """
    images = by_rows(x)
    rows = images.reshape(*images.shape[:2], -1)

    def moments(part: slice) -> tuple[int, Array, Array]:
        block = rows[part]
        count = block.size // block.shape[1]
        block_mean = block.sum(axis=2).sum(axis=0) / count
        centred = block - block_mean[:, None]
        return count, block_mean, _dots(centred, centred)

    counts, means, squares = zip(*in_row_blocks(xp, rows, 3, moments), strict=True)
    total = x.size // len(x)
    batch_mean = sum(n * block_mean for n, block_mean in zip(counts, means, strict=True)) / total
    deviations = [n * (block_mean - batch_mean) ** 2 for n, block_mean in zip(counts, means, strict=True)]
    batch_variance = (sum(squares) + sum(deviations)) / total
    count = copies * total
    mean += MOMENTUM * (batch_mean - mean)
    variance += MOMENTUM * (batch_variance * (count / (count - 1)) - variance)
    inverse = 1 / np.sqrt(batch_variance + EPSILON)
    scale = weight * inverse
    return _scaled(xp, as_images(images), scale, bias - batch_mean * scale), (rows, batch_mean, inverse, weight)


def _scaled(xp: Tuned, x: Array, scale: Array, shift: Array) -> Array:
    """Return x (C, B, height, width) * scale (C) + shift (C)."""
    images = by_rows(x)
    out = np.empty_like(images)
    rows, results = (array.reshape(*array.shape[:2], -1) for array in (images, out))

    def block(part: slice) -> None:
        inside = np.multiply(rows[part], scale[:, None], out=results[part])
        inside += shift[:, None]

    in_row_blocks(xp, rows, 2, block)
    return as_images(out)


def batchnorm_backward(xp: Tuned, grad: Array, cache: Cache) -> tuple[Array, Array, Array]:
    """Go back through batch normalisation in blocks of rows, twice: for the sums, then for dL/dx."""
    rows, mean, inverse, weight = cache
    g = by_rows(grad)
    dx = np.empty_like(g)
    g, results = g.reshape(rows.shape), dx.reshape(rows.shape)

    def sums(part: slice) -> tuple[Array, Array]:
        centred = rows[part] - mean[:, None]
        return _dots(g[part], centred), g[part].sum(axis=2).sum(axis=0)

    dweight, dbias = (np.sum(column, axis=0) for column in zip(*in_row_blocks(xp, g, 3, sums), strict=True))
    dweight *= inverse
    # dL/dx = weight / s (g - mean(g) - n mean(g n)) with n = (x - mean) / s. This is a sum of g, x and 1, each with one
    # factor per channel.
    count = grad.size // len(grad)
    of_g = weight * inverse
    of_x = -of_g * inverse * dweight / count
    of_1 = -of_g * dbias / count - of_x * mean

    def combine(part: slice) -> None:
        inside = np.multiply(rows[part], of_x[:, None], out=results[part])
        inside += of_1[:, None]
        inside += g[part] * of_g[:, None]

    in_row_blocks(xp, g, 4, combine)
    return as_images(dx), dweight, dbias


def batchnorm_inference(xp: Tuned, x: Array, weight: Array, bias: Array, mean: Array, variance: Array) -> Array:
    """Scale and shift in blocks of rows."""
    scale = weight / np.sqrt(variance + EPSILON)
    return _scaled(xp, x, scale, bias - mean * scale)


# ---------------------------------------------------------------- activations, for images


def relu(xp: Tuned, x: Array) -> tuple[Array, Cache]:
    """ReLU in blocks of rows."""
    if x.ndim != 4:
        return activations.relu.plain(xp, x)
    rows = by_rows(x)
    out = np.empty_like(rows)
    in_row_blocks(xp, rows, 1, lambda part: np.maximum(rows[part], 0, out=out[part]))
    return as_images(out), (as_images(out),)


def relu_backward(xp: Tuned, grad: Array, cache: Cache) -> Array:
    """Go back through ReLU in blocks of rows."""
    if grad.ndim != 4:
        return activations.relu_backward.plain(xp, grad, cache)
    g, out = by_rows(grad), by_rows(cache[0])
    dx = np.empty_like(g)
    in_row_blocks(xp, g, 2, lambda part: np.multiply(g[part], out[part] > 0, out=dx[part]))
    return as_images(dx)


def leaky_relu(xp: Tuned, x: Array, slope: float = 0.2) -> tuple[Array, Cache]:
    """Leaky ReLU in blocks of rows."""
    if x.ndim != 4:
        return activations.leaky_relu.plain(xp, x, slope)
    rows = by_rows(x)
    out = np.empty_like(rows)

    def block(part: slice) -> None:
        inside = np.multiply(rows[part], slope, out=out[part])
        np.maximum(rows[part], inside, out=inside)

    in_row_blocks(xp, rows, 2, block)
    return as_images(out), (as_images(rows), slope)


def leaky_relu_backward(xp: Tuned, grad: Array, cache: Cache) -> Array:
    """Multiply by 1 or `slope`: `where` branches on every element, and a CPU cannot predict random signs."""
    if grad.ndim != 4:
        return activations.leaky_relu_backward.plain(xp, grad, cache)
    g, x, slope = by_rows(grad), by_rows(cache[0]), cache[1]
    dx = np.empty_like(g)

    def block(part: slice) -> None:
        factor = (x[part] > 0).astype(g.dtype)
        factor *= 1 - slope
        factor += slope
        np.multiply(g[part], factor, out=dx[part])

    in_row_blocks(xp, g, 5, block)
    return as_images(dx)


FORMS: dict[str, Form] = {
    "conv2d": conv2d,
    "conv2d_input_backward": conv2d_input_backward,
    "conv2d_weight_backward": conv2d_weight_backward,
    "conv_transpose2d": conv_transpose2d,
    "conv_transpose2d_backward": conv_transpose2d_backward,
    "conv_transpose2d_weight_backward": conv_transpose2d_weight_backward,
    "batchnorm": batchnorm,
    "batchnorm_backward": batchnorm_backward,
    "batchnorm_inference": batchnorm_inference,
    "relu": relu,
    "relu_backward": relu_backward,
    "leaky_relu": leaky_relu,
    "leaky_relu_backward": leaky_relu_backward,
}
