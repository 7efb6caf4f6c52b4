"""What several networks are made of: linear layers, layer normalisation, attention; and their dtype policy.

The policy of mixed precision: weights are kept in float32, and a product is computed in the dtype that its weight was
cast to (`for_products`). Norms, softmaxes and losses are computed in float32, and so are the sums along a Transformer.
Results of batch norms, and so the sums along a ResNet, have the narrow format. PyTorch's autocast does the same.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax import lax

from bench_core.workload import Work

from ..nn.normalisation import EPSILON
from ..nn.workloads import autocast_format

Array = jax.Array
Params = Mapping[str, Array]


def product_format(work: Work) -> str | None:
    """Return the dtype that the products of a work are computed in, where it is not that of the weights, else None."""
    return autocast_format(work.precision) or None


def for_products(params: Params, dtype: str | None) -> Params:
    """Return the parameters with all that are factors of a product, those of two axes or more, in `dtype`, if any."""
    return params if dtype is None else {k: w.astype(dtype) if w.ndim > 1 else w for k, w in params.items()}


def linear(x: Array, params: Params, name: str) -> Array:
    """Return x W^T + b for the weight (O, I) and the bias (O) of a layer, in the dtype of the weight."""
    weight, bias = params[f"{name}.weight"], params[f"{name}.bias"]
    return x.astype(weight.dtype) @ weight.T + bias.astype(weight.dtype)


def widened(x: Array) -> Array:
    """Return x in float32 if it is in a narrower format."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def normalise(x: Array, epsilon: float = EPSILON) -> Array:
    """Return (x - mean) / sqrt(variance + epsilon) over the last axis, of x `widened`."""
    x = widened(x)
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred * lax.rsqrt((centred**2).mean(axis=-1, keepdims=True) + epsilon)


def layernorm(x: Array, weight: Array, bias: Array) -> Array:
    """Return weight (x - mean) / sqrt(variance + 1e-5) + bias over the last axis, in the dtype of x."""
    return (weight * normalise(x) + bias).astype(x.dtype)


def softmax(x: Array) -> Array:
    """Return exp(x) / sum(exp(x)) over the last axis.

    As `jax.nn.softmax`, but certain to be one operation at a time in `eager`. Each lets go of the array before.
    """
    x = x - lax.stop_gradient(x.max(axis=-1, keepdims=True))  # the maximum cancels out
    x = jnp.exp(x)
    return x / x.sum(axis=-1, keepdims=True)


def attention(q: Array, k: Array, v: Array, mask: Array | None = None) -> Array:
    """Return softmax(q k^T / sqrt(D)) v (..., T, D) for queries q (..., T, D), keys and values k, v (..., S, D).

    The mask (T, S) shows a key to a query. Scores and softmax are in float32 if q is in a narrower format.
    `jax.nn.dot_product_attention` does the same for arrays (B, T, H, D), around which XLA transposes: on a CPU, that
    made a step of decoding 3 to 8 times as long as with the heads first (jaxlib 0.10.2, 16 to 64 sequences).
    """
    wide = jnp.promote_types(q.dtype, jnp.float32)
    scores = jnp.matmul(q, k.swapaxes(-1, -2), preferred_element_type=wide) * q.shape[-1] ** -0.5
    shares = softmax(scores if mask is None else jnp.where(mask, scores, -jnp.inf))
    return shares.astype(v.dtype) @ v
