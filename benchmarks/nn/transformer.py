"""The Transformer block: attention mixes tokens, an MLP mixes channels, and each result is added to the block's input.

The norms come first ("pre-norm"), as in GPT-2: x + attention(norm1(x)), then x + mlp(norm2(x)). The MLP has four times
the width and GELU. The "stream" is the residual stream (B, T, C) that all blocks add to.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from .activations import gelu, gelu_backward
from .attention import (
    attention,
    merge_heads,
    self_attention,
    self_attention_backward,
    split_heads,
)
from .functions import Array, Cache, linear, linear_backward
from .initial import initial_linear, initial_norm
from .names import named, scoped
from .normalisation import layernorm, layernorm_backward

Params = Mapping[str, Array]


def initial_block(rng: np.random.Generator, width: int, layers: int, dtype: str) -> dict[str, np.ndarray]:
    """Return the parameters of one block of a model with `layers` blocks."""
    params = named("norm1", initial_norm(rng, width, dtype)) | named("norm2", initial_norm(rng, width, dtype))
    return params | initial_layers(rng, width, layers, dtype)


def initial_layers(rng: np.random.Generator, width: int, layers: int, dtype: str) -> dict[str, np.ndarray]:
    """Return the parameters of the attention and the MLP of one block of a model with `layers` blocks.

    As in GPT-2, the layers that add to the stream have weights scaled by 1 / sqrt(2 layers). There are 2 * layers of
    them, and the variances of what they add sum up: the scale keeps the stream's size independent of the depth.
    """
    shapes = {"attention.qkv": (1, 3), "attention.out": (1, 1), "mlp.up": (1, 4), "mlp.down": (4, 1)}
    params: dict[str, np.ndarray] = {}
    for name, (inputs, outputs) in shapes.items():
        gain = 1 / math.sqrt(2 * layers) if name in {"attention.out", "mlp.down"} else 1.0
        params |= named(name, initial_linear(rng, inputs * width, outputs * width, dtype, gain))
    return params


def block(xp: Any, x: Array, params: Params, heads: int, *, causal: bool) -> tuple[Array, Cache]:
    """Return the stream (B, T, C) after one block, for the stream x (B, T, C) before it."""
    normed, norm1 = layernorm(xp, x, params["norm1.weight"], params["norm1.bias"])
    attended, attention_cache = self_attention(xp, normed, scoped(params, "attention"), heads, causal=causal)
    x = x + attended
    normed, norm2 = layernorm(xp, x, params["norm2.weight"], params["norm2.bias"])
    out, mlp_cache = mlp(xp, normed, scoped(params, "mlp"))
    return x + out, (norm1, attention_cache, norm2, mlp_cache)


def block_backward(xp: Any, grad: Array, cache: Cache) -> tuple[Array, dict[str, Array]]:
    """Return dL/dx (B, T, C) and the gradients of the parameters, by name, for grad g = dL/dout (B, T, C).

    out = x + f(x) has dL/dx = g + (backward of f)(g): the sum copies the gradient to both terms. So each residual
    connection adds one gradient that passes unchanged, however deep the network is.
    """
    norm1, attention_cache, norm2, mlp_cache = cache
    dnormed, mlp_grads = mlp_backward(xp, grad, mlp_cache)
    dx, dweight2, dbias2 = layernorm_backward(xp, dnormed, norm2)
    dx += grad  # x + mlp(norm2(x))
    dnormed, attention_grads = self_attention_backward(xp, dx, attention_cache)
    dstream, dweight1, dbias1 = layernorm_backward(xp, dnormed, norm1)
    dstream += dx  # x + attention(norm1(x))
    norms = {"norm1.weight": dweight1, "norm1.bias": dbias1, "norm2.weight": dweight2, "norm2.bias": dbias2}
    return dstream, norms | named("attention", attention_grads) | named("mlp", mlp_grads)


def mlp(xp: Any, x: Array, params: Params) -> tuple[Array, Cache]:
    """Return down(gelu(up(x))) (B, T, C) for x (B, T, C).

    params: up.weight (4 C, C), up.bias (4 C), down.weight (C, 4 C), down.bias (C).
    """
    wide, up = linear(xp, x, params["up.weight"], params["up.bias"])
    hidden, gelu_cache = gelu(xp, wide)
    out, down = linear(xp, hidden, params["down.weight"], params["down.bias"])
    return out, (up, gelu_cache, down)


def mlp_backward(xp: Any, grad: Array, cache: Cache) -> tuple[Array, dict[str, Array]]:
    """Return dL/dx (B, T, C) and the gradients of the parameters, by name: the chain rule from the last layer back."""
    up, gelu_cache, down = cache
    dhidden, dweight, dbias = linear_backward(xp, grad, down)
    grads = {"down.weight": dweight, "down.bias": dbias}
    dx, dweight, dbias = linear_backward(xp, gelu_backward(xp, dhidden, gelu_cache), up)
    return dx, grads | {"up.weight": dweight, "up.bias": dbias}


def block_extend(xp: Any, x: Array, params: Params, kv_cache: tuple[Array, Array], start: int) -> Array:
    """Return the stream of new tokens x (B, T, C) after one causal block whose KV cache holds `start` tokens.

    kv_cache: the block's keys and values, (B, H, capacity, D) each. Those of the new tokens are written to positions
    `start` and following, in place; they are computed once and reused by all later tokens.
    """
    keys, values = kv_cache
    stop = start + x.shape[1]
    normed, _ = layernorm(xp, x, params["norm1.weight"], params["norm1.bias"])
    qkv, _ = linear(xp, normed, params["attention.qkv.weight"], params["attention.qkv.bias"])
    q, keys[:, :, start:stop], values[:, :, start:stop] = split_heads(qkv, keys.shape[1])
    mixed, _ = attention(xp, q, keys[:, :, :stop], values[:, :, :stop], causal=True)
    out, _ = linear(xp, merge_heads(mixed), params["attention.out.weight"], params["attention.out.bias"])
    x = x + out
    normed, _ = layernorm(xp, x, params["norm2.weight"], params["norm2.bias"])
    out, _ = mlp(xp, normed, scoped(params, "mlp"))
    return x + out


def block_flops(width: int, tokens: int, keys: float) -> float:
    """Return the FLOPs of one block's forward pass for `tokens` tokens of one sequence.

    Products with weights: 2 * 12 C^2 per token (3 C^2 for qkv, 1 for out, 4 for up, 4 for down). Attention: 2 C per
    token and key for the scores, and 2 C for the mean of the values. keys: how many tokens each token attends to, on
    average. Ignored: norms, softmax, GELU, biases, additions.
    """
    return tokens * (24 * width * width + 4 * keys * width)
