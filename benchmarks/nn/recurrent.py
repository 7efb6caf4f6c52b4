"""Long short-term memory (LSTM): each step needs the state of the step before, so time cannot run in parallel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .activations import sigmoid
from .functions import Array, Cache, linear, linear_backward
from .tuned import has_forms


def lstm_cell(xp: Any, gates: Array, cell: Array) -> tuple[Array, Array, Cache]:
    """Return the next hidden state h' (B, C), the next cell state c' (B, C), and the cache.

    gates (B, 4 C): the values before their activation of the input gate i, forget gate f, candidate g and output gate
    o, in PyTorch's order. cell (B, C): the cell state c.

        c' = f c + i g        i, f, o = sigmoid(gates), g = tanh(gates)
        h' = o tanh(c')

    Source: Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000.
    """
    width = cell.shape[-1]
    opened, _ = sigmoid(xp, gates[:, : 2 * width])  # i and f are adjacent: one call for both
    i, f = opened[:, :width], opened[:, width:]
    g = xp.tanh(gates[:, 2 * width : 3 * width])
    o, _ = sigmoid(xp, gates[:, 3 * width :])
    next_cell = f * cell + i * g
    tanh_cell = xp.tanh(next_cell)
    return o * tanh_cell, next_cell, (i, f, g, o, cell, tanh_cell)


@has_forms
def lstm_cell_backward(xp: Any, dhidden: Array, dcell: Array, cache: Cache) -> tuple[Array, Array]:
    """Return dL/dgates (B, 4 C), before their activation, and dL/dc (B, C).

    dhidden: dL/dh' (B, C). dcell: dL/dc' (B, C) as far as it comes from later steps.
    """
    i, f, g, o, cell, tanh_cell = cache
    # c' acts on the loss through the next step and through h' = o tanh(c'): the two gradients add up.
    dcell = dcell + dhidden * o * (1 - tanh_cell * tanh_cell)
    # c' = f c + i g and h' = o tanh(c') give the derivative with respect to each gate. The last factors are the
    # derivatives of the activations: s (1 - s) for sigmoid, 1 - t^2 for tanh.
    di = dcell * g * i * (1 - i)
    df = dcell * cell * f * (1 - f)
    dg = dcell * i * (1 - g * g)
    do = dhidden * tanh_cell * o * (1 - o)
    return xp.concatenate([di, df, dg, do], axis=-1), dcell * f  # dc'/dc = f


@has_forms
def lstm(xp: Any, x: Array, params: Mapping[str, Array]) -> tuple[Array, Cache]:
    """Return the hidden states (B, T, C) of one layer for inputs x (B, T, I); hidden and cell state start at zero.

    Parameters have PyTorch's names: weight_ih_l0 (4 C, I), weight_hh_l0 (4 C, C), bias_ih_l0, bias_hh_l0 (4 C).
    """
    # The inputs' part of the gates does not depend on earlier steps: one product computes it for all steps.
    inputs, input_cache = linear(xp, x, params["weight_ih_l0"], params["bias_ih_l0"] + params["bias_hh_l0"])
    recurrent = params["weight_hh_l0"]
    batch, times, width = x.shape[0], x.shape[1], recurrent.shape[1]
    hiddens = xp.zeros((batch, times + 1, width), dtype=x.dtype)  # at 0 the initial state, at t + 1 that after step t
    cell = xp.zeros((batch, width), dtype=x.dtype)
    caches = []
    for t in range(times):
        gates = inputs[:, t] + hiddens[:, t] @ recurrent.T
        hiddens[:, t + 1], cell, cache = lstm_cell(xp, gates, cell)
        caches.append(cache)
    return hiddens[:, 1:], (input_cache, recurrent, hiddens, caches)


def lstm_backward(xp: Any, grad: Array, cache: Cache) -> tuple[Array, dict[str, Array]]:
    """Return dL/dx (B, T, I) and the gradients of the parameters, by name: backpropagation through time.

    grad (B, T, C): dL/dout. The loop runs from the last step to the first.
    """
    input_cache, recurrent, hiddens, caches = cache
    batch, times, width = grad.shape
    dgates = xp.empty((batch, times, 4 * width), dtype=grad.dtype)
    dhidden, dcell = xp.zeros_like(grad[:, 0]), xp.zeros_like(grad[:, 0])  # no step follows the last one
    for t in reversed(range(times)):
        # The hidden state of step t is an output (grad) and an input of step t + 1 (dhidden): the gradients add up.
        dgates[:, t], dcell = lstm_cell_backward(xp, grad[:, t] + dhidden, dcell, caches[t])
        dhidden = dgates[:, t] @ recurrent  # gates = ... + h W^T: dL/dh = dL/dgates W
    # All steps use the same weights, so their gradients are sums over batch and time: one product after the loop.
    dx, dweight, dbias = linear_backward(xp, dgates, input_cache)
    before = hiddens[:, :-1].reshape(-1, width)  # the states that the steps began with
    drecurrent = dgates.reshape(-1, 4 * width).T @ before
    # The two biases are added to each other, so they have the same gradient.
    grads = {"weight_ih_l0": dweight, "weight_hh_l0": drecurrent, "bias_ih_l0": dbias, "bias_hh_l0": dbias}
    return dx, grads
