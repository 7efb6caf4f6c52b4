"""What networks of images are made of in JAX: convolutions, batch normalisation, pooling, with the channels last.

Inside the networks images are (B, height, width, C), the order of XLA's own convolutions on a CPU, and of Tensor Cores.
Weights keep PyTorch's layout (O, I, size, size), so that they are the same arrays on every backend.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from ..nn.normalisation import EPSILON, MOMENTUM
from .functions import Array, Params, widened

_LAYOUT = ("NHWC", "OIHW", "NHWC")


def channels_last(images: Array) -> Array:
    """Return images (B, C, height, width) as (B, height, width, C)."""
    return images.transpose(0, 2, 3, 1)


def channels_first(images: Array) -> Array:
    """Return images (B, height, width, C) as (B, C, height, width)."""
    return images.transpose(0, 3, 1, 2)


def conv(x: Array, weight: Array, stride: int, padding: int) -> Array:
    """Return the correlation of x (B, height, width, I) with weight (O, I, size, size), in the dtype of the weight."""
    sides = [(padding, padding)] * 2
    return lax.conv_general_dilated(x.astype(weight.dtype), weight, (stride, stride), sides, dimension_numbers=_LAYOUT)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def conv_transpose(x: Array, weight: Array, stride: int, padding: int) -> Array:
    """Return the transposed convolution of x (B, height, width, I) with weight (I, O, size, size), in its dtype.

    It is the backward pass of a convolution from O to I channels with that padding, which `lax` asks for as the zeros
    around the spread pixels: size - 1 - padding.
    """
    sides = [(weight.shape[2] - 1 - padding,) * 2] * 2
    return lax.conv_transpose(
        x.astype(weight.dtype), weight, (stride, stride), sides, dimension_numbers=_LAYOUT, transpose_kernel=True
    )


def _conv_transpose_forward(x: Array, weight: Array, stride: int, padding: int) -> tuple[Array, tuple[Array, Array]]:
    return conv_transpose(x, weight, stride, padding), (x, weight)


def _conv_transpose_backward(stride: int, padding: int, held: tuple[Array, Array], grad: Array) -> tuple[Array, Array]:
    """Return dL/dx and dL/dweight by convolutions of the gradient.

    XLA's own derivative by the weight spreads the pixels of x again, with zeros between them. On a CPU, that
    convolution took 20 to 40 times as long (jaxlib 0.10.2, layers of the DCGAN of standard).
    """
    x, weight = held
    dx, pulled = jax.vjp(lambda weight: conv(grad, weight, stride, padding), weight)
    return dx.astype(x.dtype), *pulled(x.astype(weight.dtype))


conv_transpose.defvjp(_conv_transpose_forward, _conv_transpose_backward)


class BatchNorms:
    """The batch normalisations of a training step; `after` has the running averages that they move, by name.

    Formulas as in benchmarks/nn/normalisation.py. Statistics of a narrower format are computed in float32.
    """

    def __init__(self, params: Params, averages: Params) -> None:
        self._params, self._averages = params, averages
        self.after: dict[str, Array] = {}

    def __call__(self, x: Array, name: str) -> Array:
        """Return x (B, height, width, C) normalised over images and pixels, in its dtype."""
        wide = widened(x)
        mean = wide.mean(axis=(0, 1, 2))
        variance = ((wide - mean) ** 2).mean(axis=(0, 1, 2))
        count = x.size // x.shape[-1]
        for statistic, now in (("running_mean", mean), ("running_var", variance * (count / (count - 1)))):
            before = self._averages[f"{name}.{statistic}"]
            self.after[f"{name}.{statistic}"] = before + MOMENTUM * (now - before)
        return _scaled(wide, mean, variance, self._params, name).astype(x.dtype)


class RunningNorms:
    """The batch normalisations of inference, by the running averages among the weights."""

    def __init__(self, weights: Params) -> None:
        self._weights = weights

    def __call__(self, x: Array, name: str) -> Array:
        """Return x (B, height, width, C) normalised, in its dtype."""
        wide = widened(x)
        mean, variance = (self._weights[f"{name}.{statistic}"] for statistic in ("running_mean", "running_var"))
        return _scaled(wide, mean, variance, self._weights, name).astype(x.dtype)


def _scaled(x: Array, mean: Array, variance: Array, params: Params, name: str) -> Array:
    return (x - mean) * (lax.rsqrt(variance + EPSILON) * params[f"{name}.weight"]) + params[f"{name}.bias"]


def max_pool(x: Array, size: int, stride: int, padding: int) -> Array:
    """Return the largest value of every patch of x (B, height, width, C), channel by channel."""
    sides = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, size, size, 1), (1, stride, stride, 1), sides)
