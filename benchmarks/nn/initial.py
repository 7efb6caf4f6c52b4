"""Random numbers on the host: all weights and batches are drawn here.

No weight is exactly zero or one, as biases and norms of a new model usually are: an implementation that leaves out a
bias, or does not scale after a norm, must give a wrong answer. Standard deviations are chosen so that outputs of layers
are about 1, where activation functions are not linear.
"""

from __future__ import annotations

import math

import numpy as np

_SOME = 0.1  # standard deviation of parameters that are usually initialised to zero or one


def normal(rng: np.random.Generator, shape: tuple[int, ...], dtype: str, deviation: float = 1.0) -> np.ndarray:
    """Return normally distributed numbers with mean zero: float64 for dtype "float64", else float32."""
    numbers = rng.standard_normal(shape, np.float64 if dtype == "float64" else np.float32)
    numbers *= deviation
    return numbers


def initial_linear(
    rng: np.random.Generator, inputs: int, outputs: int, dtype: str, gain: float = 1.0
) -> dict[str, np.ndarray]:
    """Return weight (O, I) and bias (O) of a layer that multiplies the root mean square of its inputs by `gain`."""
    weight = normal(rng, (outputs, inputs), dtype, gain / math.sqrt(inputs))
    return {"weight": weight, "bias": normal(rng, (outputs,), dtype, _SOME)}


def initial_norm(rng: np.random.Generator, channels: int, dtype: str) -> dict[str, np.ndarray]:
    """Return weight (C), near one, and bias (C), near zero, of a normalisation."""
    weight = normal(rng, (channels,), dtype, _SOME)
    weight += 1
    return {"weight": weight, "bias": normal(rng, (channels,), dtype, _SOME)}


def initial_batchnorm(rng: np.random.Generator, channels: int, dtype: str) -> dict[str, np.ndarray]:
    """Return weight and bias as `initial_norm`, and running averages (C) as if from earlier training."""
    averages = {
        "running_mean": normal(rng, (channels,), dtype, _SOME),
        "running_var": (rng.random(channels) + 0.5).astype(dtype),
    }
    return initial_norm(rng, channels, dtype) | averages
