"""Convolutions as matrix products.

`unfold` lays every patch that a kernel sees into a column; a convolution is then one product with the
columns. `fold` is its mirror: it adds columns back to where they came from, which is the backward of
`unfold`, and the heart of a transposed convolution.

Images are (C, B, height, width): with the channels in front, all images of a batch are one matrix, and every
convolution one large product instead of many small ones. Kernels are square, `size` on a side, and have
PyTorch's layout.
"""

from __future__ import annotations

from typing import Any

from benchmarks.nn.functions import Array, Cache


def output_size(size: int, kernel: int, stride: int, padding: int) -> int:
    """Return how many places a kernel has along a side of `size` pixels."""
    return (size + 2 * padding - kernel) // stride + 1


def unfold(xp: Any, x: Array, kernel: int, stride: int, padding: int, fill: float = 0) -> Array:
    """Return the patches of x (C, B, height, width) as columns (C * kernel^2, B * places)."""
    channels, batch, height, width = x.shape
    rows, columns = (output_size(side, kernel, stride, padding) for side in (height, width))
    if kernel == 1 and padding == 0:  # a patch is a pixel: nothing to lay out
        return x[:, :, ::stride, ::stride].reshape(channels, -1)
    if padding:
        x = xp.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)), constant_values=fill)
    patches = xp.empty((channels, kernel, kernel, batch, rows, columns), dtype=x.dtype)
    for i in range(kernel):
        for j in range(kernel):
            patches[:, i, j] = x[:, :, i : i + stride * rows : stride, j : j + stride * columns : stride]
    return patches.reshape(channels * kernel * kernel, -1)


def fold(xp: Any, patches: Array, shape: tuple[int, ...], kernel: int, stride: int, padding: int) -> Array:
    """Return an image of `shape` (C, B, height, width) to which every patch was added at its place."""
    channels, batch, height, width = shape
    rows, columns = (output_size(side, kernel, stride, padding) for side in (height, width))
    if kernel == stride == 1 and padding == 0:
        return patches.reshape(shape)
    patches = patches.reshape(channels, kernel, kernel, batch, rows, columns)
    x = xp.zeros((channels, batch, height + 2 * padding, width + 2 * padding), dtype=patches.dtype)
    for i in range(kernel):
        for j in range(kernel):
            x[:, :, i : i + stride * rows : stride, j : j + stride * columns : stride] += patches[:, i, j]
    return x[:, :, padding : padding + height, padding : padding + width]


def conv2d(xp: Any, x: Array, weight: Array, stride: int = 1, padding: int = 0) -> tuple[Array, Cache]:
    """Return the correlation of x (I, B, height, width) with weight (O, I, size, size), as (O, B, ...); no bias."""
    outputs, _, kernel, _ = weight.shape
    columns = unfold(xp, x, kernel, stride, padding)
    out = weight.reshape(outputs, -1) @ columns
    rows = output_size(x.shape[2], kernel, stride, padding)
    return out.reshape(outputs, x.shape[1], rows, -1), (columns, weight, x.shape, stride, padding)


def conv2d_backward(xp: Any, grad: Array, cache: Cache) -> tuple[Array, Array]:
    """Return the gradients of x and weight."""
    return conv2d_input_backward(xp, grad, cache), conv2d_weight_backward(xp, grad, cache)


def conv2d_input_backward(xp: Any, grad: Array, cache: Cache) -> Array:
    """Return the gradient of x only."""
    _, weight, shape, stride, padding = cache
    outputs, _, kernel, _ = weight.shape
    columns = weight.reshape(outputs, -1).T @ grad.reshape(outputs, -1)
    return fold(xp, columns, shape, kernel, stride, padding)


def conv2d_weight_backward(xp: Any, grad: Array, cache: Cache) -> Array:
    """Return the gradient of weight only: all that a first layer needs."""
    columns, weight, *_ = cache
    return (grad.reshape(len(grad), -1) @ columns.T).reshape(weight.shape)


def conv_transpose2d(xp: Any, x: Array, weight: Array, stride: int = 1, padding: int = 0) -> tuple[Array, Cache]:
    """Return x (I, B, height, width) spread by weight (I, O, size, size) to a larger (O, B, ...): conv2d backwards."""
    inputs, outputs, kernel, _ = weight.shape
    rows = x.reshape(inputs, -1)
    columns = weight.reshape(inputs, -1).T @ rows
    height, width = ((side - 1) * stride + kernel - 2 * padding for side in x.shape[2:])
    out = fold(xp, columns, (outputs, x.shape[1], height, width), kernel, stride, padding)
    return out, (rows, weight, x.shape, stride, padding)


def conv_transpose2d_backward(xp: Any, grad: Array, cache: Cache) -> tuple[Array, Array]:
    """Return the gradients of x and weight."""
    rows, weight, shape, stride, padding = cache
    columns = unfold(xp, grad, weight.shape[2], stride, padding)
    dx = weight.reshape(len(weight), -1) @ columns
    return dx.reshape(shape), (rows @ columns.T).reshape(weight.shape)


def conv_transpose2d_weight_backward(xp: Any, grad: Array, cache: Cache) -> Array:
    """Return the gradient of weight only: all that a first layer needs."""
    rows, weight, _, stride, padding = cache
    columns = unfold(xp, grad, weight.shape[2], stride, padding)
    return (rows @ columns.T).reshape(weight.shape)


def max_pool(xp: Any, x: Array, kernel: int, stride: int, padding: int) -> tuple[Array, Cache]:
    """Return the largest value of every patch, channel by channel."""
    channels, batch, height, _ = x.shape
    patches = unfold(xp, x, kernel, stride, padding, fill=-xp.inf).reshape(channels, kernel * kernel, -1)
    winners = patches.argmax(axis=1)[:, None]
    out = xp.take_along_axis(patches, winners, axis=1)
    rows = output_size(height, kernel, stride, padding)
    return out.reshape(channels, batch, rows, -1), (winners, x.shape, kernel, stride, padding)


def max_pool_backward(xp: Any, grad: Array, cache: Cache) -> Array:
    """Return the gradient of x: all of it to the winner of each patch."""
    winners, shape, kernel, stride, padding = cache
    is_winner = winners == xp.arange(kernel * kernel)[:, None]
    patches = is_winner * grad.reshape(len(grad), 1, -1)
    return fold(xp, patches, shape, kernel, stride, padding)
