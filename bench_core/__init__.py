"""bench_core: measure GPUs against CPUs, check every answer, and keep all samples in tables."""

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench_core.own.measure import measure
    from bench_core.results.reader import load

try:
    __version__ = version("bench-core")
except PackageNotFoundError:  # run from a checkout that is not installed
    __version__ = "0+unknown"

__all__ = ["__version__", "load", "measure"]


def __getattr__(name: str) -> Any:
    # Reading tables needs pandas; a worker that only measures must not wait for its import.
    if name == "load":
        from bench_core.results.reader import load  # noqa: PLC0415

        return load
    if name == "measure":
        from bench_core.own.measure import measure  # noqa: PLC0415 - nor for that of the whole run

        return measure
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
