"""Functions of one element at a time, and the loss of a yes-or-no answer."""

from __future__ import annotations

import math
from typing import Any

from benchmarks.nn.functions import Array, Cache


def relu(xp: Any, x: Array) -> tuple[Array, Cache]:
    """Return max(x, 0)."""
    out = xp.maximum(x, 0)
    return out, (out,)


def relu_backward(xp: Any, grad: Array, cache: Cache) -> Array:
    """Return the gradient where the output was above zero, and zero elsewhere."""
    (out,) = cache
    return grad * (out > 0)


def leaky_relu(xp: Any, x: Array, slope: float = 0.2) -> tuple[Array, Cache]:
    """Return x above zero and slope x below."""
    return xp.maximum(x, slope * x), (x, slope)


def leaky_relu_backward(xp: Any, grad: Array, cache: Cache) -> Array:
    """Return the gradient, multiplied by the slope where the input was below zero."""
    x, slope = cache
    return xp.where(x > 0, grad, slope * grad)


def tanh(xp: Any, x: Array) -> tuple[Array, Cache]:
    """Return the hyperbolic tangent of every element."""
    out = xp.tanh(x)
    return out, (out,)


def tanh_backward(xp: Any, grad: Array, cache: Cache) -> Array:
    """Return g (1 - tanh(x)^2)."""
    (out,) = cache
    return grad * (1 - out * out)


def sigmoid(xp: Any, x: Array) -> tuple[Array, Cache]:
    """Return 1 / (1 + exp(-x)), written as (1 + tanh(x / 2)) / 2, which never overflows."""
    out = xp.tanh(x * 0.5)
    out += 1
    out *= 0.5
    return out, (out,)


def sigmoid_backward(xp: Any, grad: Array, cache: Cache) -> Array:
    """Return g s (1 - s)."""
    (out,) = cache
    return grad * out * (1 - out)


_ROOT = math.sqrt(2 / math.pi)
_CUBIC = 0.044715


def gelu(xp: Any, x: Array) -> tuple[Array, Cache]:
    """Return x / 2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))): GELU as GPT-2 has it (arXiv:1606.08415, section 2)."""
    inner = x * x
    inner *= _ROOT * _CUBIC
    inner += _ROOT
    inner *= x
    t = xp.tanh(inner, out=inner)
    out = t + 1
    out *= x
    out *= 0.5
    return out, (x, t)


def gelu_backward(xp: Any, grad: Array, cache: Cache) -> Array:
    """Return g ((1 + t) / 2 + x / 2 (1 - t^2) sqrt(2/pi) (1 + 3 * 0.044715 x^2)), where t is the forward's tanh."""
    x, t = cache
    slope = x * x
    slope *= 3 * _ROOT * _CUBIC
    slope += _ROOT
    slope *= x
    slope *= 1 - t * t
    slope += t
    slope += 1
    slope *= 0.5
    slope *= grad
    return slope


def binary_cross_entropy(xp: Any, logits: Array, target: float) -> tuple[Array, Cache]:
    """Return the mean of -log sigmoid(logits) for target 1, or of -log(1 - sigmoid(logits)) for target 0.

    Written as max(x, 0) - x target + log(1 + exp(-|x|)), which never overflows.
    """
    loss = xp.maximum(logits, 0) - logits * target + xp.log1p(xp.exp(-xp.abs(logits)))
    return loss.mean(), (logits, target)


def binary_cross_entropy_backward(xp: Any, cache: Cache) -> Array:
    """Return (sigmoid(logits) - target) / size."""
    logits, target = cache
    probability, _ = sigmoid(xp, logits)
    return (probability - target) / logits.size
