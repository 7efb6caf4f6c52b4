"""This suite's median against torch.utils.benchmark.Timer on the same kernels, turn by turn in one process.

    python -m tests.native.timer [--rounds 15]

Both time the very same callable on the very same tensors, so what differs is the measuring alone.
"""

from __future__ import annotations

import argparse
import random
from statistics import median

from torch.utils.benchmark import Timer

from bench_core.backends import registry
from bench_core.records import Machine, Preset
from bench_core.timing.case import generator
from bench_core.timing.sampling import Durations, WallTimer, sample_series
from bench_core.timing.watch import Watch
from benchmarks.bench_matmul import Square
from benchmarks.bench_memory import Triad

PLAN = Durations(budget=1.0)


def kernels():
    """Yield the name and the callable of each piece of work, on PyTorch and the CPU."""
    backend = registry.load("torch")("cpu")
    machine = Machine(last_level_cache=32 << 20, cores=1)
    for workload in (Square(), Triad()):
        for work in workload.works(Preset.QUICK, machine):
            if work.dtype in {"float32", "float64"} and work.precision == "ieee":
                host = workload.inputs(work, generator(work.case_id, 0))
                name = f"{work.workload} {work.size} {work.dtype}"
                yield name, workload.kernels["torch"]["default"](backend, work, host).run


def ours(run):
    return median(sample_series("time", run, WallTimer(lambda: None), PLAN, Watch.of("cpu", None)).calm)


def theirs(run):
    return Timer("run()", globals={"run": run}, num_threads=2).blocked_autorange(min_run_time=1.0).median


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    for name, run in kernels():
        run()
        ratios = []
        for _ in range(rounds):
            times = {}
            for timed in random.sample((ours, theirs), 2):
                times[timed] = timed(run)
            ratios.append(times[ours] / times[theirs])
        low, high = min(ratios), max(ratios)
        print(f"{name:28} ours / Timer: median {median(ratios):.4f}, {rounds} rounds from {low:.3f} to {high:.3f}")


if __name__ == "__main__":
    main()
