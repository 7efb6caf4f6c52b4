"""`bench_core.measure`: one function, measured on several backends by the same steps as the benchmarks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench_core.errors import UsageError
from bench_core.own.function import Function, backends_of, positive, workload_of
from bench_core.own.result import Result
from bench_core.own.source import require_no_worker, source_of, why_only_here
from bench_core.run.session import RunOptions, Session


def measure(  # noqa: PLR0913 - each is a question that has an answer by default
    fn: Callable[..., Any],
    *inputs: Any,
    backends: str | Sequence[str] | None = None,
    reference: Any = None,
    flops: float | None = None,
    bytes: float | None = None,  # noqa: A002 - the column of this name
    tolerance: float | None = None,
    name: str = "",
    budget: float | None = None,
    output: str | Path | None = None,
) -> Result:
    """Measure `fn(*inputs)` on NumPy, CuPy, PyTorch and JAX, as far as they are installed, and return the result.

    fn: is called with the arrays of each backend. If it has a parameter `xp`, it gets the backend's module: numpy,
        cupy, torch or jax.numpy. It returns its answer: an array, a number, or a tuple, list or dict of them. It must
        not write to its inputs.
    inputs: NumPy arrays, which are copied to each device before the timing, and numbers, which are passed on.
    backends: `"numpy"`, `"torch:cpu"`, `"torch:cuda"`, ..., one or several. Default: every backend, on the first device
        of each type.
    reference: the right answer, or a function that computes it from the inputs in float64, on NumPy; it may be `fn`
        itself, which checks that all libraries compute the same as NumPy in float64. A tuple, list or dict stands for
        several arrays. The answer is checked before the timing and again after it: with changed inputs if the reference
        is a function, else with the same (flag `same_inputs`). Without a reference the time is flagged `unchecked`.
    flops, bytes: FLOPs and bytes of memory traffic of one call, for the rates. Without a reference there is no rate.
    tolerance: the largest relative error ||answer - reference|| / ||reference||. Default: that of a matrix product in
        the dtype of the first floating-point input, such as 2e-6 for float32; exact equality for integers.
    name: of the work in the tables. Default: that of `fn`.
    budget: seconds of timed calls for each backend and clock (default 1).
    output: folder in which `<machine>/<run>/` is written, for `bench-core compare`. Default: nothing is written.

    Each backend computes in a process of its own if `fn` can be imported there: it is in a module, or in a script that
    calls `measure` below `if __name__ == "__main__":`. Otherwise everything is measured in this process, and the rows
    are flagged `not_isolated`.

    Raises UsageError for wrong use. An error of `fn` on a backend is a row with status and reason.
    """
    require_no_worker()
    asked = backends_of(backends)
    if output is not None and not isinstance(output, (str, Path)):
        raise UsageError(f"measure: output={output!r}: give the path of a folder")
    function = workload_of(fn, inputs, reference=reference, flops=flops, bytes=bytes, tolerance=tolerance, name=name)
    options = RunOptions(backends=asked, budget=positive("budget", budget), output=Path(output or "results"))
    session = Session(options)
    planned = list(session.cases(function))
    if output is not None:
        session.open(planned, said="measure: output")
    try:
        with source_of(function) as source:
            for case in planned:
                session.measure(case, source)
    finally:
        rows = session.close(planned)
    return Result(tuple(rows), tuple(_notes(function, rates_asked=bool(flops or bytes))), session.folder)


def _notes(function: Function, *, rates_asked: bool) -> list[str]:
    notes = []
    if rates_asked and not function.has_reference:
        notes.append("no rate: the answers were not checked, give a reference")
    if why := why_only_here(function):
        notes.append(f"measured in this process: {why}")
    return notes
