"""A multi-layer perceptron: linear layers with ReLU between them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from .activations import relu, relu_backward
from .functions import (
    Array,
    Cache,
    linear,
    linear_backward,
    linear_parameters_backward,
)
from .initial import initial_linear
from .names import named


@dataclass(frozen=True, slots=True)
class Mlp:
    """The shape of an MLP. widths: inputs, hidden layers, classes."""

    widths: tuple[int, ...]

    def initial(self, rng: np.random.Generator, dtype: str) -> dict[str, np.ndarray]:
        """Return initial parameters with gain sqrt(2), since ReLU halves the mean square (He et al., arXiv:1502.01852).

        layers.i.weight (O, I) and layers.i.bias (O).
        """
        params: dict[str, np.ndarray] = {}
        for i, (inputs, outputs) in enumerate(pairwise(self.widths)):
            params |= named(f"layers.{i}", initial_linear(rng, inputs, outputs, dtype, gain=math.sqrt(2)))
        return params

    def forward(self, xp: Any, params: Mapping[str, Array], x: Array) -> tuple[Array, Cache]:
        """Return logits (B, classes) for x (B, inputs)."""
        caches: list[Any] = []
        last = len(self.widths) - 2
        for i in range(last + 1):
            x, cache = linear(xp, x, params[f"layers.{i}.weight"], params[f"layers.{i}.bias"])
            caches.append(cache)
            if i < last:
                x, cache = relu(xp, x)
                caches.append(cache)
        return x, tuple(caches)

    def backward(self, xp: Any, grad: Array, cache: Cache) -> dict[str, Array]:
        """Return the gradient of every parameter, by name, for grad = dL/dlogits (B, classes); no dL/dx is computed."""
        caches = list(cache)
        grads: dict[str, Array] = {}
        for i in reversed(range(1, len(self.widths) - 1)):
            # From dL/d(output of layer i) to dL/d(output of layer i - 1): back through the layer, then through the ReLU
            # in front of it. The caches are used in the opposite order of the forward pass.
            grad, dweight, dbias = linear_backward(xp, grad, caches.pop())
            grads |= {f"layers.{i}.weight": dweight, f"layers.{i}.bias": dbias}
            grad = relu_backward(xp, grad, caches.pop())
        dweight, dbias = linear_parameters_backward(xp, grad, caches.pop())
        return grads | {"layers.0.weight": dweight, "layers.0.bias": dbias}

    def parameters(self) -> int:
        """Return the number of parameters: weights and biases."""
        return sum((inputs + 1) * outputs for inputs, outputs in pairwise(self.widths))

    def forward_flops(self) -> int:
        """Return the FLOPs per sample, 2 I O summed over the layers. Ignored: biases, ReLU."""
        return 2 * sum(inputs * outputs for inputs, outputs in pairwise(self.widths))

    def train_flops(self) -> int:
        """Return the FLOPs per sample of forward and backward pass.

        For each layer dL/dweight costs as much as the forward pass, and so does dL/dx, which the first layer does not
        compute. Ignored: biases, ReLU, softmax, loss, optimiser.
        """
        return 3 * self.forward_flops() - 2 * self.widths[0] * self.widths[1]
