"""Measurements of one small case, for tests of what is made of them."""

from bench_core.records import Case, Clock, Costs, Measurement, Run, Series, Status, Work

RUN = Run("r1", "2026-01-01T00:00:00+00:00", "machine-a")
CASE = Case(Work("tests", "double", "8", "float64", (("n", 8),)), "numpy", "cpu")


def measurement(seconds=(1.0, 2.0, 4.0), status=Status.OK, **known):
    """Return the measurement of CASE with these seconds a call, one block each."""
    costs = known.pop("costs", Costs(flops=8.0, bytes=32.0, amounts={"samples": 2.0}))
    series = known.pop("series", (Series("time", Clock.WALL, tuple(seconds), 3),))
    return Measurement(CASE, status, costs=costs, series=series, **known)
