"""Long short-term memory (LSTM): each step needs the state of the step before, so time cannot run in parallel.

Forward only: `lstm` is measured as inference, and no network here trains one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .activations import sigmoid
from .functions import Array, linear
from .tuned import has_forms


def lstm_cell(xp: Any, gates: Array, cell: Array) -> tuple[Array, Array]:
    """Return the next hidden state h' (B, C) and the next cell state c' (B, C).

    gates (B, 4 C): the values before their activation of the input gate i, forget gate f, candidate g and output gate
    o, in PyTorch's order. cell (B, C): the cell state c.

        c' = f c + i g        i, f, o = sigmoid(gates), g = tanh(gates)
        h' = o tanh(c')

    Source: Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000.
    """
    width = cell.shape[-1]
    opened = sigmoid(xp, gates[:, : 2 * width])  # i and f are adjacent: one call for both
    i, f = opened[:, :width], opened[:, width:]
    g = xp.tanh(gates[:, 2 * width : 3 * width])
    o = sigmoid(xp, gates[:, 3 * width :])
    next_cell = f * cell + i * g
    return o * xp.tanh(next_cell), next_cell


@has_forms
def lstm(xp: Any, x: Array, params: Mapping[str, Array]) -> Array:
    """Return the hidden states (B, T, C) of one layer for inputs x (B, T, I); hidden and cell state start at zero.

    Parameters have PyTorch's names: weight_ih_l0 (4 C, I), weight_hh_l0 (4 C, C), bias_ih_l0, bias_hh_l0 (4 C).
    """
    # The inputs' part of the gates does not depend on earlier steps: one product computes it for all steps.
    inputs, _ = linear(xp, x, params["weight_ih_l0"], params["bias_ih_l0"] + params["bias_hh_l0"])
    recurrent = params["weight_hh_l0"]
    batch, times, width = x.shape[0], x.shape[1], recurrent.shape[1]
    hiddens = xp.zeros((batch, times + 1, width), dtype=x.dtype)  # at 0 the initial state, at t + 1 that after step t
    cell = xp.zeros((batch, width), dtype=x.dtype)
    for t in range(times):
        hiddens[:, t + 1], cell = lstm_cell(xp, inputs[:, t] + hiddens[:, t] @ recurrent.T, cell)
    return hiddens[:, 1:]
