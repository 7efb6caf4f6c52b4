"""Layer and batch normalisation: subtract the mean, divide by the standard deviation, scale and shift.

Layer normalisation takes mean and variance over the channels of each token, batch normalisation over all images and
pixels of each channel. The backward formula is the same for both (Ioffe and Szegedy, arXiv:1502.03167, section 3).
"""

from __future__ import annotations

from typing import Any

from .functions import Array, Cache
from .tuned import has_forms

EPSILON = 1e-5  # added to the variance, so that nothing is divided by zero; PyTorch's default for both
MOMENTUM = 0.1  # weight of the new batch in the running averages of batch normalisation; PyTorch's default


def normalise(xp: Any, x: Array, epsilon: float) -> tuple[Array, Array]:
    """Return (x - mean) / sqrt(variance + epsilon) and 1 / sqrt(variance + epsilon) for x (..., C).

    Shapes (..., C) and (..., 1). Mean and variance are those of the last axis; the variance is the biased one, the mean
    of the squares.
    """
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred * centred).mean(axis=-1, keepdims=True)
    inverse = 1 / xp.sqrt(variance + epsilon)
    centred *= inverse
    return centred, inverse


@has_forms
def layernorm(xp: Any, x: Array, weight: Array, bias: Array) -> tuple[Array, Cache]:
    """Return weight n + bias with n = (x - mean) / sqrt(variance + 1e-5) over the last axis of x (..., C).

    weight and bias (C). Source: Ba et al., arXiv:1607.06450.
    """
    normed, inverse = normalise(xp, x, EPSILON)
    return normed * weight + bias, (normed, inverse, weight)


@has_forms
def layernorm_backward(xp: Any, grad: Array, cache: Cache) -> tuple[Array, Array, Array]:
    """Return dL/dx (..., C), dL/dweight (C), dL/dbias (C) for grad g = dL/dout (..., C).

    With s = sqrt(variance + epsilon), n = (x - mean) / s and h = dL/dn = g weight:

        dL/dx = (h - mean(h) - n mean(h n)) / s        means over the last axis

    Mean and s depend on every x of the row. That adds two terms: mean(h) is the path through the mean, n mean(h n)
    the path through s.
    """
    normed, inverse, weight = cache
    rows = tuple(range(grad.ndim - 1))
    # Every row uses the same weight and bias: their gradients are sums over all rows.
    dweight, dbias = (grad * normed).sum(axis=rows), grad.sum(axis=rows)
    dx = grad * weight  # h
    along = (dx * normed).mean(axis=-1, keepdims=True)  # mean(h n), before `dx` changes in place
    dx -= dx.mean(axis=-1, keepdims=True)
    dx -= normed * along
    dx *= inverse  # 1 / s
    return dx, dweight, dbias


_PLACES = (1, 2, 3)  # all axes of images (C, B, height, width) except the channels


@has_forms
def batchnorm(
    xp: Any, x: Array, weight: Array, bias: Array, mean: Array, variance: Array, copies: int = 1
) -> tuple[Array, Cache]:
    """Return weight (x - batch mean) / sqrt(batch variance + 1e-5) + bias for x (C, B, height, width).

    weight and bias (C). Batch mean and variance (C) are taken over images and pixels. The running `mean` and `variance`
    (C) move a tenth of the way to those of the batch, in place. As in PyTorch, the batch is normalised by its biased
    variance (a sum divided by `count`), and the running variance follows the unbiased one (divided by `count - 1`).

    copies: how often each sample of x occurs in the whole batch that x stands for (batches.py). Repeating all samples
    equally often changes `count`, and nothing else.
    """
    batch_mean = x.mean(axis=_PLACES)
    centred = x - _channels(batch_mean)
    batch_variance = (centred * centred).mean(axis=_PLACES)
    count = copies * (x.size // len(x))  # values per channel: images times pixels
    mean += MOMENTUM * (batch_mean - mean)
    variance += MOMENTUM * (batch_variance * (count / (count - 1)) - variance)
    inverse = 1 / xp.sqrt(batch_variance + EPSILON)
    centred *= _channels(inverse)
    out = centred * _channels(weight)
    out += _channels(bias)
    return out, (centred, inverse, weight)


@has_forms
def batchnorm_backward(xp: Any, grad: Array, cache: Cache) -> tuple[Array, Array, Array]:
    """Return dL/dx (C, B, height, width), dL/dweight (C), dL/dbias (C) for grad g = dL/dout.

    The formula of `layernorm_backward` with means over images and pixels. There the weight is a constant, which moves
    out of the means: dL/dx = weight (g - mean(g) - n mean(g n)) / s. Both means are at hand: mean(g) is dbias / count
    and mean(g n) is dweight / count.
    """
    normed, inverse, weight = cache
    count = grad.size // len(grad)  # images times pixels
    dweight, dbias = (grad * normed).sum(axis=_PLACES), grad.sum(axis=_PLACES)
    dx = grad - _channels(dbias / count)
    dx -= normed * _channels(dweight / count)
    dx *= _channels(weight * inverse)
    return dx, dweight, dbias


@has_forms
def batchnorm_inference(xp: Any, x: Array, weight: Array, bias: Array, mean: Array, variance: Array) -> Array:
    """Return x (C, B, height, width) normalised by the running averages, which are constants.

    weight (x - mean) / s + bias is then x scale + shift, with one scale and one shift per channel.
    """
    scale = weight / xp.sqrt(variance + EPSILON)
    out = x * _channels(scale)
    out += _channels(bias - mean * scale)
    return out


def _channels(values: Array) -> Array:
    """Return values (C) as (C, 1, 1, 1), which broadcasts over (C, B, height, width)."""
    return values[:, None, None, None]
