"""Element-wise activation functions, and binary cross-entropy.

For out = f(x) element by element, the backward pass is dL/dx = g f'(x), with g = dL/dout. Where f'(x) can be written in
terms of f(x), the cache keeps the output, and the input need not stay in memory.
"""

from __future__ import annotations

import math
from typing import Any

from .functions import Array, Cache
from .tuned import has_forms


@has_forms
def relu(xp: Any, x: Array) -> tuple[Array, Cache]:
    """Return max(x, 0)."""
    out = xp.maximum(x, 0)
    return out, (out,)


@has_forms
def relu_backward(xp: Any, grad: Array, cache: Cache) -> Array:
    """Return dL/dx = g where the output is positive, else 0. At x = 0, 0 is used, as in PyTorch."""
    (out,) = cache
    return grad * (out > 0)  # out > 0 exactly where x > 0


@has_forms
def leaky_relu(xp: Any, x: Array, slope: float = 0.2) -> tuple[Array, Cache]:
    """Return x where x > 0, else slope * x; slope is between 0 and 1."""
    return xp.maximum(x, slope * x), (x, slope)


@has_forms
def leaky_relu_backward(xp: Any, grad: Array, cache: Cache) -> Array:
    """Return dL/dx = g where the input is positive, else slope * g."""
    x, slope = cache
    return xp.where(x > 0, grad, slope * grad)


def tanh(xp: Any, x: Array) -> tuple[Array, Cache]:
    """Return the hyperbolic tangent of every element."""
    out = xp.tanh(x)
    return out, (out,)


@has_forms
def tanh_backward(xp: Any, grad: Array, cache: Cache) -> Array:
    """Return dL/dx = g (1 - tanh(x)^2)."""
    (out,) = cache
    return grad * (1 - out * out)


@has_forms
def sigmoid(xp: Any, x: Array) -> Array:
    """Return 1 / (1 + exp(-x)), computed as (1 + tanh(x / 2)) / 2: exp(-x) can overflow, tanh cannot."""
    out = xp.tanh(x * 0.5)
    out += 1
    out *= 0.5
    return out


ROOT = math.sqrt(2 / math.pi)
CUBIC = 0.044715


@has_forms
def gelu(xp: Any, x: Array) -> tuple[Array, Cache]:
    """Return GELU in the tanh form that GPT-2 uses (arXiv:1606.08415, section 2).

    out = x / 2 (1 + tanh(u)) with u = sqrt(2/pi) (x + 0.044715 x^3). The operations work in place: each temporary array
    would be one more write and read of memory.
    """
    inner = x * x
    inner *= ROOT * CUBIC
    inner += ROOT
    inner *= x  # u = x (sqrt(2/pi) + sqrt(2/pi) 0.044715 x^2)
    t = xp.tanh(inner, out=inner)
    out = t + 1
    out *= x
    out *= 0.5
    return out, (x, t)


@has_forms
def gelu_backward(xp: Any, grad: Array, cache: Cache) -> Array:
    """Return dL/dx = g ((1 + t) / 2 + x / 2 (1 - t^2) du/dx), with t = tanh(u) from the forward pass.

    This is the product rule on x / 2 times (1 + t), with dt/du = 1 - t^2 and
    du/dx = sqrt(2/pi) (1 + 3 * 0.044715 x^2).
    """
    x, t = cache
    slope = x * x
    slope *= 3 * ROOT * CUBIC
    slope += ROOT  # du/dx
    slope *= x
    slope *= 1 - t * t  # x (1 - t^2) du/dx; t stays as it is: the cache holds it
    slope += t
    slope += 1
    slope *= 0.5  # d(out)/dx
    slope *= grad
    return slope


@has_forms
def binary_cross_entropy(xp: Any, logits: Array, target: float) -> tuple[Array, Cache]:
    """Return the mean binary cross-entropy of all logits, a 0-d array; they share one target, 0 or 1.

    The loss of a logit x is -log sigmoid(x) for target 1 and -log(1 - sigmoid(x)) for target 0. Both are computed as
    max(x, 0) - x target + log(1 + exp(-|x|)), which cannot overflow.
    """
    loss = xp.maximum(logits, 0) - logits * target + xp.log1p(xp.exp(-xp.abs(logits)))
    return loss.mean(), (logits, target)


@has_forms
def binary_cross_entropy_backward(xp: Any, cache: Cache) -> Array:
    """Return dL/dlogits = (sigmoid(logits) - target) / size, for a loss that is a mean over `size` logits."""
    logits, target = cache
    return (sigmoid(xp, logits) - target) / logits.size
