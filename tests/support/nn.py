"""What the tests of benchmarks/nn share: the two array modules, finite differences, and autograd beside them."""

import numpy as np
import pytest
import threadpoolctl

from tests.standin.install import cupy_module


@pytest.fixture(name="xp", params=["numpy", "cupy"])
def array_module(request):
    """NumPy, and the stand-in that refuses whatever CuPy refuses."""
    if request.param == "numpy":
        yield np
        return
    with cupy_module() as cupy:
        yield cupy


@pytest.fixture(autouse=True)
def one_thread():
    """One thread a library: NumPy's and torch's pools in one process fight over the cores."""
    with threadpoolctl.threadpool_limits(1):
        yield


def upload(xp, arrays):
    """Return device copies of arrays, by name."""
    return {name: xp.asarray(array) for name, array in arrays.items()}


def download(xp, array):
    """Return a host copy."""
    return np.asarray(array) if xp is np else xp.asnumpy(array)


def difference(function, arrays, name, direction, step=1e-6):
    """Return the central difference of a scalar function of named arrays along a direction in one of them."""
    ends = [function(arrays | {name: arrays[name] + sign * step * direction}) for sign in (1, -1)]
    return (float(ends[0]) - float(ends[1])) / (2 * step)


def close(a, b, tolerance=1e-10):
    """Whether the largest difference is below `tolerance` of the largest entry."""
    a, b = np.asarray(a), np.asarray(b)
    assert a.shape == b.shape, f"{a.shape} is not {b.shape}"
    return float(np.abs(a - b).max()) <= tolerance * max(1.0, float(np.abs(b).max()))
