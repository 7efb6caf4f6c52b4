"""Convolutions as products with rows of pixels, without copies of patches: for the forms in numpy_images.py.

The plain form copies every patch into a column of one matrix: kernel^2 times the image, written to memory and read
again. Here images lie in another order in memory, in which BLAS can multiply them where they are:

    (height, C, width, B)    the images of the batch innermost, then columns; rows of pixels outermost

Rows h, h + 1, ... are then one matrix (rows C, width B), and a kernel that moves by one column sees the same matrix
from its B-th column on. So a row of the result is a sum of `kernel` products, one for each column of the kernel (a
"tap"), with slices of the image itself. Padding needs no copy either: where the kernel reaches over the border, a
product has fewer rows or columns.

Two cases need a copy. With a stride, every `stride`-th column is gathered first (`split_columns`). With few channels, a
product would sum over too few values, and the patches of one row at a time are copied (`_is_narrow`).

Each thread has its own rows of the result, and one BLAS thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby, pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ..convolution import output_size
from ..functions import Array
from . import Tuned, blocks
from .blocks import on_threads

FEW = 24  # see `_is_narrow`
PASS = 16  # FLOPs of a product that take about as long as one operation of NumPy on one element
WAKE = 1 << 22  # FLOPs of a product in the time that it takes to give work to another thread: about 40 us

Task = Callable[[range], Any]


def by_rows(x: Array) -> Array:
    """Return x (C, B, height, width) as a contiguous array (height, C, width, B); no copy if it lies so already."""
    return np.ascontiguousarray(x.transpose(2, 0, 3, 1))


def as_images(rows: Array) -> Array:
    """Return rows (height, C, width, B) as a view (C, B, height, width)."""
    return rows.transpose(1, 3, 0, 2)


# ---------------------------------------------------------------- rows for threads


def share(xp: Tuned, rows: int, flops: float, task: Task) -> list[Any]:
    """Run task(range of rows) for all rows and return the results in order: a range per thread, if that is worthwhile.

    flops: what BLAS could compute in the same time. With less than WAKE, one thread is done before another is awake.
    Where there are fewer rows than threads, one call gets all rows, and BLAS has all threads inside.
    """
    if not 1 < xp.threads <= rows or flops < WAKE:
        return [task(range(rows))]
    ends = [rows * i // xp.threads for i in range(xp.threads + 1)]
    return on_threads(xp.threads, [partial(task, range(*pair)) for pair in pairwise(ends)])


def in_row_blocks(xp: Tuned, x: Array, operations: int, function: Callable[[slice], Any]) -> list[Any]:
    """Call function(rows) for all blocks of rows of x (height, ...), and return the results in order.

    operations: how many the function does on each element.
    """
    step = _rows_of_a_block(x[0].nbytes)

    def task(rows: range) -> list[Any]:
        return [function(slice(i, min(i + step, rows.stop))) for i in range(rows.start, rows.stop, step)]

    return [result for results in share(xp, len(x), operations * PASS * x.size, task) for result in results]


def _rows_of_a_block(nbytes: int) -> int:
    return max(1, blocks.BLOCK // max(1, nbytes))


# ---------------------------------------------------------------- where a kernel lies


class Tap(NamedTuple):
    """A column of the kernel, inside the image at places [first, last) of a row; at the first one it is on `pixel`."""

    column: int
    first: int
    last: int
    pixel: int


class Met(NamedTuple):
    """The rows [first, last) of a kernel that meet rows of an array, the first of them row `source`."""

    first: int
    last: int
    source: int


@dataclass(frozen=True, slots=True)
class Geometry:
    """A square kernel on images (height, width) with `padding`. Places are its positions, as in convolution.py."""

    kernel: int
    stride: int
    padding: int
    height: int
    width: int

    @property
    def places(self) -> tuple[int, int]:
        """Rows and columns of the result."""
        rows, columns = (
            output_size(side, self.kernel, self.stride, self.padding) for side in (self.height, self.width)
        )
        return rows, columns

    @property
    def part(self) -> int:
        """Columns of the image that have the same remainder by the stride."""
        return -(-self.width // self.stride)

    def taps(self) -> list[Tap]:
        """Return the columns of the kernel that meet pixels, those at the most places first."""
        found, columns = [], self.places[1]
        for j in range(self.kernel):
            first = max(0, -((j - self.padding) // self.stride))
            last = min(columns, (self.width - 1 + self.padding - j) // self.stride + 1)
            if first < last:
                found.append(Tap(j, first, last, first * self.stride + j - self.padding))
        return sorted(found, key=lambda tap: tap.first - tap.last)

    def rows_under(self, place: int) -> Met:
        """Return which rows of the kernel meet rows of pixels when it is at a row of places."""
        top = place * self.stride - self.padding
        first = min(self.kernel, max(0, -top))
        return Met(first, max(first, min(self.kernel, self.height - top)), max(0, top + first))

    def places_over(self, pixel: int) -> Met:
        """Return which rows of places reach a row of pixels.

        They are consecutive. The rows of the kernel that meet the row of pixels there are `stride` apart, in falling
        order; `first` and `last` count those from the last one.
        """
        over = len(range((pixel + self.padding) % self.stride, self.kernel, self.stride))
        start = (pixel + self.padding) // self.stride - over + 1
        first = min(over, max(0, -start))
        return Met(first, max(first, min(over, self.places[0] - start)), max(0, start + first))


class Run(NamedTuple):
    """Evenly spaced rows, all of which meet the same rows of a kernel; the first of them as `met` says."""

    rows: slice
    met: Met

    def windows(self, source: Array, step: int) -> Array:
        """Return the rows of source (rows, C, N) that each row of the run meets, as views (run, met rows C, N).

        They overlap: those of the next row begin `step` rows of source later.
        """
        count = len(range(self.rows.start, self.rows.stop, self.rows.step))
        shape = count, (self.met.last - self.met.first) * source.shape[1], source.shape[2]
        return as_strided(source[self.met.source :], shape, (step * source.strides[0], *source.strides[1:]))

    def seen(self, channels: int) -> slice:
        """Return the part of an axis (kernel rows, channels) that is met."""
        return slice(self.met.first * channels, self.met.last * channels)


def _runs(rows: range, met: Callable[[int], Met], nbytes: int) -> Iterator[Run]:
    """Yield the longest runs that make no more than a block, with `nbytes` of results per row."""
    most = _rows_of_a_block(nbytes)
    for _, same in groupby(rows, lambda row: met(row)[:2]):
        chosen = list(same)
        for i in range(0, len(chosen), most):
            run = chosen[i : i + most]
            yield Run(slice(run[0], run[-1] + 1, rows.step), met(run[0]))


# ---------------------------------------------------------------- the three products of a convolution


def split_columns(xp: Tuned, x: Array, stride: int) -> Array:
    """Return x (height, C, width, B) as (height, C, stride, ceil(width / stride), B).

    Column w goes to [w % stride, w // stride], so that all columns under a tap are consecutive. With stride 1 this is a
    view. Elements that no column goes to are zero.
    """
    height, channels, width, batch = x.shape
    if stride == 1:
        return x[:, :, None]
    parts = np.empty((height, channels, stride, -(-width // stride), batch), x.dtype)

    def block(rows: slice) -> None:
        for i in range(stride):
            columns = x[rows, :, i::stride]
            parts[rows, :, i, : columns.shape[2]] = columns
            parts[rows, :, i, columns.shape[2] :] = 0

    in_row_blocks(xp, x, 1, block)
    return parts


def correlate(xp: Tuned, x: Array, weight: Array, geometry: Geometry) -> Array:
    """Return (rows, O, columns, B): `split_columns` x, convolved with weight (O, I, kernel, kernel)."""
    rows, columns = geometry.places
    out = np.empty((rows, len(weight), columns, x.shape[-1]), x.dtype)
    form = _correlate_patches if _is_narrow(weight) else _correlate_shifts
    share(xp, rows, 2 * out.size * weight[0].size, form(x, weight, geometry, out))
    return out


def correlate_transposed(xp: Tuned, grad: Array, weight: Array, geometry: Geometry) -> Array:
    """Return the transpose of `correlate` for grad (rows, O, columns, B): (height, I, width, B)."""
    out = np.empty((geometry.height, weight.shape[1], geometry.width, grad.shape[-1]), grad.dtype)
    form = _transposed_patches if _is_narrow(weight) else _transposed_shifts
    share(xp, geometry.height, 2 * grad.size * weight[0].size, form(grad, weight, geometry, out))
    return out


def correlate_weight(xp: Tuned, grad: Array, x: Array, weight: Array, geometry: Geometry) -> Array:
    """Return the gradient of `correlate` with respect to its weight (O, I, kernel, kernel)."""
    form = _weight_patches if _is_narrow(weight) else _weight_shifts
    totals = share(xp, len(grad), 2 * grad.size * weight[0].size, form(grad, x, geometry))
    return np.ascontiguousarray(sum(totals[1:], start=totals[0]))


def _is_narrow(weight: Array) -> bool:
    """Whether a convolution with weight (O, I, kernel, kernel) has so few input channels that patches are copied.

    One product sums over I * kernel values. BLAS copies both matrices before it multiplies them, which takes longer
    than the multiplication if it sums over few. Measured with 3 channels: one product over I * kernel^2 values is 2
    times faster; with 16 channels it is 2 times slower.
    """
    return bool(weight.shape[1] * weight.shape[2] <= FEW)


# ---------------------------------------------------------------- by shifted products


def _under(tap: Tap, geometry: Geometry, batch: int) -> slice:
    """Return the elements under a tap, of a row of `split_columns` (stride, part, B)."""
    start = (tap.pixel % geometry.stride * geometry.part + tap.pixel // geometry.stride) * batch
    return slice(start, start + (tap.last - tap.first) * batch)


def _correlate_shifts(x: Array, weight: Array, geometry: Geometry, out: Array) -> Task:
    outputs, inputs, kernel, _ = weight.shape
    batch, taps = x.shape[-1], geometry.taps()
    matrices = weight.transpose(3, 0, 2, 1).reshape(kernel, outputs, -1)  # (kernel, O, kernel I)
    image = x.reshape(*x.shape[:2], -1)

    def task(rows: range) -> None:
        for run in _runs(rows, geometry.rows_under, out[0].nbytes):
            windows, seen = run.windows(image, geometry.stride), run.seen(inputs)
            products = [
                (matrices[tap.column, :, seen], windows[:, :, _under(tap, geometry, batch)], tap.first * batch)
                for tap in taps
            ]
            _sum_products(products, out[run.rows].reshape(len(windows), outputs, -1))

    return task


def _transposed_shifts(grad: Array, weight: Array, geometry: Geometry, out: Array) -> Task:
    inputs, stride, part, batch = weight.shape[1], geometry.stride, geometry.part, grad.shape[-1]
    source = grad.reshape(*grad.shape[:2], -1)
    # A row of pixels meets rows of the kernel that are `stride` apart, in falling order: see `Geometry.places_over`.
    matrices = {
        (i, j): weight[:, :, i::stride, j][:, :, ::-1].transpose(1, 2, 0).reshape(inputs, -1)
        for i in range(stride)
        for j in range(geometry.kernel)
    }
    taps = [[tap for tap in geometry.taps() if tap.pixel % stride == i] for i in range(stride)]

    def pixels(run: Run, i: int, remainder: int) -> None:
        """Compute the columns with this remainder by the stride; i: the first row of the kernel that is met."""
        windows, seen = run.windows(source, 1), run.seen(grad.shape[1])
        products = [
            (
                matrices[i, tap.column][:, seen],
                windows[:, :, tap.first * batch : tap.last * batch],
                tap.pixel // stride * batch,
            )
            for tap in taps[remainder]
        ]
        if stride == 1:
            _sum_products(products, out[run.rows].reshape(len(windows), inputs, -1))
        else:
            columns = out[run.rows, :, remainder::stride]
            sums = np.empty((len(windows), inputs, part * batch), grad.dtype)
            _sum_products(products, sums)
            columns[...] = sums.reshape(*sums.shape[:2], part, batch)[:, :, : columns.shape[2]]

    def task(rows: range) -> None:
        for i in range(stride):
            first = rows.start + (i - geometry.padding - rows.start) % stride
            for run in _runs(range(first, rows.stop, stride), geometry.places_over, out[0].nbytes // stride):
                for remainder in range(stride):
                    pixels(run, i, remainder)

    return task


def _weight_shifts(grad: Array, x: Array, geometry: Geometry) -> Task:
    (_, outputs, _, batch), inputs, kernel = grad.shape, x.shape[1], geometry.kernel
    image, source = x.reshape(*x.shape[:2], -1), grad.reshape(*grad.shape[:2], -1)
    taps = geometry.taps()

    def task(rows: range) -> Array:
        total = np.zeros((kernel, outputs, kernel * inputs), grad.dtype)
        for run in _runs(rows, geometry.rows_under, max(image[0].nbytes, source[0].nbytes)):
            windows, seen = run.windows(image, geometry.stride), run.seen(inputs)
            for tap in taps:
                g = source[run.rows, :, tap.first * batch : tap.last * batch]
                products = g @ windows[:, :, _under(tap, geometry, batch)].swapaxes(1, 2)
                total[tap.column, :, seen] += products.sum(axis=0)
        return total.reshape(kernel, outputs, kernel, inputs).transpose(1, 3, 2, 0)

    return task


def _sum_products(products: Sequence[tuple[Array, Array, int]], out: Array) -> None:
    """Write sums of products A B to out (rows, M, N).

    Each product is A (M, K), B (rows, K, n) and the column of out at which its n columns begin. The first has the
    largest n: if it does not fill `out`, none does.
    """
    if not products or products[0][1].shape[2] < out.shape[2]:
        out[...] = 0
    spare = np.empty(out.shape, out.dtype)
    for i, (a, b, first) in enumerate(products):
        columns = b.shape[2]
        target = out[:, :, first : first + columns]
        if i == 0:
            np.matmul(a, b, out=target)
        else:
            target += np.matmul(a, b, out=spare[:, :, :columns])


# ---------------------------------------------------------------- by patches of one row at a time


def _patches(x: Array, rows: range, geometry: Geometry) -> Iterator[tuple[int, Array]]:
    """Yield each row of places and its patches (kernel^2 I, columns B), in one buffer that the next row overwrites."""
    kernel, stride, columns, batch = geometry.kernel, geometry.stride, geometry.places[1], x.shape[-1]
    patches = np.zeros((kernel, kernel, x.shape[1], columns, batch), x.dtype)  # padding at the sides stays zero
    taps = geometry.taps()
    for row in rows:
        first, last, source = geometry.rows_under(row)
        patches[:first] = 0
        patches[last:] = 0
        for tap in taps:
            start = tap.pixel // stride
            pixels = x[source : source + last - first, :, tap.pixel % stride, start : start + tap.last - tap.first]
            patches[first:last, tap.column, :, tap.first : tap.last] = pixels
        yield row, patches.reshape(-1, columns * batch)


def _correlate_patches(x: Array, weight: Array, geometry: Geometry, out: Array) -> Task:
    matrix = weight.transpose(0, 2, 3, 1).reshape(len(weight), -1)  # (O, kernel^2 I)

    def task(rows: range) -> None:
        for row, patches in _patches(x, rows, geometry):
            np.matmul(matrix, patches, out=out[row].reshape(len(weight), -1))

    return task


def _transposed_patches(grad: Array, weight: Array, geometry: Geometry, out: Array) -> Task:
    # One product has all that a row of grad adds to the image: kernel^2 images of one row each.
    (places, outputs, columns, batch), kernel, stride = grad.shape, geometry.kernel, geometry.stride
    matrix = weight.transpose(2, 3, 1, 0).reshape(-1, outputs)  # (kernel^2 I, O)
    taps = geometry.taps()

    def task(rows: range) -> None:
        out[rows.start : rows.stop] = 0
        patches = np.empty((kernel, kernel, weight.shape[1], columns, batch), grad.dtype)
        for place in range(places):
            first, last, source = geometry.rows_under(place)
            pixels = [(i, source + i - first) for i in range(first, last) if source + i - first in rows]
            if pixels:
                np.matmul(matrix, grad[place].reshape(outputs, -1), out=patches.reshape(-1, columns * batch))
            for i, row in pixels:
                for tap in taps:
                    stop = tap.pixel + stride * (tap.last - tap.first)
                    out[row, :, tap.pixel : stop : stride] += patches[i, tap.column, :, tap.first : tap.last]

    return task


def _weight_patches(grad: Array, x: Array, geometry: Geometry) -> Task:
    outputs, kernel, inputs = grad.shape[1], geometry.kernel, x.shape[1]

    def task(rows: range) -> Array:
        total = np.zeros((outputs, kernel * kernel * inputs), grad.dtype)
        for row, patches in _patches(x, rows, geometry):
            total += grad[row].reshape(outputs, -1) @ patches.T
        return total.reshape(outputs, kernel, kernel, inputs).transpose(0, 3, 1, 2)

    return task
