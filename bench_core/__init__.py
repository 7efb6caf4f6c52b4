"""bench_core: measure GPUs against CPUs, check every answer, and keep all samples in tables."""

# Nothing is imported here: what is used is imported then. Reading tables needs pandas, and a worker that only measures
# must not wait for that. And a file of the user that hides a module of Python can be named.

from __future__ import annotations

TYPE_CHECKING = False  # instead of an import of typing
if TYPE_CHECKING:
    from bench_core.own.measure import measure
    from bench_core.results.reader import load

    __version__: str

__all__ = ["__version__", "load", "measure"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        found = _imported(name)
    except Exception as error:
        from bench_core.child_main import name_hiding  # noqa: PLC0415

        name_hiding(error)
        raise
    globals()[name] = found
    return found


def _imported(name: str) -> object:
    if name == "load":
        from bench_core.results.reader import load  # noqa: PLC0415

        return load
    if name == "measure":
        from bench_core.own.measure import measure  # noqa: PLC0415

        return measure
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415

    try:
        return version("bench-core")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "0+unknown"
