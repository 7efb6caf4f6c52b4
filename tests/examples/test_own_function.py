"""Functions of one's own in pytest: `pytest --benchmark-only` measures them, `pytest` checks their answers once."""

import numpy as np
import pytest
from own_function import gelu

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("n", [1000, 100_000])
def test_gelu(measure, n):
    x = RNG.standard_normal(n, dtype="float32")
    measure(gelu, x, reference=gelu, bytes=2 * x.nbytes)


def cosine(a, b):
    """Written with operators and methods that all libraries have, so that it needs no `xp`."""
    return (a @ b) / ((a @ a) * (b @ b)) ** 0.5


def test_cosine(measure):
    """Of this vector and its mirror image the right answer is known: a number."""
    a = np.arange(1000.0)
    measure(cosine, a, a[::-1].copy(), reference=0.49924962481240624)


def test_time_only(measure):
    """Without a reference there is a time, the flag `unchecked`, and no rate."""
    measure(cosine, RNG.standard_normal(1000), RNG.standard_normal(1000), name="cosine_unchecked")


def test_numpy_only(measure):
    """A function that calls one library is measured on that alone."""
    measure(np.sort, RNG.standard_normal(1000), reference=np.sort, backends="numpy")
