"""Hypothesis; where it is not installed, what stands in for it: its tests are skipped, a module's others run."""

import pytest

try:
    from hypothesis import given, settings
    from hypothesis import strategies as st
except ImportError:

    class _Nothing:
        """Strategies that are built and combined, and never drawn from."""

        def __getattr__(self, name):
            return self

        def __call__(self, *args, **kwargs):
            return self

        def __or__(self, other):
            return self

    def given(*args, **kwargs):
        return pytest.mark.skip(reason="hypothesis is not installed")

    def settings(**kwargs):
        return lambda test: test

    st = _Nothing()

__all__ = ["given", "settings", "st"]
