"""Random numbers on the host: the only place where weights and batches come from."""

from __future__ import annotations

import numpy as np


def normal(rng: np.random.Generator, shape: tuple[int, ...], dtype: str, deviation: float = 1.0) -> np.ndarray:
    """Return normal numbers drawn in `dtype` itself ("float32" or "float64"), with mean zero."""
    numbers = rng.standard_normal(shape, np.float64 if dtype == "float64" else np.float32)
    numbers *= deviation
    return numbers


def initial_batchnorm(rng: np.random.Generator, channels: int, dtype: str) -> dict[str, np.ndarray]:
    """Return a batch normalisation that does not scale or shift, with running averages of some earlier training."""
    return {
        "weight": np.ones(channels, dtype),
        "bias": np.zeros(channels, dtype),
        "running_mean": normal(rng, (channels,), dtype, 0.1),
        "running_var": (rng.random(channels) + 0.5).astype(dtype),
    }
