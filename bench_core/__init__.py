"""bench_core: measure GPU against CPU honestly, and keep the proof in tidy tables."""

from importlib.metadata import PackageNotFoundError, version

from bench_core.table import load

try:
    __version__ = version("bench-core")
except PackageNotFoundError:  # run from a checkout that is not installed
    __version__ = "0+unknown"

__all__ = ["__version__", "load"]
