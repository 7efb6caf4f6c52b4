"""The small functions: each forward next to its backward, derived by hand."""

from __future__ import annotations

from typing import Any

Array = Any
Cache = tuple[Any, ...]


def linear(xp: Any, x: Array, weight: Array, bias: Array) -> tuple[Array, Cache]:  # noqa: ARG001 - one shape for all
    """Return x W^T + b for x (..., I), weight (O, I), bias (O)."""
    out = x @ weight.T
    out += bias
    return out, (x, weight)


def linear_backward(xp: Any, grad: Array, cache: Cache) -> tuple[Array, Array, Array]:
    """Return the gradients of x, weight, bias: g W, g^T x, and the sum of g over all rows."""
    x, weight = cache
    dweight, dbias = linear_parameters_backward(xp, grad, cache)
    return (grad @ weight).reshape(x.shape), dweight, dbias


def linear_parameters_backward(xp: Any, grad: Array, cache: Cache) -> tuple[Array, Array]:  # noqa: ARG001
    """Return the gradients of weight and bias only: all that a first layer needs."""
    x, _ = cache
    rows = grad.reshape(-1, grad.shape[-1])
    return rows.T @ x.reshape(-1, x.shape[-1]), rows.sum(axis=0)


def relu(xp: Any, x: Array) -> tuple[Array, Cache]:
    """Return max(x, 0)."""
    out = xp.maximum(x, 0)
    return out, (out,)


def relu_backward(xp: Any, grad: Array, cache: Cache) -> Array:  # noqa: ARG001
    """Return the gradient where the output was above zero, and zero elsewhere."""
    (out,) = cache
    return grad * (out > 0)


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


def cross_entropy_backward(xp: Any, cache: Cache) -> Array:  # noqa: ARG001
    """Return (softmax - onehot(target)) / rows, in the shape of the logits. The cache is used up."""
    probabilities, picks, shape = cache
    probabilities[picks] -= 1
    probabilities /= len(probabilities)
    return probabilities.reshape(shape)
