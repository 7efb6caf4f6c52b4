"""The weights among the inputs of a work, on a device or in float64."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench_core.workload import Backend, HostArrays

from .names import scoped


def device_weights(backend: Backend, host: HostArrays, dtype: str | None = None) -> dict[str, Any]:
    """Return device copies of the inputs named "weights.*", without that prefix, in their own dtype or in `dtype`."""
    return {name: backend.from_host(array, dtype) for name, array in scoped(host, "weights").items()}


def wide_weights(host: HostArrays) -> dict[str, np.ndarray]:
    """Return float64 host copies of the inputs named "weights.*", without that prefix, for a reference."""
    return {name: array.astype(np.float64) for name, array in scoped(host, "weights").items()}
