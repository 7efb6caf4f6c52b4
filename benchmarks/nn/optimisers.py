"""Optimisers over one vector.

All parameters live in one contiguous vector, and the dict that a network reads holds views of it. An
update is then a few large operations instead of a few hundred small ones, which is what a GPU wants.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

Array = Any


class Optimiser:
    """The parameters as `vector` and, under their names, as views of it in `params`.

    `params` also holds what a network keeps but does not train: running averages (`running_...`). `decay`: the share of
    a weight that a step takes off, whatever its gradient. The arrays that it is given are what `reset` restores; they
    are not written to.
    """

    decay = 0.0

    def __init__(self, xp: Any, params: Mapping[str, Array]) -> None:
        self.xp = xp
        self._kept = {name: array for name, array in params.items() if ".running_" in name}
        self._trained = {name: array for name, array in params.items() if name not in self._kept}
        self.vector = flatten(xp, self._trained)
        self._gradient = xp.empty_like(self.vector)  # memory that each step would have to be given anew
        self.params = views(self.vector, self._trained) | {name: kept.copy() for name, kept in self._kept.items()}

    def reset(self) -> None:
        """Restore the initial parameters and clear the optimiser's state."""
        for name, array in (self._trained | self._kept).items():
            self.params[name][...] = array

    def update(self, grads: Mapping[str, Array]) -> None:
        """Move the parameters, in place. `grads` has a gradient for each parameter, under its name."""
        self._move(flatten(self.xp, {name: grads[name] for name in self._trained}, out=self._gradient))

    def _move(self, grad: Array) -> None:
        raise NotImplementedError


class Sgd(Optimiser):
    """Gradient descent: w -= rate g."""

    def __init__(self, xp: Any, params: Mapping[str, Array], rate: float) -> None:
        super().__init__(xp, params)
        self.rate = rate

    def _move(self, grad: Array) -> None:
        grad *= self.rate
        self.vector -= grad


class AdamW(Optimiser):
    """Adam with decoupled weight decay (Loshchilov and Hutter, arXiv:1711.05101, algorithm 2), PyTorch's defaults."""

    def __init__(
        self, xp: Any, params: Mapping[str, Array], rate: float, decay: float = 0.01, beta1: float = 0.9
    ) -> None:
        super().__init__(xp, params)
        self.rate, self.decay, self.beta1 = rate, rate * decay, beta1
        self.beta2, self.epsilon = 0.999, 1e-8
        self.mean, self.square = xp.zeros_like(self.vector), xp.zeros_like(self.vector)
        self.steps = 0

    def reset(self) -> None:
        super().reset()
        self.mean[...], self.square[...], self.steps = 0, 0, 0

    def _move(self, grad: Array) -> None:
        self.steps += 1
        self.vector *= 1 - self.decay
        self.mean *= self.beta1
        self.mean += grad * (1 - self.beta1)
        grad *= grad
        grad *= 1 - self.beta2
        self.square *= self.beta2
        self.square += grad
        # Both averages start at zero; the corrections undo what that pulls them down by.
        step = self.rate / (1 - self.beta1**self.steps)
        scale = self.xp.sqrt(self.square, out=grad)
        scale /= math.sqrt(1 - self.beta2**self.steps)
        scale += self.epsilon
        self.vector -= step * self.mean / scale


def flatten(xp: Any, arrays: Mapping[str, Array], out: Array | None = None) -> Array:
    """Return all arrays end to end in one vector: `out`, or a new one."""
    return xp.concatenate([array.reshape(-1) for array in arrays.values()], out=out)


def views(vector: Array, like: Mapping[str, Array]) -> dict[str, Array]:
    """Return pieces of `vector` with the names and shapes of `like`."""
    start, pieces = 0, {}
    for name, array in like.items():
        pieces[name] = vector[start : start + array.size].reshape(array.shape)
        start += array.size
    return pieces
