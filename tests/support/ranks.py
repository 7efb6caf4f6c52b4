"""Measurements of work across ranks, as a target of several devices has them."""

from bench_core.records import Case, Clock, Costs, Measurement, Series, Status, Work

WEAK = {"scaling": "weak", "batch_per_rank": 4}
STRONG = {"scaling": "strong", "batch": 8}


def across(seconds, ranks, *, without=None, process=0, device="cpu:x4", more=None, **known):
    """Return the measurement of a training step on so many of the ranks of a device.

    seconds: of its blocks. without: those of the same without exchange, if they are measured. more: other parameters.
    """
    params = {**(WEAK if more is None else more), "ranks": ranks}
    workload, suite = known.pop("workload", "train_together"), known.pop("suite", "together")
    size = known.pop("size", f"tiny-x{ranks}")
    work = Work(suite, workload, size, known.pop("dtype", "float32"), tuple(params.items()))
    on_cpu = device.startswith("cpu")
    case = Case(work, "torch", device, known.pop("implementation", "default"))
    series = [Series("time", Clock.WALL, tuple(seconds))]
    series += [Series("time_without_exchange", Clock.WALL, tuple(without))] if without else []
    threads = known.pop("threads", 1 if on_cpu else None)
    costs = known.pop("costs", Costs(flops=1e9 * ranks, amounts={"samples": 4.0 * ranks}))
    return Measurement(
        case, Status.OK, series=tuple(series), costs=costs, process=process, threads=threads, **known
    )  # fmt: skip
