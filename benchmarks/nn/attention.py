"""Softmax and attention: each token gets a weighted mean of the values of all tokens (causal: of those up to it)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from .functions import Array, Cache, linear, linear_backward
from .tuned import has_forms


@has_forms
def softmax(xp: Any, x: Array) -> tuple[Array, Cache]:
    """Return exp(x) / sum(exp(x)) over the last axis; the maximum is subtracted first, so that exp cannot overflow."""
    out = x - x.max(axis=-1, keepdims=True)
    xp.exp(out, out=out)
    out /= out.sum(axis=-1, keepdims=True)
    return out, (out,)


@has_forms
def softmax_backward(xp: Any, grad: Array, cache: Cache) -> Array:
    """Return dL/dx = p (g - sum(g p)), with p = softmax(x) and sums over the last axis.

    From dp_i/dx_j = p_i ([i = j] - p_j): dL/dx_j = sum_i g_i dp_i/dx_j = p_j (g_j - sum_i g_i p_i).
    """
    (out,) = cache
    dx = grad * out  # g p
    dx -= out * dx.sum(axis=-1, keepdims=True)
    return dx


@has_forms
def attention(xp: Any, q: Array, k: Array, v: Array, *, causal: bool) -> tuple[Array, Cache]:
    """Return softmax(q k^T / sqrt(D)) v (B, H, T, D) for queries q (B, H, T, D), keys and values k, v (B, H, S, D).

    causal: the queries belong to the last T of S tokens, and each sees only tokens up to its own. Source: Vaswani et
    al., arXiv:1706.03762, section 3.2.1.
    """
    scores = q @ k.swapaxes(-1, -2)  # (B, H, T, S): one score for each pair of query and key
    scores *= 1 / math.sqrt(q.shape[-1])  # a sum of D products has deviation sqrt(D); this makes it 1 again
    if causal and q.shape[-2] > 1:  # a single query is the last token, which sees all others
        scores += causal_mask(xp, q.shape[-2], k.shape[-2], q.dtype)
    weights, _ = softmax(xp, scores)
    return weights @ v, (q, k, v, weights)


@has_forms
def attention_backward(xp: Any, grad: Array, cache: Cache) -> tuple[Array, Array, Array]:
    """Return dL/dq (B, H, T, D), dL/dk and dL/dv (B, H, S, D) for grad g = dL/dout (B, H, T, D).

    The forward pass is z = q k^T / sqrt(D), p = softmax(z), out = p v. For any product C = A B, dL/dA = dL/dC B^T and
    dL/dB = A^T dL/dC. The mask needs no line of its own: masked weights p are zero, and the backward of softmax
    multiplies by p, so dL/dz is zero there too.
    """
    q, k, v, weights = cache
    dv = weights.swapaxes(-1, -2) @ grad  # out = p v: dL/dv = p^T g
    dscores = softmax_backward(xp, grad @ v.swapaxes(-1, -2), (weights,))  # dL/dp = g v^T, then dL/dz (B, H, T, S)
    dscores *= 1 / math.sqrt(q.shape[-1])  # the derivative of z by q k^T
    return dscores @ k, dscores.swapaxes(-1, -2) @ q, dv  # q k^T has dL/dq = dL/d(q k^T) k, dL/dk = dL/d(q k^T)^T q


def causal_mask(xp: Any, queries: int, keys: int, dtype: Any) -> Array:
    """Return a mask (queries, keys) to add to scores: 0 at keys that a query may see, -inf at later ones.

    The queries are the last of the keys' tokens: query i has position keys - queries + i.
    """
    return xp.triu(xp.full((queries, keys), -math.inf, dtype=dtype), k=keys - queries + 1)


def split_heads(x: Array, heads: int) -> Array:
    """Return the projection x (B, T, 3 * H * D) as (3, B, H, T, D): queries, keys and values, head by head."""
    batch, time, width = x.shape
    return x.reshape(batch, time, 3, heads, width // (3 * heads)).transpose(2, 0, 3, 1, 4)


def merge_heads(x: Array) -> Array:
    """Return x (B, H, T, D) as (B, T, H * D): the heads of a token end to end."""
    batch, heads, time, depth = x.shape
    return x.transpose(0, 2, 1, 3).reshape(batch, time, heads * depth)


def self_attention(xp: Any, x: Array, params: Mapping[str, Array], heads: int, *, causal: bool) -> tuple[Array, Cache]:
    """Return (B, T, C): project x (B, T, C) to q, k, v, attend head by head, project back. C = H * D.

    params: qkv.weight (3 C, C), qkv.bias (3 C), out.weight (C, C), out.bias (C).
    """
    qkv, qkv_cache = linear(xp, x, params["qkv.weight"], params["qkv.bias"])
    mixed, cache = attention(xp, *split_heads(qkv, heads), causal=causal)
    out, out_cache = linear(xp, merge_heads(mixed), params["out.weight"], params["out.bias"])
    return out, (qkv_cache, cache, out_cache)


def self_attention_backward(xp: Any, grad: Array, cache: Cache) -> tuple[Array, dict[str, Array]]:
    """Return dL/dx (B, T, C) and the gradients of the parameters, by name."""
    qkv_cache, attention_cache, out_cache = cache
    dmerged, dweight, dbias = linear_backward(xp, grad, out_cache)
    grads = {"out.weight": dweight, "out.bias": dbias}
    batch, heads, time, depth = attention_cache[0].shape
    # Reshapes and transposes only move numbers: their backward passes move the gradients back.
    dmixed = dmerged.reshape(batch, time, heads, depth).transpose(0, 2, 1, 3)  # undoes merge_heads: (B, H, T, D)
    dqkv = xp.stack(attention_backward(xp, dmixed, attention_cache))  # (3, B, H, T, D)
    dqkv = dqkv.transpose(1, 3, 0, 2, 4).reshape(batch, time, 3 * heads * depth)  # undoes split_heads
    dx, dweight, dbias = linear_backward(xp, dqkv, qkv_cache)
    return dx, grads | {"qkv.weight": dweight, "qkv.bias": dbias}
