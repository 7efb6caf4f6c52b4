"""Random numbers on the host: the only place where weights and batches come from.

No weight is zero or one, as many are in a fresh model: a bias that is left out, or a norm that does not scale, must
show in the answer. Deviations are such that what comes out of a layer is about 1, where activations bend.
"""

from __future__ import annotations

import math

import numpy as np

_SOME = 0.1  # deviation of what a fresh model has as zeros and ones


def normal(rng: np.random.Generator, shape: tuple[int, ...], dtype: str, deviation: float = 1.0) -> np.ndarray:
    """Return normal numbers drawn in `dtype` itself ("float32" or "float64"), with mean zero."""
    numbers = rng.standard_normal(shape, np.float64 if dtype == "float64" else np.float32)
    numbers *= deviation
    return numbers


def initial_linear(
    rng: np.random.Generator, inputs: int, outputs: int, dtype: str, gain: float = 1.0
) -> dict[str, np.ndarray]:
    """Return weight (O, I) and bias (O) of a layer that multiplies the deviation of its inputs by `gain`."""
    weight = normal(rng, (outputs, inputs), dtype, gain / math.sqrt(inputs))
    return {"weight": weight, "bias": normal(rng, (outputs,), dtype, _SOME)}


def initial_norm(rng: np.random.Generator, channels: int, dtype: str) -> dict[str, np.ndarray]:
    """Return weight and bias (C) of a normalisation."""
    weight = normal(rng, (channels,), dtype, _SOME)
    weight += 1
    return {"weight": weight, "bias": normal(rng, (channels,), dtype, _SOME)}


def initial_batchnorm(rng: np.random.Generator, channels: int, dtype: str) -> dict[str, np.ndarray]:
    """Return the same with running averages (C) of some earlier training."""
    averages = {
        "running_mean": normal(rng, (channels,), dtype, _SOME),
        "running_var": (rng.random(channels) + 0.5).astype(dtype),
    }
    return initial_norm(rng, channels, dtype) | averages
