"""Shared by all tests of bench_core."""

import pytest


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    """Leave the unit tests out of a benchmark run: importing them would cost time that is not measured."""
    return True if config.getoption("benchmark_only") else None
