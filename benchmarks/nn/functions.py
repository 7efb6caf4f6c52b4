"""Linear layers, cross-entropy, embedding: each forward pass is followed by its hand-written backward pass.

CuPy runs this code, and all array code of benchmarks/nn, as written for NumPy: nothing is fused, and each operation is
a kernel of its own. CuPy's rows of `default` show the speed of ported NumPy code. Those of `tuned` show code that is
written for CuPy, in which one kernel does what several do here (tuned/cupy.py).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .tuned import has_forms

Array = Any
Cache = tuple[Any, ...]


def linear(xp: Any, x: Array, weight: Array, bias: Array) -> tuple[Array, Cache]:
    """Return x W^T + b (..., O) for x (..., I), weight W (O, I), bias b (O)."""
    rows = x.reshape(-1, x.shape[-1])  # (rows, I): one large product is faster than a batch of small ones
    out = rows @ weight.T
    out += bias  # in place: `rows @ weight.T + bias` would write a second array of this size
    return out.reshape(*x.shape[:-1], -1), (rows, weight)


def linear_backward(xp: Any, grad: Array, cache: Cache) -> tuple[Array, Array, Array]:
    """Return dL/dx (..., I), dL/dweight (O, I), dL/dbias (O) for grad g = dL/dout (..., O).

    For each row r: out[r, o] = sum_i x[r, i] W[o, i] + b[o]. By the chain rule, with g and x as (rows, ...):

        dL/dx = g W            (rows, I)   an input contributes to every output: sum over o
        dL/dW = g^T x          (O, I)      every row uses the same weights: sum over the rows
        dL/db = sum of g[r]    (O)         every row uses the same bias: sum over the rows
    """
    _, weight = cache
    dweight, dbias = linear_parameters_backward(xp, grad, cache)
    dx = grad.reshape(-1, grad.shape[-1]) @ weight  # dL/dx = g W
    return dx.reshape(*grad.shape[:-1], -1), dweight, dbias


@has_forms
def linear_parameters_backward(xp: Any, grad: Array, cache: Cache) -> tuple[Array, Array]:
    """Return dL/dweight (O, I) and dL/dbias (O), without dL/dx: a first layer's input is data and needs no gradient."""
    rows, _ = cache
    grad = grad.reshape(-1, grad.shape[-1])
    return grad.T @ rows, grad.sum(axis=0)  # dL/dW = g^T x and dL/db = sum of g[r]: see `linear_backward`


@has_forms
def cross_entropy(xp: Any, logits: Array, targets: Array) -> tuple[Array, Cache]:
    """Return the mean over all rows of -log softmax(logits)[target], a 0-d array.

    logits (..., V); targets (...), integers below V. For logits z, target t and m = max(z):

        -log softmax(z)[t] = log(sum_j exp(z_j - m)) - (z_t - m)

    Subtracting m does not change the result, and no exponential can overflow.
    """
    rows = logits.reshape(-1, logits.shape[-1])
    picks = (xp.arange(len(rows)), targets.reshape(-1))  # indexes one element per row: the target's
    shifted = rows - rows.max(axis=-1, keepdims=True)
    picked = shifted[picks]  # z_t - m (rows): a copy, since the next line overwrites `shifted`
    exponentials = xp.exp(shifted, out=shifted)  # in place: (rows, V) is the largest array of a language model
    totals = exponentials.sum(axis=-1, keepdims=True)
    loss = (xp.log(totals[:, 0]) - picked).mean()
    exponentials /= totals  # now softmax(logits): all that the backward pass needs
    return loss, (exponentials, picks, logits.shape)


@has_forms
def cross_entropy_backward(xp: Any, cache: Cache) -> Array:
    """Return dL/dlogits = (softmax(logits) - onehot(target)) / rows, in the shape of the logits.

    For one row, L = log(sum_j exp(z_j)) - z_t has dL/dz_j = softmax(z)_j - [j = t]. The loss is a mean over the rows,
    hence the division. The cache is overwritten: call this once per forward pass.
    """
    probabilities, picks, shape = cache
    probabilities[picks] -= 1  # each row has one target: no index repeats, so plain `-=` counts every one
    probabilities /= len(probabilities)
    return probabilities.reshape(shape)


@has_forms
def embedding(xp: Any, ids: Array, weight: Array) -> tuple[Array, Cache]:
    """Return the rows of weight (V, C) for ids (...), integers below V, as (..., C): a gather.

    The backward pass is `scatter_add`: the gradient of a row is the sum of g over all places whose id is that row.
    """
    return weight[ids], (ids,)


@has_forms
def scatter_add(xp: Any, total: Array, ids: Array, values: Array) -> None:
    """Add values (..., C) to the rows of total (V, C) with indices ids (...), in place; ids may repeat.

    `total[ids] += values` would count only one of several equal ids; `add.at` counts them all.

    NumPy has a fast path for one-dimensional `add.at`, several times as fast as adding rows. So on NumPy every element
    gets its own index. CuPy adds rows with atomic operations; an index per element would double its memory traffic.
    """
    if xp is not np:
        xp.add.at(total, ids, values)
        return
    width = total.shape[-1]
    index = ids.reshape(-1, 1) * width + xp.arange(width)
    xp.add.at(total.reshape(-1), index.reshape(-1), values.reshape(-1))
