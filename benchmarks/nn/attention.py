"""Softmax and attention: every token asks all tokens (or all earlier ones) and takes a mean of what they hold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from benchmarks.nn.functions import Array, Cache, linear, linear_backward


def softmax(xp: Any, x: Array) -> tuple[Array, Cache]:
    """Return exp(x) / sum(exp(x)) over the last axis, the maximum taken off first."""
    out = x - x.max(axis=-1, keepdims=True)
    xp.exp(out, out=out)
    out /= out.sum(axis=-1, keepdims=True)
    return out, (out,)


def softmax_backward(xp: Any, grad: Array, cache: Cache) -> Array:
    """Return p (g - sum(g p))."""
    (out,) = cache
    dx = grad * out
    dx -= out * dx.sum(axis=-1, keepdims=True)
    return dx


def attention(xp: Any, q: Array, k: Array, v: Array, *, causal: bool) -> tuple[Array, Cache]:
    """Return softmax(q k^T / sqrt(D)) v, for queries (B, H, T, D) and keys and values (B, H, S, D).

    With `causal`, the queries are the last T of S tokens and see no token after their own.
    """
    scores = q @ k.swapaxes(-1, -2)
    scores *= 1 / math.sqrt(q.shape[-1])
    if causal and q.shape[-2] > 1:
        scores += causal_mask(xp, q.shape[-2], k.shape[-2], q.dtype)
    weights, _ = softmax(xp, scores)
    return weights @ v, (q, k, v, weights)


def attention_backward(xp: Any, grad: Array, cache: Cache) -> tuple[Array, Array, Array]:
    """Return the gradients of q, k, v. Masked weights are zero, and so is all that flows through them."""
    q, k, v, weights = cache
    dv = weights.swapaxes(-1, -2) @ grad
    dscores = softmax_backward(xp, grad @ v.swapaxes(-1, -2), (weights,))
    dscores *= 1 / math.sqrt(q.shape[-1])
    return dscores @ k, dscores.swapaxes(-1, -2) @ q, dv


def causal_mask(xp: Any, queries: int, keys: int, dtype: Any) -> Array:
    """Return (queries, keys), 0 where a query may look and -inf at the tokens after it."""
    return xp.triu(xp.full((queries, keys), -math.inf, dtype=dtype), k=keys - queries + 1)


def split_heads(x: Array, heads: int) -> Array:
    """Return x (B, T, parts * H * D) as (parts, B, H, T, D), parts being the three of q, k, v."""
    batch, time, width = x.shape
    return x.reshape(batch, time, 3, heads, width // (3 * heads)).transpose(2, 0, 3, 1, 4)


def merge_heads(x: Array) -> Array:
    """Return x (B, H, T, D) as (B, T, H * D)."""
    batch, heads, time, depth = x.shape
    return x.transpose(0, 2, 1, 3).reshape(batch, time, heads * depth)


def self_attention(xp: Any, x: Array, params: Mapping[str, Array], heads: int, *, causal: bool) -> tuple[Array, Cache]:
    """Return x (B, T, C) after one projection to q, k, v, attention, and one projection back."""
    qkv, qkv_cache = linear(xp, x, params["qkv.weight"], params["qkv.bias"])
    mixed, cache = attention(xp, *split_heads(qkv, heads), causal=causal)
    out, out_cache = linear(xp, merge_heads(mixed), params["out.weight"], params["out.bias"])
    return out, (qkv_cache, cache, out_cache)


def self_attention_backward(xp: Any, grad: Array, cache: Cache) -> tuple[Array, dict[str, Array]]:
    """Return the gradient of x and those of the parameters, by name."""
    qkv_cache, attention_cache, out_cache = cache
    dmerged, dweight, dbias = linear_backward(xp, grad, out_cache)
    grads = {"out.weight": dweight, "out.bias": dbias}
    batch, heads, time, depth = attention_cache[0].shape
    dmixed = dmerged.reshape(batch, time, heads, depth).transpose(0, 2, 1, 3)
    dqkv = xp.stack(attention_backward(xp, dmixed, attention_cache))
    dqkv = dqkv.transpose(1, 3, 0, 2, 4).reshape(batch, time, 3 * heads * depth)
    dx, dweight, dbias = linear_backward(xp, dqkv, qkv_cache)
    return dx, grads | {"qkv.weight": dweight, "qkv.bias": dbias}
