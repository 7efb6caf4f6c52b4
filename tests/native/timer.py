"""This suite's median against torch.utils.benchmark.Timer on the same kernels, turn by turn in one process.

    python -m tests.native.timer [--rounds 15]

Both time the very same callable on the very same tensors, so what differs is the measuring alone.
"""

from __future__ import annotations

import argparse
import random
from statistics import median

from torch.utils.benchmark import Timer

from bench_core import backends
from bench_core.measure import Plan, WallTimer, measure
from bench_core.model import Preset
from bench_core.perform import generator
from bench_core.workload import Machine
from benchmarks.bench_matmul import Square
from benchmarks.bench_memory import Triad

PLAN = Plan(budget=1.0)


def kernels():
    """Yield the name and the callable of each piece of work, on PyTorch and the CPU."""
    backend = backends.load("torch")("cpu")
    machine = Machine(last_level_cache=32 << 20, cores=1)
    for workload in (Square(), Triad()):
        for work in workload.works(Preset.QUICK, machine):
            if work.dtype in {"float32", "float64"} and work.precision == "ieee":
                host = workload.inputs(work, generator(work.case_id, 0))
                name = f"{work.workload} {work.size} {work.dtype}"
                yield name, workload.kernels["torch"]["default"](backend, work, host).run


def ours(run):
    return median(measure("time", run, WallTimer(lambda: None), PLAN).seconds)


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
