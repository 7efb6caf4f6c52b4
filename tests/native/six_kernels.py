"""The six kernels on which `minutes` compares ways of measuring, and the processes of two of those ways.

    python -m tests.native.six_kernels timer        # all six by torch.utils.benchmark, in random order
    python -m tests.native.six_kernels pyperf NAME [LOOPS]

Each takes milliseconds and is built in less than a second. The kernels are those of the suite's workloads. A process
imports what a script of a user would import as well: nothing of bench_core that measures.
"""

from __future__ import annotations

import itertools
import json
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter

from bench_core.backends import registry
from bench_core.machine import allotment
from bench_core.records import Case, Work
from bench_core.workload import Kernel, Preset, Workload
from benchmarks.bench_layers import Embedding, Softmax
from benchmarks.bench_matmul import FP32, Square
from benchmarks.bench_memory import Triad
from benchmarks.bench_mlp import MlpInfer

TRIAD_SIZE = 16 << 20  # bytes of an array
PRODUCT_SIZE = 512

# pyperf's defaults for a worker process, read in its source (psf/pyperf, pyperf/_runner.py and _worker.py): one value
# to warm up and three that count, each of the same number of loops, a power of two. A process that only calibrates has
# found the first that takes 0.1 s.
PYPERF_WARMUPS, PYPERF_VALUES, PYPERF_MIN_TIME = 1, 3, 0.1


class Default:
    """What a workload becomes that has one case: the default kernel of one work, on the backends in `on`."""

    on = ("numpy",)

    def implementations(self, target, preset):
        return ("default",)

    def builders(self, target):
        found = super().builders(target)
        return {"default": found["default"]} if target.backend in self.on else {}

    def threads(self, work, preset):
        return (None,)


class OneProduct(Default, Square):
    on = ("numpy", "torch")

    def works(self, preset, machine):
        yield self.product(str(PRODUCT_SIZE), FP32, *[PRODUCT_SIZE] * 3)


class OneTriad(Default, Triad):
    def works(self, preset, machine):
        yield self.array_work(TRIAD_SIZE)


class OneSoftmax(Default, Softmax):
    def works(self, preset, machine):
        return super().works(Preset.QUICK, machine)


class OneEmbedding(Default, Embedding):
    def works(self, preset, machine):
        return super().works(Preset.QUICK, machine)


class OneMlp(Default, MlpInfer):
    def works(self, preset, machine):
        return super().works(Preset.QUICK, machine)


@dataclass(frozen=True)
class Six:
    """One of the six: a workload, and the backend that runs it on the CPU."""

    workload: Workload
    backend: str

    @property
    def work(self) -> Work:
        return next(iter(self.workload.works(Preset.QUICK, None)))


KERNELS = {
    "numpy product": Six(OneProduct(), "numpy"),
    "numpy triad": Six(OneTriad(), "numpy"),
    "numpy softmax": Six(OneSoftmax(), "numpy"),
    "numpy embedding": Six(OneEmbedding(), "numpy"),
    "numpy MLP": Six(OneMlp(), "numpy"),
    "torch product": Six(OneProduct(), "torch"),
}


def built(name: str) -> Kernel:
    """Return one of the six, ready to run, as the suite builds it, with as many threads as the suite uses."""
    from bench_core.timing.recheck import generator

    six, work = KERNELS[name], KERNELS[name].work
    on = registry.load(six.backend)("cpu")
    on.set_threads(allotment.usable_cores())
    inputs = six.workload.inputs(work, generator(work.case_id, 0))
    return six.workload.build(on, Case(work, six.backend, "cpu", "default"), inputs)


def timed(names: Sequence[str]) -> dict[str, list[float]]:
    """Return the seconds per call of each block of torch's Timer.blocked_autorange, by its defaults but the threads."""
    from torch.utils.benchmark import Timer

    threads = allotment.usable_cores()
    found = {}
    for name in random.sample(names, len(names)):
        run = built(name).run
        found[name] = Timer("run()", globals={"run": run}, num_threads=threads).blocked_autorange().times
    return found


def calibrated(run: Callable[[], object], now: Callable[[], float] = perf_counter) -> int:
    """Return the loops of a value in pyperf's manner: they double until a value takes PYPERF_MIN_TIME."""
    loops = 1
    for _ in range(PYPERF_WARMUPS + PYPERF_VALUES):  # as many values as a worker takes, besides those that were short
        while _value(run, loops, now) * loops < PYPERF_MIN_TIME:
            loops *= 2
    return loops


def values(run: Callable[[], object], loops: int, now: Callable[[], float] = perf_counter) -> list[float]:
    """Return the seconds per call of the values that count of one worker process of pyperf."""
    return [_value(run, loops, now) for _ in range(PYPERF_WARMUPS + PYPERF_VALUES)][PYPERF_WARMUPS:]


def _value(run: Callable[[], object], loops: int, now: Callable[[], float]) -> float:
    calls = itertools.repeat(None, loops)
    begin = now()
    for _ in calls:
        run()
    return (now() - begin) / loops


def main() -> None:
    """Print what one process measured, as JSON."""
    way, *given = sys.argv[1:]
    if way == "timer":
        print(json.dumps(timed(list(KERNELS))))
        return
    name, *loops = given
    run = built(name).run
    print(json.dumps(values(run, int(loops[0])) if loops else calibrated(run)))


if __name__ == "__main__":
    main()
