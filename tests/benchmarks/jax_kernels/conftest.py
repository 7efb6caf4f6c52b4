"""Fixtures of the tests of this folder; JAX is imported by those alone that need it."""

import pytest

from tests.support import kernels


@pytest.fixture(scope="module")
def on():
    with kernels.backend("jax") as made:
        yield made


@pytest.fixture
def programs():
    """The programs that are made, in order."""
    with kernels.noted_programs() as made:
        yield made
