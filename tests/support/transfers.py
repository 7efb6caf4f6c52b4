"""Measurements of transfers whose times follow from a latency and a bandwidth, for tests of what is made of a sweep."""

from bench_core.records import Case, Clock, Costs, Measurement, Series, Status, Work

SWEPT_SIZES = (4096, 1 << 20, 1 << 24, 1 << 28)


def transfer(size, latency=10e-6, bandwidth=25e9, memory="pinned", backend="torch", suite="transfer", **known):
    """Return the measurement of a copy of `size` bytes to a GPU."""
    params = (("elements", size // 4), ("memory", memory))
    work = Work(suite, "h2d", f"{size}-{memory}", "float32", params, **known)
    seconds = latency + size / bandwidth
    series = (Series("time", Clock.WALL, (seconds,) * 3),)
    case = Case(work, backend, "cuda:0")
    return Measurement(case, Status.OK, costs=Costs(bytes=float(size)), series=series, device_name="Some GPU")
