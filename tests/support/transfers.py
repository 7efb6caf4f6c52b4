"""Measurements of transfers and exchanges whose times follow from latency and bandwidth: for tests of sweeps."""

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


def exchange(size, ranks=2, latency=10e-6, bandwidth=25e9, factor=1.0, device="cuda:x8", name="Some GPU"):
    """Return the measurement of an exchange of `size` bytes; bandwidth: of its bus bytes, `factor` of them a byte."""
    work = Work("collectives", "all_reduce", f"{size}-x{ranks}", "float32", (("bytes", size), ("ranks", ranks)))
    costs = Costs(amounts={"algorithm_bytes": float(size), "bus_bytes": factor * size})
    series = (Series("time", Clock.WALL, (latency + factor * size / bandwidth,) * 3),)
    return Measurement(Case(work, "torch", device), Status.OK, costs=costs, series=series, device_name=name)
