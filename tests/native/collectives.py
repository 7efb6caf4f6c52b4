"""This suite's time of an all_reduce against a bare loop of torch.distributed, turn by turn in one launch of the ranks.

    python -m tests.native.collectives [--ranks 2] [--pairs 5] [--seconds 3]

The bare loop is what anybody would write: a barrier, some calls, and the longest time of any rank. Both sides call
all_reduce in the same processes, on the same group and the same cores, so what differs is the measuring alone.

- "blocks": the timer of the suite against the loop, both of 20 calls, as nccl-tests has them. Within a pair, both take
  turns, block by block in random order, and the medians of their blocks are compared. (Of a single call, the bare loop
  would mostly tell how far apart the ranks leave the barrier.)
- "whole case": cases as in a run, with checks and warm-up, against bare loops between them of as many calls as a block
  of the case has. All blocks of a case count, also those that were disturbed: nobody tells which loops were.

Printed is the mean ratio of the pairs with its interval (Student's t on the logarithms). For people: nothing here
judges a time, and where other work has the cores, the interval of the whole case is as wide as that work makes it.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter

from bench_core import stats
from bench_core.backends import torch_ranks
from bench_core.records import Case, Status
from bench_core.timing.case import Settings, run_case
from bench_core.timing.ranks import RanksTimer, most
from bench_core.timing.sampling import Durations
from benchmarks.bench_collectives import AllReduce
from benchmarks.sizes import KIB, MIB, size_label

SIZES = (4 * KIB, MIB, 16 * MIB)
CALLS = 20  # in a loop, as in nccl-tests
FEWEST = 5  # blocks of each side in a pair
SETTINGS = Settings(Durations(budget=0.5, least=0.5, warmup=0.1, warmup_cap=0.2), seed=0, last_level_cache=32 * MIB)
WORKLOAD = AllReduce()

Pair = tuple[float, float]  # seconds per call: of the suite, of the bare loop


class Rank:
    """One of the processes: what both sides measure."""

    def __init__(self, backend: torch_ranks.RankedTorch, size: int, seconds: float) -> None:
        self.backend, self.ranks, self.seconds = backend, backend.ranks, seconds
        self.work = WORKLOAD.exchange(size, "float32", backend.ranks.size)
        self.case = Case(self.work, "torch", f"cpu:x{backend.ranks.size}")
        self.buffer = backend.torch.zeros(size // 4)
        self.timer = RanksTimer(backend, backend.ranks)
        self.draw = random.Random(size)  # the same order on every rank

    def run(self) -> None:
        """Make the call that both sides measure."""
        self.backend.torch.distributed.all_reduce(self.buffer, group=self.ranks.group)

    def bare(self, calls: int = CALLS) -> float:
        """Return the seconds per call of a bare loop."""
        torch, group = self.backend.torch, self.ranks.group
        torch.distributed.barrier(group=group)
        begin = perf_counter()
        for _ in range(calls):
            torch.distributed.all_reduce(self.buffer, group=group)
        longest = torch.tensor(perf_counter() - begin, dtype=torch.float64)
        torch.distributed.all_reduce(longest, torch.distributed.ReduceOp.MAX, group=group)
        return longest.item() / calls

    def ours(self) -> float:
        """Return the seconds per call of a block of the suite."""
        return self.timer.time(self.run, CALLS).seconds / CALLS

    def blocks(self) -> Pair:
        """Return the medians of blocks that take turns, for as long as a pair lasts."""
        took: dict[Callable[[], float], list[float]] = {self.ours: [], self.bare: []}
        sides, begin = list(took), perf_counter()
        while most(self.ranks, perf_counter() - begin) < self.seconds or len(took[self.ours]) < FEWEST:
            for side in self.draw.sample(sides, 2):
                took[side].append(side())
        return median(took[self.ours]), median(took[self.bare])

    def whole_case(self) -> Pair:
        """Return the median time of cases, and that of bare loops between them."""
        ours: list[float] = []
        bare: list[float] = []
        begin = perf_counter()
        while most(self.ranks, perf_counter() - begin) < self.seconds or not ours:
            done = run_case(self.case, WORKLOAD, self.backend, SETTINGS)
            if done.status is not Status.OK:
                raise RuntimeError(f"{done.case.label}: {done.status}: {done.reason}")
            series = done.series[0]
            ours += series.seconds
            bare += self.bare_for(SETTINGS.durations.budget, series.inner_loops)
        return median(ours), median(bare)

    def bare_for(self, seconds: float, calls: int) -> list[float]:
        """Return the seconds per call of loops that together take so long."""
        took, begin = [], perf_counter()
        while most(self.ranks, perf_counter() - begin) < seconds or len(took) < FEWEST:
            took.append(self.bare(calls))
        return took


def shown(name: str, pairs: list[Pair]) -> str:
    """Return a line with the ratio of the pairs and the seconds of both sides."""
    ratios = [ours / bare for ours, bare in pairs]
    mean = math.exp(math.fsum(map(math.log, ratios)) / len(ratios))
    low, high = stats.log_mean_interval(ratios)
    times = " ".join(f"{1e3 * median(side):9.3f} ms" for side in zip(*pairs, strict=True))
    return (
        f"{name:20} {times}   ours / bare {mean:.3f} [{low:.3f}, {high:.3f}]   {' '.join(f'{r:.3f}' for r in ratios)}"
    )


def serve(options: argparse.Namespace) -> None:
    """Measure as one of the ranks; rank 0 prints."""
    backend = torch_ranks.connect(f"cpu:x{options.ranks}")
    backend.team(options.ranks)
    backend.set_threads(1)
    for size in options.sizes:
        rank = Rank(backend, size, options.seconds)
        comparisons = {"blocks": rank.blocks, "whole case": rank.whole_case}
        rank.bare()
        found: dict[str, list[Pair]] = {}
        for _ in range(options.pairs):
            for name, pair in comparisons.items():
                found.setdefault(name, []).append(pair())
        if backend.ranks.rank == 0:
            for name, pairs in found.items():
                print(shown(f"{size_label(size)} {name}", pairs), flush=True)
    backend.ranks.every(None)
    backend.torch.distributed.destroy_process_group()


def main() -> None:
    """Launch the ranks, and end as they end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each comparison in a pair")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="bytes of the array")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options)
        return
    with tempfile.TemporaryDirectory() as folder:
        module, arguments = "tests.native.collectives", [*sys.argv[1:], "--serve"]
        command = torch_ranks.launch(module, arguments, options.ranks, folder, os.getpid())
        environ = {**os.environ, **torch_ranks.environ(folder), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=environ, stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            said = [Path(torch_ranks.log_of(folder, rank)).read_text() for rank in range(options.ranks)]
            sys.exit("\n".join([done.stderr, *said]))


if __name__ == "__main__":
    main()
