"""Convolutions as matrix products.

`unfold` ("im2col") copies every patch that the kernel covers into a column of a matrix. A convolution is then one
product of weights and columns. `fold` ("col2im") is the transpose of `unfold`: it adds each column back to the pixels
that it was copied from. So `fold` is the backward of `unfold`, and transposed convolutions use it in their forward.

Images are (C, B, height, width). With the channels first, all images of a batch form one matrix, and a convolution is
one large product instead of B small ones. Kernels are square, `size` pixels on a side; weights have PyTorch's layout.
"Places" are the positions of the kernel in an image, which are the pixels of the result.
"""

from __future__ import annotations

from typing import Any

from .functions import Array, Cache
from .tuned import has_forms


def output_size(size: int, kernel: int, stride: int, padding: int) -> int:
    """Return how many places a kernel of `kernel` pixels has along a side of `size` pixels."""
    return (size + 2 * padding - kernel) // stride + 1


@has_forms
def unfold(xp: Any, x: Array, kernel: int, stride: int, padding: int, fill: float = 0) -> Array:
    """Return the patches of x (C, B, height, width) as columns (C * kernel^2, B * places). fill: value of padding."""
    channels, batch, height, width = x.shape
    rows, columns = (output_size(side, kernel, stride, padding) for side in (height, width))
    if kernel == 1 and padding == 0:  # a patch is one pixel: x is the matrix already
        return x[:, :, ::stride, ::stride].reshape(channels, -1)
    if padding:
        x = xp.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)), constant_values=fill)
    patches = xp.empty((channels, kernel, kernel, batch, rows, columns), dtype=x.dtype)
    for i in range(kernel):
        for j in range(kernel):
            # Pixel (i, j) of all patches at once is a strided slice of the images: kernel^2 copies, whatever the size.
            patches[:, i, j] = x[:, :, i : i + stride * rows : stride, j : j + stride * columns : stride]
    return patches.reshape(channels * kernel * kernel, -1)


@has_forms
def fold(xp: Any, patches: Array, shape: tuple[int, ...], kernel: int, stride: int, padding: int) -> Array:
    """Return images of `shape` (C, B, height, width): all patches (C * kernel^2, B * places) added up at their places.

    A pixel that belongs to several patches gets the sum of their values; one that belongs to none gets zero.
    """
    channels, batch, height, width = shape
    rows, columns = (output_size(side, kernel, stride, padding) for side in (height, width))
    if kernel == stride == 1 and padding == 0:  # each pixel is one patch
        return patches.reshape(shape)
    patches = patches.reshape(channels, kernel, kernel, batch, rows, columns)
    x = xp.zeros((channels, batch, height + 2 * padding, width + 2 * padding), dtype=patches.dtype)
    for i in range(kernel):
        for j in range(kernel):
            x[:, :, i : i + stride * rows : stride, j : j + stride * columns : stride] += patches[:, i, j]
    return x[:, :, padding : padding + height, padding : padding + width]  # without the padding


@has_forms
def conv2d(xp: Any, x: Array, weight: Array, stride: int = 1, padding: int = 0) -> tuple[Array, Cache]:
    """Return the correlation of x (I, B, height, width) with weight (O, I, size, size), as (O, B, rows, columns).

    There is no bias. As in PyTorch, the kernel is not flipped.
    """
    outputs, _, kernel, _ = weight.shape
    columns = unfold(xp, x, kernel, stride, padding)
    out = weight.reshape(outputs, -1) @ columns  # (O, I size^2) @ (I size^2, B places)
    rows = output_size(x.shape[2], kernel, stride, padding)
    return out.reshape(outputs, x.shape[1], rows, -1), (columns, weight, x.shape, stride, padding)


def conv2d_backward(xp: Any, grad: Array, cache: Cache) -> tuple[Array, Array]:
    """Return dL/dx (I, B, height, width) and dL/dweight (O, I, size, size) for grad g = dL/dout.

    The forward pass is out = W columns with columns = unfold(x): dL/dcolumns = W^T g, dL/dW = g columns^T.
    """
    return conv2d_input_backward(xp, grad, cache), conv2d_weight_backward(xp, grad, cache)


@has_forms
def conv2d_input_backward(xp: Any, grad: Array, cache: Cache) -> Array:
    """Return dL/dx (I, B, height, width) only."""
    _, weight, shape, stride, padding = cache
    outputs, _, kernel, _ = weight.shape
    columns = weight.reshape(outputs, -1).T @ grad.reshape(outputs, -1)  # dL/dcolumns = W^T g (I size^2, B places)
    # A pixel was copied into every patch that covers it: its gradient is the sum over those patches.
    return fold(xp, columns, shape, kernel, stride, padding)


@has_forms
def conv2d_weight_backward(xp: Any, grad: Array, cache: Cache) -> Array:
    """Return dL/dweight (O, I, size, size) only: a first layer's input is data and needs no gradient."""
    columns, weight, *_ = cache
    # dL/dW = g columns^T: the product sums over all images and places, which use the same weights.
    return (grad.reshape(len(grad), -1) @ columns.T).reshape(weight.shape)


@has_forms
def conv_transpose2d(xp: Any, x: Array, weight: Array, stride: int = 1, padding: int = 0) -> tuple[Array, Cache]:
    """Return the transposed convolution (O, B, ...) of x (I, B, height, width) with weight (I, O, size, size); no bias.

    Each pixel of x adds a patch of size^2 pixels to the result. This is what `conv2d_input_backward` computes for a
    convolution from O to I channels with the same weight.
    """
    inputs, outputs, kernel, _ = weight.shape
    rows = x.reshape(inputs, -1)  # (I, B pixels)
    columns = weight.reshape(inputs, -1).T @ rows  # (O size^2, B pixels)
    height, width = ((side - 1) * stride + kernel - 2 * padding for side in x.shape[2:])  # output_size, solved for size
    out = fold(xp, columns, (outputs, x.shape[1], height, width), kernel, stride, padding)
    return out, (rows, weight, x.shape, stride, padding)


@has_forms
def conv_transpose2d_backward(xp: Any, grad: Array, cache: Cache) -> tuple[Array, Array]:
    """Return dL/dx (I, B, height, width) and dL/dweight (I, O, size, size) for grad g = dL/dout (O, B, ...).

    The forward pass is out = fold(W^T rows). The backward of `fold` is `unfold`: it copies the gradient of each pixel
    to all patches that were added to it. With G = unfold(g): dL/drows = W G, dL/dW = rows G^T.
    """
    rows, weight, shape, stride, padding = cache
    columns = unfold(xp, grad, weight.shape[2], stride, padding)  # G (O size^2, B pixels)
    dx = weight.reshape(len(weight), -1) @ columns
    return dx.reshape(shape), (rows @ columns.T).reshape(weight.shape)


@has_forms
def conv_transpose2d_weight_backward(xp: Any, grad: Array, cache: Cache) -> Array:
    """Return dL/dweight (I, O, size, size) only: a first layer's input is data and needs no gradient."""
    rows, weight, _, stride, padding = cache
    columns = unfold(xp, grad, weight.shape[2], stride, padding)
    return (rows @ columns.T).reshape(weight.shape)


def max_pool(xp: Any, x: Array, kernel: int, stride: int, padding: int) -> tuple[Array, Cache]:
    """Return the largest value of every patch of x (C, B, height, width), channel by channel: (C, B, rows, columns)."""
    channels, batch, height, _ = x.shape
    # Padding of -inf never wins.
    patches = unfold(xp, x, kernel, stride, padding, fill=-xp.inf).reshape(channels, kernel * kernel, -1)
    winners = patches.argmax(axis=1)[:, None]  # (C, 1, B places): the position in each patch, for the backward pass
    out = xp.take_along_axis(patches, winners, axis=1)
    rows = output_size(height, kernel, stride, padding)
    return out.reshape(channels, batch, rows, -1), (winners, x.shape, kernel, stride, padding)


def max_pool_backward(xp: Any, grad: Array, cache: Cache) -> Array:
    """Return dL/dx (C, B, height, width): the gradient of each patch goes to its largest value, the others get zero."""
    winners, shape, kernel, stride, padding = cache
    is_winner = winners == xp.arange(kernel * kernel)[:, None]  # (C, kernel^2, B places)
    patches = is_winner * grad.reshape(len(grad), 1, -1)
    return fold(xp, patches, shape, kernel, stride, padding)  # patches overlap: a pixel may win several
