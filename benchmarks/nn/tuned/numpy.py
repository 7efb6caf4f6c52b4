"""The forms for NumPy: in blocks that stay in a cache, on several threads (blocks.py).

The formulas are those of the plain forms. Results differ by rounding only, since sums have another order.
"""

from __future__ import annotations

import math
from functools import partial
from itertools import pairwise, product

import numpy as np

from .. import activations, attention, dit, functions, normalisation
from ..functions import Array, Cache
from . import Form, Tuned, blocks, numpy_images, rows_of
from .blocks import in_blocks, on_threads

QUERIES = 128  # queries in a block of attention; 64 and 256 are up to 10 % slower, 512 is 20 % slower (causal)
FEWEST_ROWS = 8  # rows per round in `scatter_add`, below which adding single elements is as fast


# ---------------------------------------------------------------- attention


def softmax(xp: Tuned, x: Array) -> tuple[Array, Cache]:
    """Softmax in blocks of rows, and with one division per row instead of one per element.

    The sums are products with a vector of ones, which BLAS computes faster than NumPy adds.
    """
    rows, out = rows_of(x), np.empty(x.shape, x.dtype)
    results, ones = rows_of(out), np.ones(x.shape[-1], x.dtype)

    def block(part: slice) -> None:
        inside = np.subtract(rows[part], rows[part].max(axis=-1, keepdims=True), out=results[part])
        np.exp(inside, out=inside)
        inside *= (1 / (inside @ ones))[:, None]

    in_blocks(xp.threads, block, len(rows), x.shape[-1] * x.itemsize)
    return out, (out,)


def attention_forward(xp: Tuned, q: Array, k: Array, v: Array, *, causal: bool) -> tuple[Array, Cache]:
    """Attention block by block: some heads of one sequence, and QUERIES of their queries.

    The scores of a block stay in the cache until they have been used. For causal attention, keys after the block's last
    query are left out, which is nearly half of the work. The weights are not kept, as in FlashAttention
    (arXiv:2205.14135): the backward pass computes them again, from the logarithms of their sums.
    """
    (batch, heads, time, _), keys = q.shape, k.shape[-2]
    if time == 1 or batch * heads * time * keys * q.itemsize <= 2 * blocks.BLOCK:
        return attention.attention.plain(xp, q, k, v, causal=causal)
    out, logarithms = np.empty(q.shape, q.dtype), np.empty((*q.shape[:-1], 1), q.dtype)
    scores = _Scores(q, k, causal=causal)

    def group(b: int, some: slice) -> None:
        for part, seen in scores.parts:
            weights = scores.block(b, some, part, seen)
            largest = weights.max(axis=-1, keepdims=True)
            weights -= largest
            np.exp(weights, out=weights)
            total = weights.sum(axis=-1, keepdims=True)
            mixed = np.matmul(weights, v[b, some, :seen], out=out[b, some, part])
            mixed /= total
            np.add(largest, np.log(total, out=total), out=logarithms[b, some, part])

    on_threads(xp.threads, [partial(group, *each) for each in scores.groups])
    return out, (q, k, v, logarithms, out, scores)


def attention_backward(xp: Tuned, grad: Array, cache: Cache) -> tuple[Array, Array, Array]:
    """Go back through the same blocks; the sum of g p over the keys is that of grad out over the channels."""
    q, k, v, *rest = cache
    if len(rest) == 1:  # of the plain form
        return attention.attention_backward.plain(xp, grad, cache)
    logarithms, out, scores = rest
    dq = np.empty(q.shape, q.dtype)
    dk, dv = np.zeros(k.shape, k.dtype), np.zeros(v.shape, v.dtype)

    def group(b: int, some: slice) -> None:
        for part, seen in scores.parts:
            g, before = grad[b, some, part], slice(0, seen)
            weights = scores.block(b, some, part, seen)
            weights -= logarithms[b, some, part]
            np.exp(weights, out=weights)
            dv[b, some, before] += weights.swapaxes(-1, -2) @ g
            dscores = g @ v[b, some, before].swapaxes(-1, -2)
            dscores -= (g * out[b, some, part]).sum(axis=-1, keepdims=True)
            dscores *= weights
            dscores *= scores.scale
            np.matmul(dscores, k[b, some, before], out=dq[b, some, part])
            dk[b, some, before] += dscores.swapaxes(-1, -2) @ q[b, some, part]

    on_threads(xp.threads, [partial(group, *each) for each in scores.groups])
    return dq, dk, dv


class _Scores:
    """The scores of attention, in blocks.

    groups: for each task, a sequence and as many of its heads as fit in a block. parts: for each block, its queries and
    the number of keys that they see.
    """

    def __init__(self, q: Array, k: Array, *, causal: bool) -> None:
        (batch, heads, time, depth), keys = q.shape, k.shape[-2]
        size = min(QUERIES, time)
        self.q, self.k, self.scale = q, k, 1 / math.sqrt(depth)
        self.mask = attention.causal_mask(np, size, size, q.dtype) if causal else None
        step = max(1, blocks.BLOCK // (size * keys * q.itemsize))
        self.groups = list(product(range(batch), [slice(i, i + step) for i in range(0, heads, step)]))
        ends = [(start, min(start + size, time)) for start in range(0, time, size)]
        self.parts = [(slice(start, end), keys - time + end if causal else keys) for start, end in ends]

    def block(self, b: int, some: slice, part: slice, seen: int) -> Array:
        """Return the scores (heads, queries, seen) of a block; only the last keys that it sees need a mask."""
        scores = (self.q[b, some, part] * self.scale) @ self.k[b, some, :seen].swapaxes(-1, -2)
        if self.mask is not None:
            count = part.stop - part.start
            scores[..., seen - count :] += self.mask[:count, :count]
        return scores


# ---------------------------------------------------------------- normalisation


def _normalised(x: Array, out: Array, epsilon: float) -> tuple[Array, Array]:
    """Write x (rows, C), normalised, to `out`; return means and 1 / sqrt(variance + epsilon), (rows, 1) each."""
    mean = x.mean(axis=-1, keepdims=True)
    np.subtract(x, mean, out=out)
    inverse = np.einsum("ij,ij->i", out, out)[:, None]  # a sum of squares without an array of squares
    inverse /= x.shape[-1]
    inverse += epsilon
    np.sqrt(inverse, out=inverse)
    np.reciprocal(inverse, out=inverse)
    out *= inverse
    return mean, inverse


def layernorm(xp: Tuned, x: Array, weight: Array, bias: Array) -> tuple[Array, Cache]:
    """Layer normalisation in blocks of rows. The cache has means and deviations instead of a second matrix."""
    rows, out = rows_of(x), np.empty(x.shape, x.dtype)
    results = rows_of(out)

    def block(part: slice) -> tuple[Array, Array]:
        inside = results[part]
        statistics = _normalised(rows[part], inside, normalisation.EPSILON)
        inside *= weight
        inside += bias
        return statistics

    statistics = in_blocks(xp.threads, block, len(rows), x.shape[-1] * x.itemsize)
    means, inverses = (np.concatenate(parts) for parts in zip(*statistics, strict=True))
    return out, (rows, means, inverses, weight)


def layernorm_backward(xp: Tuned, grad: Array, cache: Cache) -> tuple[Array, Array, Array]:
    """Go back through layer normalisation in blocks of rows, which normalise their rows of x again."""
    x, means, inverses, weight = cache
    rows, dx = rows_of(grad), np.empty(grad.shape, grad.dtype)
    results, width = rows_of(dx), grad.shape[-1]

    def block(part: slice) -> tuple[Array, Array]:
        normed = x[part] - means[part]
        normed *= inverses[part]
        g = rows[part]
        scratch = g * normed
        dweight, dbias = scratch.sum(axis=0), g.sum(axis=0)
        h = np.multiply(g, weight, out=results[part])
        along = np.einsum("ij,ij->i", h, normed)[:, None]
        along /= width
        h -= h.mean(axis=-1, keepdims=True)
        normed *= along
        h -= normed
        h *= inverses[part]
        return dweight, dbias

    parts = in_blocks(xp.threads, block, len(rows), width * grad.itemsize)
    dweight, dbias = (np.sum(sums, axis=0) for sums in zip(*parts, strict=True))
    return dx, dweight, dbias


def modulated(xp: Tuned, x: Array, shift: Array, scale: Array) -> Array:
    """Normalise and modulate image by image: the stream of one image (T, C) is about one block."""
    out = np.empty(x.shape, x.dtype)

    def image(b: int) -> None:
        _normalised(x[b], out[b], dit.EPSILON)
        out[b] *= 1 + scale[b]
        out[b] += shift[b]

    on_threads(xp.threads, [partial(image, b) for b in range(len(x))])
    return out


# ---------------------------------------------------------------- element by element


def gelu(xp: Tuned, x: Array) -> tuple[Array, Cache]:
    """GELU in blocks."""
    flat = x.reshape(-1)
    out, t = np.empty(x.shape, x.dtype), np.empty(x.shape, x.dtype)
    results, tanhs = out.reshape(-1), t.reshape(-1)

    def block(part: slice) -> None:
        inner = np.multiply(flat[part], flat[part], out=tanhs[part])
        inner *= activations.ROOT * activations.CUBIC
        inner += activations.ROOT
        inner *= flat[part]
        np.tanh(inner, out=inner)
        inside = np.add(inner, 1, out=results[part])
        inside *= flat[part]
        inside *= 0.5

    in_blocks(xp.threads, block, x.size, x.itemsize)
    return out, (x, t)


def gelu_backward(xp: Tuned, grad: Array, cache: Cache) -> Array:
    """Go back through GELU in blocks."""
    x, t, g = (array.reshape(-1) for array in (*cache, grad))
    dx = np.empty(grad.shape, grad.dtype)
    results = dx.reshape(-1)

    def block(part: slice) -> None:
        slope = np.multiply(x[part], x[part], out=results[part])
        slope *= 3 * activations.ROOT * activations.CUBIC
        slope += activations.ROOT
        slope *= x[part]
        left = t[part] * t[part]
        slope *= np.subtract(1, left, out=left)
        slope += t[part]
        slope += 1
        slope *= 0.5
        slope *= g[part]

    in_blocks(xp.threads, block, x.size, x.itemsize)
    return dx


# ---------------------------------------------------------------- embeddings, optimisers


def embedding(xp: Tuned, ids: Array, weight: Array) -> tuple[Array, Cache]:
    """Gather rows in blocks. `take` copies whole rows, and with `mode` it needs no temporary array for them."""
    places, out = ids.reshape(-1), np.empty((*ids.shape, weight.shape[-1]), weight.dtype)
    rows = rows_of(out)

    def block(part: slice) -> None:
        np.take(weight, places[part], axis=0, out=rows[part], mode="wrap")

    in_blocks(xp.threads, block, len(rows), weight.shape[-1] * weight.itemsize)
    return out, (ids,)


def scatter_add(xp: Tuned, total: Array, ids: Array, values: Array) -> None:
    """Scatter-add in rounds: the first place of every id, then the second of every id, and so on.

    In one round no id repeats, so `total[ids] += values` adds whole rows. Each thread has its own ids, so that no two
    threads add to the same row. If few ids repeat very often, rounds are short, and the plain form is used.
    """
    places, rows = ids.reshape(-1), values.reshape(-1, values.shape[-1])
    order = np.argsort(places, kind="stable")
    places = places[order]
    starts = np.flatnonzero(np.diff(places, prepend=places[:1] - 1))  # where a new id begins
    rank = np.arange(len(places)) - np.repeat(starts, np.diff(starts, append=len(places)))
    if len(places) < FEWEST_ROWS * (rank.max(initial=0) + 1):
        functions.scatter_add.plain(np, total, ids, values)
        return
    cuts = np.searchsorted(places, np.linspace(0, len(total), xp.threads + 1))

    def some(begin: int, end: int) -> None:
        own = slice(begin, end)
        by_rank = np.argsort(rank[own], kind="stable")
        for once in np.split(by_rank, np.cumsum(np.bincount(rank[own]))[:-1]):
            total[places[own][once]] += rows[order[own][once]]

    on_threads(xp.threads, [partial(some, *ends) for ends in pairwise(cuts) if ends[0] < ends[1]])


def sgd(xp: Tuned, vector: Array, grad: Array, rate: float) -> None:
    """SGD in blocks."""

    def block(part: slice) -> None:
        grad[part] *= rate
        vector[part] -= grad[part]

    in_blocks(xp.threads, block, vector.size, vector.itemsize)


def adamw(xp: Tuned, vector: Array, mean: Array, square: Array, grad: Array, constants: tuple[float, ...]) -> None:
    """AdamW in blocks: all 14 operations on a block of the vector, both averages and the gradient."""
    keep, beta1, beta2, rate, correction, epsilon = constants

    def block(part: slice) -> None:
        w, m, v, g = vector[part], mean[part], square[part], grad[part]
        scratch = g * (1 - beta1)
        m *= beta1
        m += scratch
        g *= g
        g *= 1 - beta2
        v *= beta2
        v += g
        np.sqrt(v, out=scratch)
        scratch *= 1 / correction
        scratch += epsilon
        np.divide(m, scratch, out=scratch)
        scratch *= rate
        w *= keep
        w -= scratch

    in_blocks(xp.threads, block, vector.size, vector.itemsize)


FORMS: dict[str, Form] = {
    "softmax": softmax,
    "attention": attention_forward,
    "attention_backward": attention_backward,
    "layernorm": layernorm,
    "layernorm_backward": layernorm_backward,
    "modulated": modulated,
    "gelu": gelu,
    "gelu_backward": gelu_backward,
    "embedding": embedding,
    "scatter_add": scatter_add,
    "sgd": sgd,
    "adamw": adamw,
    **numpy_images.FORMS,
}
