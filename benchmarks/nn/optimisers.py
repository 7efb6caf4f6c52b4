"""Optimisers over one vector.

All parameters are stored in one contiguous vector, and the dict that a network reads holds views of it. An update is
then a few large operations instead of hundreds of small ones. A GPU runs these far faster: each costs a launch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from .tuned import has_forms

Array = Any


class Optimiser:
    """All parameters as one `vector`, and as views of it by name in `params`.

    `params` also holds the running averages (`running_...`), which a network updates itself and no optimiser trains.
    `decay`: the fraction that a step subtracts from every weight, whatever its gradient. The arrays passed to the
    constructor are copied and never written to; `reset` restores them.
    """

    decay = 0.0

    def __init__(self, xp: Any, params: Mapping[str, Array]) -> None:
        self.xp = xp
        self._kept = {name: array for name, array in params.items() if ".running_" in name}
        self._trained = {name: array for name, array in params.items() if name not in self._kept}
        self.vector = flatten(xp, self._trained)
        self._gradient = xp.empty_like(self.vector)  # allocated once: every step reuses it
        self.params = views(self.vector, self._trained) | {name: kept.copy() for name, kept in self._kept.items()}

    def reset(self) -> None:
        """Restore the initial parameters and clear the optimiser's state."""
        for name, array in (self._trained | self._kept).items():
            self.params[name][...] = array

    def update(self, grads: Mapping[str, Array]) -> None:
        """Update the parameters in place. grads: the gradient of each parameter, by name; it is not written to."""
        self._move(flatten(self.xp, {name: grads[name] for name in self._trained}, out=self._gradient))

    def _move(self, grad: Array) -> None:
        raise NotImplementedError


class Sgd(Optimiser):
    """Stochastic gradient descent without momentum: w -= rate g."""

    def __init__(self, xp: Any, params: Mapping[str, Array], rate: float) -> None:
        super().__init__(xp, params)
        self.rate = rate

    def _move(self, grad: Array) -> None:
        sgd(self.xp, self.vector, grad, self.rate)


@has_forms
def sgd(xp: Any, vector: Array, grad: Array, rate: float) -> None:
    """Subtract rate * grad from the parameters `vector`, in place; `grad` is overwritten."""
    grad *= rate
    vector -= grad


class AdamW(Optimiser):
    """Adam with decoupled weight decay (Loshchilov and Hutter, arXiv:1711.05101, algorithm 2), as PyTorch's AdamW.

    For step number t, with gradient g:

        w *= 1 - rate decay                        weight decay, not part of the gradient ("decoupled")
        m = beta1 m + (1 - beta1) g                running mean of g: `mean`
        v = beta2 v + (1 - beta2) g^2              running mean of its square: `square`
        w -= rate (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + epsilon)

    decay, beta1, beta2 and epsilon have PyTorch's defaults. The attribute `decay` is rate * decay.
    """

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
        # Both averages start at zero, so the first ones are too small: after t steps by the factors 1 - beta1^t and
        # 1 - beta2^t. Dividing by these corrects them.
        rate = self.rate / (1 - self.beta1**self.steps)
        correction = math.sqrt(1 - self.beta2**self.steps)
        constants = (1 - self.decay, self.beta1, self.beta2, rate, correction, self.epsilon)
        adamw(self.xp, self.vector, self.mean, self.square, grad, constants)


@has_forms
def adamw(xp: Any, vector: Array, mean: Array, square: Array, grad: Array, constants: tuple[float, ...]) -> None:
    """Update the parameters `vector` and both averages by the formulas of `AdamW`, in place; `grad` is overwritten.

    constants: keep (1 - rate decay), beta1, beta2, rate / (1 - beta1^t), sqrt(1 - beta2^t), epsilon.
    """
    keep, beta1, beta2, rate, correction, epsilon = constants
    vector *= keep
    mean *= beta1
    mean += grad * (1 - beta1)
    grad *= grad  # in place, and reused below
    grad *= 1 - beta2
    square *= beta2
    square += grad
    scale = xp.sqrt(square, out=grad)  # sqrt(v / (1 - beta2^t)) + epsilon, in three operations
    scale /= correction
    scale += epsilon
    vector -= rate * mean / scale


def flatten(xp: Any, arrays: Mapping[str, Array], out: Array | None = None) -> Array:
    """Return all arrays end to end in one vector, written to `out` if it is given."""
    return xp.concatenate([array.reshape(-1) for array in arrays.values()], out=out)


def views(vector: Array, like: Mapping[str, Array]) -> dict[str, Array]:
    """Return views of consecutive pieces of `vector`, with the names and shapes of `like`."""
    start, pieces = 0, {}
    for name, array in like.items():
        pieces[name] = vector[start : start + array.size].reshape(array.shape)
        start += array.size
    return pieces
