"""Measurements of work across ranks, as a target of several devices has them, and runs of it of known efficiency."""

from itertools import combinations

from bench_core.compare import Reading
from bench_core.records import Case, Clock, Costs, Fact, Measurement, Series, Status, Traffic, Traits, Work, to_json
from bench_core.results.rows import rows_of_run
from bench_core.results.run_files import RunFiles
from bench_core.results.traits import TraitsOf
from bench_core.results.writer import write_run
from tests.support import tables

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


# The efficiency of each doubling of the ranks, by implementation, for weak and for strong scaling.
EFFICIENCY = {"ddp": (0.9, 0.8), "fsdp": (0.8, 0.7)}
LINK = 450e9
EXCHANGED = Traits(headline="bus_bandwidth", traffic=Traffic.LINK)
TRAITS = TraitsOf({("swap", "swap"): EXCHANGED, ("swap", "swap_two"): EXCHANGED})


def trained(ranks=4, device="cuda:x4", processes=3, **known):
    """Return the training on 1, 2, 4, ... of so many ranks: 100 ms on one, 90 ms of them without exchange."""
    return [
        across(
            (0.99 * seconds, seconds, 1.01 * seconds), n, process=process, device=device, more=more, size="tiny",
            implementation=implementation, without=(0.09 / (n if more is STRONG else 1),) * 3, **known,
        )
        for process in range(processes)
        for implementation, efficiency in EFFICIENCY.items()
        for more, each in zip((WEAK, STRONG), efficiency, strict=True)
        for n in (2**i for i in range(ranks.bit_length()))
        for seconds in [(0.1 + 1e-4 * process) / (n if more is STRONG else 1) / each ** (n.bit_length() - 1)]
    ]  # fmt: skip


def exchanged(ranks=4, device="cuda:x4"):
    """Return exchanges at half of LINK with 4 MiB on all ranks, less on fewer and for fewer bytes."""
    return [
        across((0.9 * t, t, 1.1 * t), n, device=device, more={"bytes": size}, suite="swap", workload="swap",
               size=f"{size}B-x{n}", costs=Costs(amounts={"bus_bytes": size}))
        for n in (2**i for i in range(1, ranks.bit_length()))
        for size in (4096, 65536, 1 << 22)
        for t in [size / (LINK / 2 * (size / (1 << 22)) ** 0.5 * n / ranks)]
    ]  # fmt: skip


def alike(ranks):
    """Return the rates in B/s of all pairs of equal ranks: a third of LINK, but for 1 % or 2 %."""
    return {(a, b): LINK / 3 * (1 + 0.01 * ((a * b) % 3)) for a, b in combinations(range(ranks), 2)}


def paired(rates, ranks=4, device="cuda:x4", size=1 << 24, noise=0.005, **known):
    """Return exchanges of two ranks at these rates in B/s, by pair. noise: the half width of the times of a case."""
    return [
        across((t * (1 - noise), t, t * (1 + noise)), ranks, device=device, more={"bytes": size, "pair": f"{a}-{b}"},
               suite="swap", workload="swap_two", size=f"{size}B-x{ranks}-{a}-{b}",
               costs=Costs(amounts={"bus_bytes": size}), **known)
        for (a, b), rate in rates.items()
        for t in [size / rate]
    ]  # fmt: skip


def several_devices(machine="a", ranks=4, device="cuda:x4", *, others=(), link=LINK):
    """Return a run of training and exchanges on several devices. others: measurements beside it. link: 0 if unknown."""
    pairs = paired(alike(ranks), ranks, device) if ranks > 2 else []
    done = [*trained(ranks, device, device_name="A GPU"), *exchanged(ranks, device), *pairs, *others]
    rows = rows_of_run(tables.run(machine), tables.grouped(done), TraitsOf())
    facts = {"ranks.link_bandwidth": Fact(link, "datasheet of a link") if link else Fact(reason="no driver")}
    return Reading.of(
        f"{machine}/run-{machine}/results.csv", rows, files=RunFiles(facts=facts, about={"traits": TRAITS.to_json()})
    )


def with_pairs(ranks, slow=()):
    """Return a run with pairs of 4 KiB too, of which those with all of these ranks are half as fast as the others."""
    found = {pair: 5e8 if slow and set(slow) <= set(pair) else 1e9 for pair in combinations(range(ranks), 2)}
    device = f"cuda:x{ranks}"
    return several_devices(ranks=ranks, device=device, others=paired(found, ranks, device, 4096))


def write(folder, ranks=4, device="cuda:x4"):
    """Write a run of training and exchanges on several devices, with its run.json."""
    done = [*trained(ranks, device), *exchanged(ranks, device), *paired(alike(ranks), ranks, device)]
    run = tables.run("together")
    path = folder / run.machine / run.run_id
    path.mkdir(parents=True)
    link = {"ranks.link_bandwidth": {"value": LINK, "source": "datasheet of a link"}}
    about = {"run": to_json(run), "environment": {"host": link, "workers": {}}, "traits": TRAITS.to_json()}
    write_run(path, rows_of_run(run, tables.grouped(done), TraitsOf()), done, about)
    return path
