"""The long short-term memory: a loop that cannot be run in parallel over time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.nn.activations import sigmoid
from benchmarks.nn.functions import Array, Cache, linear, linear_backward


def lstm_cell(xp: Any, gates: Array, cell: Array) -> tuple[Array, Array, Cache]:
    """Return the next hidden state, the next cell state, and the cache.

    gates (B, 4 C): input, forget, candidate, output before their activations, in PyTorch's order; cell (B, C).
    c' = f c + i g and h' = o tanh(c') (Hochreiter and Schmidhuber 1997, with Gers' forget gate).
    """
    width = cell.shape[-1]
    opened, _ = sigmoid(xp, gates[:, : 2 * width])
    i, f = opened[:, :width], opened[:, width:]
    g = xp.tanh(gates[:, 2 * width : 3 * width])
    o, _ = sigmoid(xp, gates[:, 3 * width :])
    next_cell = f * cell + i * g
    tanh_cell = xp.tanh(next_cell)
    return o * tanh_cell, next_cell, (i, f, g, o, cell, tanh_cell)


def lstm_cell_backward(xp: Any, dhidden: Array, dcell: Array, cache: Cache) -> tuple[Array, Array]:
    """Return the gradients of the gates and of the cell state before."""
    i, f, g, o, cell, tanh_cell = cache
    dcell = dcell + dhidden * o * (1 - tanh_cell * tanh_cell)
    di = dcell * g * i * (1 - i)
    df = dcell * cell * f * (1 - f)
    dg = dcell * i * (1 - g * g)
    do = dhidden * tanh_cell * o * (1 - o)
    return xp.concatenate([di, df, dg, do], axis=-1), dcell * f


def lstm(xp: Any, x: Array, params: Mapping[str, Array]) -> tuple[Array, Cache]:
    """Return the hidden states (B, T, C) of one layer that reads x (B, T, I) from a state of zeros.

    Parameters under PyTorch's names: weight_ih_l0 (4 C, I), weight_hh_l0 (4 C, C), bias_ih_l0, bias_hh_l0 (4 C).
    """
    # What the inputs add to the gates does not depend on the past: one product for all times.
    inputs, input_cache = linear(xp, x, params["weight_ih_l0"], params["bias_ih_l0"] + params["bias_hh_l0"])
    recurrent = params["weight_hh_l0"]
    batch, times, width = x.shape[0], x.shape[1], recurrent.shape[1]
    hiddens = xp.zeros((batch, times + 1, width), dtype=x.dtype)
    cell = xp.zeros((batch, width), dtype=x.dtype)
    caches = []
    for t in range(times):
        gates = inputs[:, t] + hiddens[:, t] @ recurrent.T
        hiddens[:, t + 1], cell, cache = lstm_cell(xp, gates, cell)
        caches.append(cache)
    return hiddens[:, 1:], (input_cache, recurrent, hiddens, caches)


def lstm_backward(xp: Any, grad: Array, cache: Cache) -> tuple[Array, dict[str, Array]]:
    """Return the gradient of x and those of the parameters, by name: the loop once more, from the end."""
    input_cache, recurrent, hiddens, caches = cache
    batch, times, width = grad.shape
    dgates = xp.empty((batch, times, 4 * width), dtype=grad.dtype)
    dhidden, dcell = xp.zeros_like(grad[:, 0]), xp.zeros_like(grad[:, 0])
    for t in reversed(range(times)):
        dgates[:, t], dcell = lstm_cell_backward(xp, grad[:, t] + dhidden, dcell, caches[t])
        dhidden = dgates[:, t] @ recurrent
    dx, dweight, dbias = linear_backward(xp, dgates, input_cache)
    before = hiddens[:, :-1].reshape(-1, width)
    drecurrent = dgates.reshape(-1, 4 * width).T @ before
    grads = {"weight_ih_l0": dweight, "weight_hh_l0": drecurrent, "bias_ih_l0": dbias, "bias_hh_l0": dbias}
    return dx, grads
