"""Convolutions as matrix products.

`unfold` lays every patch that a kernel sees into a column; a convolution is then one product with the
columns. `fold` is its mirror: it adds columns back to where they came from, which is the backward of
`unfold`, and the heart of a transposed convolution.
Images are (B, C, height, width); kernels are square, `size` on a side.
"""

from __future__ import annotations

from typing import Any

from benchmarks.nn.functions import Array, Cache


def output_size(size: int, kernel: int, stride: int, padding: int) -> int:
    """Return how many places a kernel has along a side of `size` pixels."""
    return (size + 2 * padding - kernel) // stride + 1


def unfold(xp: Any, x: Array, kernel: int, stride: int, padding: int, fill: float = 0) -> Array:
    """Return the patches of x (B, C, height, width) as (B, C * kernel^2, places)."""
    batch, channels, height, width = x.shape
    rows, columns = (output_size(side, kernel, stride, padding) for side in (height, width))
    if kernel == 1 and padding == 0:  # a patch is a pixel: nothing to lay out
        return x[:, :, ::stride, ::stride].reshape(batch, channels, rows * columns)
    if padding:
        x = xp.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)), constant_values=fill)
    patches = xp.empty((batch, channels, kernel, kernel, rows, columns), dtype=x.dtype)
    for i in range(kernel):
        for j in range(kernel):
            patches[:, :, i, j] = x[:, :, i : i + stride * rows : stride, j : j + stride * columns : stride]
    return patches.reshape(batch, channels * kernel * kernel, rows * columns)


def fold(xp: Any, patches: Array, shape: tuple[int, ...], kernel: int, stride: int, padding: int) -> Array:
    """Return an image of `shape` (B, C, height, width) to which every patch was added at its place."""
    batch, channels, height, width = shape
    rows, columns = (output_size(side, kernel, stride, padding) for side in (height, width))
    if kernel == stride == 1 and padding == 0:
        return patches.reshape(shape)
    patches = patches.reshape(batch, channels, kernel, kernel, rows, columns)
    x = xp.zeros((batch, channels, height + 2 * padding, width + 2 * padding), dtype=patches.dtype)
    for i in range(kernel):
        for j in range(kernel):
            x[:, :, i : i + stride * rows : stride, j : j + stride * columns : stride] += patches[:, :, i, j]
    return x[:, :, padding : padding + height, padding : padding + width]


def conv2d(xp: Any, x: Array, weight: Array, stride: int = 1, padding: int = 0) -> tuple[Array, Cache]:
    """Return the correlation of x (B, I, height, width) with weight (O, I, size, size), as (B, O, ...); no bias."""
    outputs, _, kernel, _ = weight.shape
    columns = unfold(xp, x, kernel, stride, padding)
    out = weight.reshape(outputs, -1) @ columns
    rows = output_size(x.shape[2], kernel, stride, padding)
    return out.reshape(len(x), outputs, rows, -1), (columns, weight, x.shape, stride, padding)


def conv2d_backward(xp: Any, grad: Array, cache: Cache) -> tuple[Array, Array]:
    """Return the gradients of x and weight."""
    _, weight, shape, stride, padding = cache
    outputs, _, kernel, _ = weight.shape
    dcolumns = weight.reshape(outputs, -1).T @ grad.reshape(len(grad), outputs, -1)
    return fold(xp, dcolumns, shape, kernel, stride, padding), conv2d_weight_backward(xp, grad, cache)


def conv2d_weight_backward(xp: Any, grad: Array, cache: Cache) -> Array:
    """Return the gradient of weight only: all that a first layer needs."""
    columns, weight, *_ = cache
    grad = grad.reshape(len(grad), weight.shape[0], -1)
    return (grad @ columns.swapaxes(-1, -2)).sum(axis=0).reshape(weight.shape)


def conv_transpose2d(xp: Any, x: Array, weight: Array, stride: int = 1, padding: int = 0) -> tuple[Array, Cache]:
    """Return x (B, I, height, width) spread by weight (I, O, size, size) to a larger (B, O, ...): conv2d backwards."""
    inputs, outputs, kernel, _ = weight.shape
    flat = x.reshape(len(x), inputs, -1)
    columns = weight.reshape(inputs, -1).T @ flat
    height, width = ((side - 1) * stride + kernel - 2 * padding for side in x.shape[2:])
    out = fold(xp, columns, (len(x), outputs, height, width), kernel, stride, padding)
    return out, (flat, weight, x.shape, stride, padding)


def conv_transpose2d_backward(xp: Any, grad: Array, cache: Cache) -> tuple[Array, Array]:
    """Return the gradients of x and weight."""
    flat, weight, shape, stride, padding = cache
    columns = unfold(xp, grad, weight.shape[2], stride, padding)
    dx = weight.reshape(shape[1], -1) @ columns
    dweight = (flat @ columns.swapaxes(-1, -2)).sum(axis=0)
    return dx.reshape(shape), dweight.reshape(weight.shape)


def max_pool(xp: Any, x: Array, kernel: int, stride: int, padding: int) -> tuple[Array, Cache]:
    """Return the largest value of every patch, channel by channel."""
    batch, channels = x.shape[:2]
    patches = unfold(xp, x, kernel, stride, padding, fill=-xp.inf).reshape(batch, channels, kernel * kernel, -1)
    winners = patches.argmax(axis=2)[:, :, None]
    out = xp.take_along_axis(patches, winners, axis=2)
    rows = output_size(x.shape[2], kernel, stride, padding)
    return out.reshape(batch, channels, rows, -1), (winners, x.shape, kernel, stride, padding)


def max_pool_backward(xp: Any, grad: Array, cache: Cache) -> Array:
    """Return the gradient of x: all of it to the winner of each patch."""
    winners, shape, kernel, stride, padding = cache
    batch, channels = shape[:2]
    is_winner = winners == xp.arange(kernel * kernel)[:, None]
    patches = is_winner * grad.reshape(batch, channels, 1, -1)
    return fold(xp, patches, shape, kernel, stride, padding)
