"""Linear layers, cross-entropy, embedding: each forward next to its backward, derived by hand.

CuPy runs this code, and all array code of benchmarks/nn, as it was written for NumPy: unfused, one kernel for each
operation. Its rows show what a port of NumPy code reaches, not what CuPy can (`ElementwiseKernel`, `cupy.fuse`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = Any
Cache = tuple[Any, ...]


def linear(xp: Any, x: Array, weight: Array, bias: Array) -> tuple[Array, Cache]:
    """Return x W^T + b for x (..., I), weight (O, I), bias (O)."""
    rows = x.reshape(-1, x.shape[-1])  # one large product instead of a batch of small ones
    out = rows @ weight.T
    out += bias
    return out.reshape(*x.shape[:-1], -1), (rows, weight)


def linear_backward(xp: Any, grad: Array, cache: Cache) -> tuple[Array, Array, Array]:
    """Return the gradients of x, weight, bias: g W, g^T x, and the sum of g over all rows."""
    _, weight = cache
    dweight, dbias = linear_parameters_backward(xp, grad, cache)
    dx = grad.reshape(-1, grad.shape[-1]) @ weight
    return dx.reshape(*grad.shape[:-1], -1), dweight, dbias


def linear_parameters_backward(xp: Any, grad: Array, cache: Cache) -> tuple[Array, Array]:
    """Return the gradients of weight and bias only: all that a first layer needs."""
    rows, _ = cache
    grad = grad.reshape(-1, grad.shape[-1])
    return grad.T @ rows, grad.sum(axis=0)


def cross_entropy(xp: Any, logits: Array, targets: Array) -> tuple[Array, Cache]:
    """Return the mean of -log softmax(logits)[target] over all rows, a 0-d array.

    logits (..., V); targets (...), integers below V. The maximum is taken off first, so that no
    exponential overflows.
    """
    rows = logits.reshape(-1, logits.shape[-1])
    picks = (xp.arange(len(rows)), targets.reshape(-1))
    shifted = rows - rows.max(axis=-1, keepdims=True)
    picked = shifted[picks]
    exponentials = xp.exp(shifted, out=shifted)
    totals = exponentials.sum(axis=-1, keepdims=True)
    loss = (xp.log(totals[:, 0]) - picked).mean()
    exponentials /= totals
    return loss, (exponentials, picks, logits.shape)


def cross_entropy_backward(xp: Any, cache: Cache) -> Array:
    """Return (softmax - onehot(target)) / rows, in the shape of the logits. The cache is used up."""
    probabilities, picks, shape = cache
    probabilities[picks] -= 1
    probabilities /= len(probabilities)
    return probabilities.reshape(shape)


def embedding(xp: Any, ids: Array, weight: Array) -> tuple[Array, Cache]:
    """Gather: return the row of weight (V, C) for each of ids (...), as (..., C)."""
    return weight[ids], (ids, weight.shape)


def embedding_backward(xp: Any, grad: Array, cache: Cache) -> Array:
    """Scatter-add: return the sum of the gradients of all places where a row was used, as (V, C)."""
    ids, shape = cache
    total = xp.zeros(shape, dtype=grad.dtype)
    scatter_add(xp, total, ids, grad)
    return total


def scatter_add(xp: Any, total: Array, ids: Array, values: Array) -> None:
    """Add values (..., C) to the rows of total (V, C) that ids (...) name, in place; rows may repeat.

    On NumPy every element gets its own index: it has a fast path for adding in one dimension, several times as fast
    as adding rows. CuPy adds rows atomically as they are; an index for each element would be twice the traffic.
    """
    if xp is not np:
        xp.add.at(total, ids, values)
        return
    width = total.shape[-1]
    index = ids.reshape(-1, 1) * width + xp.arange(width)
    xp.add.at(total.reshape(-1), index.reshape(-1), values.reshape(-1))
