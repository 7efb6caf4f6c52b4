"""The forms for NumPy of the operations on images: products with whole rows of pixels, without copies of patches.

The plain forms copy every patch into a column of one matrix: kernel^2 times the image, written to memory and read
again. Here images lie in another order in memory, in which BLAS can multiply them where they are:

    (height, C, width, B)    images in the batch innermost, then columns; rows of pixels outermost

Rows h, h+1, ... of the image are then one matrix (rows * C, width * B), and a kernel that is moved by one column is the
same matrix from the B-th column on. So each row of a convolution is a sum of `kernel` products, one for each column of
the kernel, with slices of the image as it is. Padding needs no copy either: a kernel that reaches over the border has
a shorter product.

The shape of the arrays stays (C, B, height, width), which is what the networks and the plain forms see: only the
strides differ. NumPy's element-wise operations keep that order, so it goes from one layer to the next by itself.

Rows are also the blocks that threads share. Each thread multiplies its own rows, with one BLAS thread, and applies the
element-wise operations to them: BLAS with more threads inside would leave those to one thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import groupby, pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from benchmarks.nn import activations, convolution, normalisation
from benchmarks.nn.convolution import output_size
from benchmarks.nn.functions import Array, Cache
from benchmarks.nn.normalisation import EPSILON, MOMENTUM
from benchmarks.nn.tuned import Form, Tuned
from benchmarks.nn.tuned.blocks import BLOCK, on_threads

FEW = 24  # up to so many channels times kernel rows, patches of one row are copied: see `_is_narrow`
PASS = 16  # FLOPs of a product that take as long as an operation of NumPy on one element
WAKE = 1 << 22  # FLOPs in the time that it takes to share work between threads, 40 us


# ---------------------------------------------------------------- order in memory, threads


def by_rows(x: Array) -> Array:
    """Return x (C, B, height, width) as a contiguous array (height, C, width, B); no copy if it lies so already."""
    return np.ascontiguousarray(x.transpose(2, 0, 3, 1))


def as_images(rows: Array) -> Array:
    """Return rows (height, C, width, B) as a view (C, B, height, width)."""
    return rows.transpose(1, 3, 0, 2)


def share(xp: Tuned, rows: int, flops: float, task: Callable[[range], Any]) -> list[Any]:
    """Run task(range of rows) for all rows and return the results in order: a range per thread, if that is worthwhile.

    flops: what BLAS could compute in the same time; PASS for each element of one operation on an array. With less than
    WAKE, one thread is done before the others are awake. Where there are fewer rows than threads, one call gets them
    all, and BLAS has all threads inside.
    """
    if not 1 < xp.threads <= rows or flops < WAKE:
        return [task(range(rows))]
    ends = [rows * i // xp.threads for i in range(xp.threads + 1)]
    return on_threads(xp.threads, [partial(task, range(*pair)) for pair in pairwise(ends)])


def blocks(x: Array, rows: range) -> Iterator[slice]:
    """Yield slices of consecutive rows of x (height, C, width, B) with about BLOCK bytes each."""
    step = _rows_of_a_block(x[0].nbytes)
    for first in range(rows.start, rows.stop, step):
        yield slice(first, min(first + step, rows.stop))


# ---------------------------------------------------------------- convolutions, on rows


def _is_narrow(channels: int, kernel: int) -> bool:
    """Whether a convolution from so many channels copies the patches of each row of places, which stay in the cache.

    Otherwise one product sums over channels * kernel values. BLAS copies both matrices of a product before it
    multiplies, which takes longer than the multiplication where it sums over few. With 3 channels, one product with
    channels * kernel^2 values was 2 times faster than `kernel` products, with 16 channels 2 times slower.
    """
    return channels * kernel <= FEW


class _Reach(NamedTuple):
    """Where the tap of a kernel (one of its columns) lies in the image: at places [first, last), from `pixel` on."""

    first: int
    last: int
    pixel: int


def _reach(tap: int, stride: int, padding: int, pixels: int, places: int) -> _Reach:
    first = min(places, max(0, -((tap - padding) // stride)))
    last = max(first, min(places, (pixels - 1 + padding - tap) // stride + 1))
    return _Reach(first, last, first * stride + tap - padding)


def _widest_first(taps: Sequence[tuple[int, _Reach]]) -> list[tuple[int, _Reach]]:
    """Sort pairs of a tap and its reach, and leave out those that reach no pixel."""
    return sorted((t for t in taps if t[1].last > t[1].first), key=lambda t: t[1].first - t[1].last)


def split_columns(xp: Tuned, x: Array, stride: int) -> Array:
    """Return x (height, C, width, B) as (height, C, stride, ceil(width / stride), B): pixel w at [w % stride, w // stride].

    The pixels under one tap of a kernel with that stride are then consecutive. Stride 1: a view, else a copy. Elements
    without a pixel are zero.
    """
    height, channels, width, batch = x.shape
    if stride == 1:
        return x[:, :, None]
    parts = np.empty((height, channels, stride, -(-width // stride), batch), x.dtype)

    def copy(rows: range) -> None:
        chosen = slice(rows.start, rows.stop)
        for i in range(stride):
            columns = x[chosen, :, i::stride]
            parts[chosen, :, i, : columns.shape[2]] = columns
            parts[chosen, :, i, columns.shape[2] :] = 0

    share(xp, height, PASS * x.size, copy)
    return parts


def correlate(xp: Tuned, x: Array, weight: Array, width: int, stride: int, padding: int) -> Array:
    """Return the convolution of `split_columns` x with weight (O, I, kernel, kernel): (rows, O, columns, B)."""
    height, inputs, _, part, batch = x.shape
    outputs, _, kernel, _ = weight.shape
    places, columns = (output_size(side, kernel, stride, padding) for side in (height, width))
    out = np.empty((places, outputs, columns, batch), x.dtype)
    taps = _widest_first([(j, _reach(j, stride, padding, width, columns)) for j in range(kernel)])

    def by_patches(rows: range) -> None:
        matrix = weight.transpose(0, 2, 3, 1).reshape(outputs, -1)  # (O, kernel^2 I): small
        for r, patches in _patches_of_rows(x, rows, kernel, stride, padding, taps, columns):
            np.matmul(matrix, patches, out=out[r].reshape(outputs, -1))

    matrices = weight.transpose(3, 0, 2, 1).reshape(kernel, outputs, -1)  # (kernel, O, kernel I)

    def by_shifts(rows: range) -> None:
        most = _rows_of_a_block(outputs * columns * batch * x.itemsize)
        spare = np.empty((most, outputs, columns * batch), x.dtype)
        for run in _runs(rows, partial(_forward, kernel, stride, padding, height), most):
            windows = _windows(x.reshape(height, inputs, -1), run, stride)
            seen = slice(run.first * inputs, run.last * inputs)
            products = []
            for j, (first, last, pixel) in taps:
                start = (pixel % stride * part + pixel // stride) * batch
                under = windows[:, :, start : start + (last - first) * batch]
                products.append((matrices[j, :, seen], under, first * batch))
            _sum_products(products, out[run.rows].reshape(len(windows), outputs, -1), spare)

    share(xp, places, 2 * out.size * weight[0].size, by_patches if _is_narrow(inputs, kernel) else by_shifts)
    return out


def correlate_transposed(
    xp: Tuned, grad: Array, weight: Array, shape: tuple[int, ...], stride: int, padding: int
) -> Array:
    """Return the transpose of `correlate` for grad (rows, O, columns, B): images of `shape` (height, I, width, B)."""
    places, outputs, columns, batch = grad.shape
    height, inputs, width, _ = shape
    kernel, part = weight.shape[2], -(-width // stride)
    out = np.empty(shape, grad.dtype)
    taps = _widest_first([(j, _reach(j, stride, padding, width, columns)) for j in range(kernel)])
    source = grad.reshape(places, outputs, -1)

    def by_patches(rows: range) -> None:
        # One product gives all that a row of grad adds to the image, kernel^2 images of one row each.
        matrix = weight.transpose(2, 3, 1, 0).reshape(-1, outputs)  # (kernel^2 I, O)
        patches = np.empty((kernel, kernel, inputs, columns, batch), grad.dtype)
        out[rows.start : rows.stop] = 0
        for r in range(places):
            inside, pixels = _kernel_rows(r, kernel, stride, padding, height)
            if pixels.stop <= rows.start or pixels.start >= rows.stop:
                continue
            np.matmul(matrix, source[r], out=patches.reshape(-1, columns * batch))
            for i, h in zip(range(inside.start, inside.stop), range(pixels.start, pixels.stop), strict=True):
                for j, (first, last, pixel) in taps if h in rows else ():
                    out[h, :, pixel : pixel + stride * (last - first) : stride] += patches[i, j, :, first:last]

    # Of the kernel's rows, those that meet row h of the image are `stride` apart; they meet consecutive rows of grad, in
    # falling order.
    matrices = {
        (i, j): weight[:, :, i::stride, j][:, :, ::-1].transpose(1, 2, 0).reshape(inputs, -1)
        for i in range(stride)
        for j in range(kernel)
    }

    def by_shifts(rows: range) -> None:
        most = _rows_of_a_block(inputs * part * batch * grad.itemsize)
        spare = np.empty((most, inputs, part * batch), grad.dtype)
        held = np.empty_like(spare)
        for i in range(stride):
            same = range(rows.start + (i - padding - rows.start) % stride, rows.stop, stride)  # rows that meet the same
            meeting = len(range(i, kernel, stride))
            for run in _runs(same, partial(_backward, meeting, stride, padding, places), most):
                windows = _windows(source, run, 1)
                seen = slice(run.first * outputs, run.last * outputs)
                for remainder in range(stride):
                    products = []
                    for j, (first, last, pixel) in taps:
                        if pixel % stride == remainder:
                            met = windows[:, :, first * batch : last * batch]
                            products.append((matrices[i, j][:, seen], met, pixel // stride * batch))
                    target = out[run.rows] if stride == 1 else held[: len(windows)]
                    target = target.reshape(len(windows), inputs, -1)
                    _sum_products(products, target, spare)
                    if stride > 1:
                        whole = out[run.rows, :, remainder::stride]
                        whole[...] = target.reshape(*target.shape[:2], part, batch)[:, :, : whole.shape[2]]

    share(xp, height, 2 * grad.size * weight[0].size, by_patches if _is_narrow(inputs, kernel) else by_shifts)
    return out


def correlate_weight(
    xp: Tuned, grad: Array, x: Array, kernel: int, width: int, stride: int, padding: int
) -> Array:
    """Return the gradient of `correlate` with respect to the weight, (O, I, kernel, kernel)."""
    height, inputs, _, part, batch = x.shape
    places, outputs, columns, _ = grad.shape
    taps = _widest_first([(j, _reach(j, stride, padding, width, columns)) for j in range(kernel)])

    def by_patches(rows: range) -> Array:
        total = np.zeros((outputs, kernel * kernel * inputs), grad.dtype)
        for r, patches in _patches_of_rows(x, rows, kernel, stride, padding, taps, columns):
            total += grad[r].reshape(outputs, -1) @ patches.T
        return total.reshape(outputs, kernel, kernel, inputs).transpose(0, 3, 1, 2)

    def by_shifts(rows: range) -> Array:
        total = np.zeros((kernel, outputs, kernel * inputs), grad.dtype)
        most = _rows_of_a_block(max(outputs, inputs) * columns * batch * grad.itemsize)
        for run in _runs(rows, partial(_forward, kernel, stride, padding, height), most):
            windows = _windows(x.reshape(height, inputs, -1), run, stride)
            row = grad[run.rows].reshape(len(windows), outputs, -1)
            seen = slice(run.first * inputs, run.last * inputs)
            for j, (first, last, pixel) in taps:
                start = (pixel % stride * part + pixel // stride) * batch
                under = windows[:, :, start : start + (last - first) * batch]
                products = row[:, :, first * batch : last * batch] @ under.swapaxes(1, 2)
                total[j, :, seen] += products.sum(axis=0)
        return total.reshape(kernel, outputs, kernel, inputs).transpose(1, 3, 2, 0)

    totals = share(xp, places, 2 * grad.size * inputs * kernel**2, by_patches if _is_narrow(inputs, kernel) else by_shifts)
    return np.ascontiguousarray(sum(totals[1:], start=totals[0]))


def _kernel_rows(place: int, kernel: int, stride: int, padding: int, height: int) -> tuple[slice, slice]:
    """Return the rows of the kernel that lie inside the image at a row of places, and the rows of pixels under them."""
    first, last, pixel = _forward(kernel, stride, padding, height, place)
    return slice(first, last), slice(pixel, pixel + last - first)


class _Run(NamedTuple):
    """Rows, evenly spaced, that meet the kernel's rows [first, last); the first of them meets row `source` first."""

    rows: slice
    first: int
    last: int
    source: int


def _forward(kernel: int, stride: int, padding: int, height: int, place: int) -> tuple[int, int, int]:
    """Return which rows of the kernel, [first, last), lie inside the image at a row of places, and the first pixel row."""
    top = place * stride - padding
    first = min(kernel, max(0, -top))
    last = max(first, min(kernel, height - top))
    return first, last, max(0, top + first)


def _backward(meeting: int, stride: int, padding: int, places: int, pixel: int) -> tuple[int, int, int]:
    """Return which of the `meeting` rows of places, [first, last), exist that cover a row of pixels; and the first one.

    `meeting` rows of the kernel can meet it, `stride` apart.
    """
    start = (pixel + padding) // stride - meeting + 1
    first = min(meeting, max(0, -start))
    last = max(first, min(meeting, places - start))
    return first, last, max(0, start + first)


def _runs(rows: range, met: Callable[[int], tuple[int, int, int]], most: int) -> Iterator[_Run]:
    """Yield the longest runs, of at most `most` rows, that meet the same rows of the kernel."""
    for (first, last), same in groupby(rows, lambda row: met(row)[:2]):
        chosen = list(same)
        for i in range(0, len(chosen), most):
            run = chosen[i : i + most]
            yield _Run(slice(run[0], run[-1] + 1, rows.step), first, last, met(run[0])[2])


def _windows(source: Array, run: _Run, step: int) -> Array:
    """Return views of the rows of source (rows, C, N) that a run meets: (run, met rows * C, N); they overlap."""
    rows = range(run.rows.start, run.rows.stop, run.rows.step)
    _, channels, columns = source.shape
    strides = (step * source.strides[0], *source.strides[1:])
    return as_strided(source[run.source :], (len(rows), (run.last - run.first) * channels, columns), strides)


def _rows_of_a_block(nbytes: int) -> int:
    """Return how many rows of so many bytes are one block."""
    return max(1, BLOCK // max(1, nbytes))


def _sum_products(products: Sequence[tuple[Array, Array, int]], out: Array, spare: Array) -> None:
    """Write sums of products A B to out (rows, M, N); each is A, B and the column of out at which it begins.

    spare (rows, M, N) is overwritten. The first product is the widest: if it does not fill `out`, none does.
    """
    if not products or products[0][1].shape[2] < out.shape[2]:
        out[...] = 0
    for i, (a, b, first) in enumerate(products):
        columns = b.shape[2]
        target = out[:, :, first : first + columns]
        if i == 0:
            np.matmul(a, b, out=target)
        else:
            target += np.matmul(a, b, out=spare[: len(b), :, :columns])


def _patches_of_rows(
    x: Array, rows: range, kernel: int, stride: int, padding: int, taps: Sequence[tuple[int, _Reach]], columns: int
) -> Iterator[tuple[int, Array]]:
    """Yield each row of places, and its patches (kernel^2 I, columns B) in one buffer that the next row overwrites."""
    height, inputs, _, _, batch = x.shape
    patches = np.zeros((kernel, kernel, inputs, columns, batch), x.dtype)  # what lies in the padding stays zero
    for r in rows:
        inside, pixels = _kernel_rows(r, kernel, stride, padding, height)
        patches[: inside.start] = 0
        patches[inside.stop :] = 0
        for j, (first, last, pixel) in taps:
            start = pixel // stride
            patches[inside, j, :, first:last] = x[pixels, :, pixel % stride, start : start + last - first]
        yield r, patches.reshape(-1, columns * batch)


# ---------------------------------------------------------------- convolutions, as the networks call them


class _Rows(NamedTuple):
    """The cache of a convolution: its input by rows, with split columns, and the shape (height, I, width, B)."""

    x: Array
    weight: Array
    shape: tuple[int, ...]
    stride: int
    padding: int


def conv2d(xp: Tuned, x: Array, weight: Array, stride: int = 1, padding: int = 0) -> tuple[Array, Cache]:
    """Return the convolution as a sum of products with rows of the image, moved by one column each."""
    if x.shape[2:] == weight.shape[2:] and padding == 0:  # a single place: the image is one column already
        return convolution.conv2d.plain(xp, x, weight, stride, padding)
    rows = by_rows(x)
    parts = split_columns(xp, rows, stride)
    out = correlate(xp, parts, weight, rows.shape[2], stride, padding)
    return as_images(out), _Rows(parts, weight, rows.shape, stride, padding)


def conv2d_input_backward(xp: Tuned, grad: Array, cache: Cache) -> Array:
    """Return dL/dx: each row is a sum of products with rows of grad, which need not be added up in memory."""
    if not isinstance(cache, _Rows):
        return convolution.conv2d_input_backward.plain(xp, grad, cache)
    return as_images(correlate_transposed(xp, by_rows(grad), cache.weight, cache.shape, cache.stride, cache.padding))


def conv2d_weight_backward(xp: Tuned, grad: Array, cache: Cache) -> Array:
    """Return dL/dweight as a sum of products of rows of grad and rows of the image."""
    if not isinstance(cache, _Rows):
        return convolution.conv2d_weight_backward.plain(xp, grad, cache)
    width, kernel = cache.shape[2], cache.weight.shape[2]
    return correlate_weight(xp, by_rows(grad), cache.x, kernel, width, cache.stride, cache.padding)


def conv_transpose2d(xp: Tuned, x: Array, weight: Array, stride: int = 1, padding: int = 0) -> tuple[Array, Cache]:
    """Return the transposed convolution as `conv2d_input_backward` does."""
    if x.shape[2:] == (1, 1) and padding == 0:  # patches do not overlap
        return convolution.conv_transpose2d.plain(xp, x, weight, stride, padding)
    rows = by_rows(x)
    height, columns = ((side - 1) * stride + weight.shape[2] - 2 * padding for side in x.shape[2:])
    shape = (height, weight.shape[1], columns, x.shape[1])
    out = correlate_transposed(xp, rows, weight, shape, stride, padding)
    return as_images(out), _Rows(rows, weight, shape, stride, padding)


def conv_transpose2d_backward(xp: Tuned, grad: Array, cache: Cache) -> tuple[Array, Array]:
    """Return dL/dx, the convolution of grad, and dL/dweight."""
    if not isinstance(cache, _Rows):
        return convolution.conv_transpose2d_backward.plain(xp, grad, cache)
    parts = split_columns(xp, by_rows(grad), cache.stride)
    dx = correlate(xp, parts, cache.weight, cache.shape[2], cache.stride, cache.padding)
    return as_images(dx), _transposed_weight(xp, parts, cache)


def conv_transpose2d_weight_backward(xp: Tuned, grad: Array, cache: Cache) -> Array:
    """Return dL/dweight only."""
    if not isinstance(cache, _Rows):
        return convolution.conv_transpose2d_weight_backward.plain(xp, grad, cache)
    return _transposed_weight(xp, split_columns(xp, by_rows(grad), cache.stride), cache)


def _transposed_weight(xp: Tuned, parts: Array, cache: _Rows) -> Array:
    kernel, width = cache.weight.shape[2], cache.shape[2]
    return correlate_weight(xp, cache.x, parts, kernel, width, cache.stride, cache.padding)


# ---------------------------------------------------------------- batch normalisation


def batchnorm(
    xp: Tuned, x: Array, weight: Array, bias: Array, mean: Array, variance: Array, copies: int = 1
) -> tuple[Array, Cache]:
    """Return the batch normalisation, computed in blocks of rows: x is read twice and never copied.

    Mean and squared deviations of each block are combined to those of the batch (Chan et al., 1979), which is as exact
    as two passes over x.
    """
    rows = by_rows(x)
    found = [part for parts in share(xp, len(rows), 3 * PASS * x.size, partial(_moments, rows)) for part in parts]
    counts, means, squares = (np.array(column, x.dtype) for column in zip(*found, strict=True))
    count = copies * (x.size // len(x))
    shares = (counts / counts.sum())[:, None]
    batch_mean = (shares * means).sum(axis=0)
    deviations = squares / counts[:, None] + (means - batch_mean) ** 2
    batch_variance = (shares * deviations).sum(axis=0)
    mean += MOMENTUM * (batch_mean - mean)
    variance += MOMENTUM * (batch_variance * (count / (count - 1)) - variance)
    inverse = 1 / np.sqrt(batch_variance + EPSILON)
    out = _scaled(xp, rows, weight * inverse, bias - batch_mean * weight * inverse)
    return as_images(out), (rows, batch_mean, inverse, weight)


def _moments(x: Array, rows: range) -> list[tuple[int, Array, Array]]:
    """Return values per channel, their mean (C) and the sum of their squared deviations (C), for each block of rows."""
    found = []
    for block in blocks(x, rows):
        part = x[block].reshape(block.stop - block.start, x.shape[1], -1)
        count = part.shape[0] * part.shape[2]
        mean = part.sum(axis=2).sum(axis=0) / count
        centred = part - mean[:, None]
        found.append((count, mean, np.einsum("hcn,hcn->c", centred, centred)))
    return found


def _scaled(xp: Tuned, x: Array, scale: Array, shift: Array) -> Array:
    """Return x (height, C, width, B) * scale (C) + shift (C)."""
    out = np.empty_like(x)

    def task(rows: range) -> None:
        for block in blocks(x, rows):
            np.multiply(x[block], scale[:, None, None], out=out[block])
            out[block] += shift[:, None, None]

    share(xp, len(x), 2 * PASS * x.size, task)
    return out


def batchnorm_backward(xp: Tuned, grad: Array, cache: Cache) -> tuple[Array, Array, Array]:
    """Return the gradients; the normalised values are computed again, block by block, instead of being kept."""
    rows, mean, inverse, weight = cache
    g = by_rows(grad)

    def sums(chosen: range) -> list[tuple[Array, Array]]:
        found = []
        for block in blocks(g, chosen):
            part = g[block].reshape(block.stop - block.start, g.shape[1], -1)
            centred = rows[block].reshape(part.shape) - mean[:, None]
            found.append((np.einsum("hcn,hcn->c", part, centred), part.sum(axis=2).sum(axis=0)))
        return found

    found = [pair for pairs in share(xp, len(g), 3 * PASS * g.size, sums) for pair in pairs]
    dweight, dbias = (np.sum(column, axis=0) for column in zip(*found, strict=True))
    dweight *= inverse
    # dx = weight / s (g - mean(g) - n mean(g n)) with n = (x - mean) / s: a sum of g, x and a constant per channel.
    count = g.size // g.shape[1]
    by_grad = weight * inverse
    by_x = -by_grad * inverse * dweight / count
    constant = -by_grad * dbias / count - by_x * mean
    dx = np.empty_like(g)

    def combine(chosen: range) -> None:
        for block in blocks(g, chosen):
            scaled = rows[block] * by_x[:, None, None]
            scaled += constant[:, None, None]
            np.multiply(g[block], by_grad[:, None, None], out=dx[block])
            dx[block] += scaled

    share(xp, len(g), 4 * PASS * g.size, combine)
    return as_images(dx), dweight, dbias


def batchnorm_inference(xp: Tuned, x: Array, weight: Array, bias: Array, mean: Array, variance: Array) -> Array:
    """Return x scale + shift, in blocks of rows."""
    scale = weight / np.sqrt(variance + EPSILON)
    return as_images(_scaled(xp, by_rows(x), scale, bias - mean * scale))


# ---------------------------------------------------------------- activations


def relu(xp: Tuned, x: Array) -> tuple[Array, Cache]:
    """Return max(x, 0), in blocks of rows."""
    if x.ndim != 4:
        return activations.relu.plain(xp, x)
    rows = by_rows(x)
    out = np.empty_like(rows)
    share(xp, len(rows), PASS * x.size, lambda chosen: np.maximum(rows[_all(chosen)], 0, out=out[_all(chosen)]))
    return as_images(out), (as_images(out),)


def relu_backward(xp: Tuned, grad: Array, cache: Cache) -> Array:
    """Return g where the output is positive, else 0, in blocks of rows."""
    if grad.ndim != 4:
        return activations.relu_backward.plain(xp, grad, cache)
    g, out = by_rows(grad), by_rows(cache[0])
    dx = np.empty_like(g)

    def task(chosen: range) -> None:
        for block in blocks(g, chosen):
            np.multiply(g[block], out[block] > 0, out=dx[block])

    share(xp, len(g), 2 * PASS * g.size, task)
    return as_images(dx)


def leaky_relu(xp: Tuned, x: Array, slope: float = 0.2) -> tuple[Array, Cache]:
    """Return x where x > 0, else slope * x, in blocks of rows."""
    if x.ndim != 4:
        return activations.leaky_relu.plain(xp, x, slope)
    rows = by_rows(x)
    out = np.empty_like(rows)

    def task(chosen: range) -> None:
        for block in blocks(rows, chosen):
            np.multiply(rows[block], slope, out=out[block])
            np.maximum(rows[block], out[block], out=out[block])

    share(xp, len(rows), 2 * PASS * x.size, task)
    return as_images(out), (as_images(rows), slope)


def leaky_relu_backward(xp: Tuned, grad: Array, cache: Cache) -> Array:
    """Return g times 1 or slope. Multiplying by a factor has no branch; `where` has one, which random signs mislead."""
    if grad.ndim != 4:
        return activations.leaky_relu_backward.plain(xp, grad, cache)
    g, x, slope = by_rows(grad), by_rows(cache[0]), cache[1]
    dx = np.empty_like(g)

    def task(chosen: range) -> None:
        for block in blocks(g, chosen):
            factor = (x[block] > 0).astype(g.dtype)
            factor *= 1 - slope
            factor += slope
            np.multiply(g[block], factor, out=dx[block])

    share(xp, len(g), 2 * PASS * g.size, task)
    return as_images(dx)


def _all(rows: range) -> slice:
    return slice(rows.start, rows.stop)


FORMS: dict[str, Form] = {
    form.__name__: form
    for form in (
        conv2d,
        conv2d_input_backward,
        conv2d_weight_backward,
        conv_transpose2d,
        conv_transpose2d_backward,
        conv_transpose2d_weight_backward,
        batchnorm,
        batchnorm_backward,
        batchnorm_inference,
        relu,
        relu_backward,
        leaky_relu,
        leaky_relu_backward,
    )
}
