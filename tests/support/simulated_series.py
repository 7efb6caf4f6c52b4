"""Simulated machines on which the schedule of `bench-core run --precision` runs as it does on a real one.

Costs in seconds: SESSION to start one, or AGAIN if the devices are known; of each case CHECKED to build and check it,
its warm-up (WARMUP, two budgets at most) and its timed blocks, which last as long as the budget. Where calls are long,
that is a number of calls: BUILT to build the kernel and call it first, one or more to warm up, one or more that are
timed, and those of the second look.

Every process has a speed of its own, which no budget changes. So has every block, and many blocks have it less.
"""

import math
from bisect import bisect_left
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from bench_core import sequential
from bench_core.records import Case, Clock, Measurement, Series, Status, Work
from bench_core.results.traits import TraitsOf
from bench_core.run.precision import Precision
from bench_core.run.replicate import Side

SESSION, AGAIN = 6.0, 3.0
CHECKED = 0.1
WARMUP = 0.2
BUILT = 2.0
BLOCK = 0.04  # standard deviation of the logarithm of one block
SHORTEST, MOST_BLOCKS = 5e-3, 30  # seconds of a block; after so many, the median has usually converged


@dataclass(frozen=True)
class Noise:
    """The noise between processes, on logarithms.

    process: its standard deviation. skewed: whether it is exponential, not normal. slow: how much slower a process is
    that has the slow speed; share: how many have it.
    """

    process: float = 0.03
    skewed: bool = False
    slow: float = 0.0
    share: float = 0.0

    def draw(self, rng, within, n=None):
        """Return the noise of one process, or of `n`. within: the standard deviation of the median of its blocks."""
        own = self.process * (rng.exponential(size=n) if self.skewed else rng.standard_normal(n))
        return own + self.slow * (rng.random(n) < self.share) + within * rng.standard_normal(n)


@cache
def median_of(noise, within):
    """Return the median of a noise over all processes."""
    return float(np.median(noise.draw(np.random.default_rng(0), within, 400_000)))


def cases(works, implementations=1):
    """Return the cases of some works, each by several implementations on one CPU."""
    names = [f"i{i}" for i in range(implementations)]
    return [Case(Work("s", "w", str(8 + n), "float32"), "numpy", "cpu", name) for n in range(works) for name in names]


@dataclass
class Machine:
    """A machine, and the seconds since it began to measure.

    seconds: those of a call of each case without noise. noises: those of each case. budget: of timed blocks, in
    seconds.
    """

    rng: object
    seconds: dict
    noises: dict
    budget: float
    clock: float = 0.0

    def now(self):
        return self.clock

    def with_budget(self, budget):
        """Return the machine as it was before it began, with another budget."""
        return replace(self, budget=budget, clock=0.0)

    def blocks(self, case):
        """Return the number of timed blocks of a process, as sampling.py counts them."""
        call = self.seconds[case]
        fewest = 1 if call >= 3 * self.budget else 2 if 2 * call >= 3 * self.budget else 3
        return min(MOST_BLOCKS, max(fewest, math.ceil(self.budget / max(SHORTEST, call))))

    def cost(self, case):
        """Return the seconds that a case takes."""
        call, blocks = self.seconds[case], self.blocks(case)
        warm_up = max(call, min(WARMUP, 2 * self.budget))
        second = (1 if blocks > 1 else 2) * call
        return CHECKED + BUILT * call + warm_up + max(self.budget, blocks * call) + second

    def session(self, of, start, factor=1.0):
        """Measure some cases in one session that takes `start` to begin; return the measurement of each."""
        costs = {case: self.cost(case) for case in of}
        self.clock += start + sum(costs.values())
        return {case: self._measured(case, factor, seconds) for case, seconds in costs.items()}

    def within(self, case):
        """The standard deviation of the median of the blocks of a process."""
        blocks = self.blocks(case)
        return BLOCK * (1.25 / math.sqrt(blocks) if blocks > 2 else 1 / math.sqrt(blocks))

    def true(self, case):
        """Return the median over all processes of the seconds of a case."""
        return self.seconds[case] * math.exp(median_of(self.noises[case], self.within(case)))

    def _measured(self, case, factor, cost):
        noise = self.noises[case].draw(self.rng, self.within(case))
        series = (Series("time", Clock.WALL, (self.seconds[case] * factor * math.exp(noise),)),)
        return Measurement(case, Status.OK, series=series, elapsed_s=cost)


def until_precise(machine, goal, factors=(1.0,)):
    """Run the schedule to its end and return it. factors: of the seconds of each side."""
    sides = [Side(name) for name in ("this", "against")[: len(factors)]]
    series = Precision(goal, sides, folder=None, now=machine.now)
    chosen, number = list(machine.seconds), 0
    while series.next(number) is not None:
        chosen = series.chosen if number else chosen
        begin, start = machine.clock, AGAIN if number else SESSION
        measured = {s.name: machine.session(chosen, start, f) for s, f in zip(sides, factors, strict=True)}
        series.add(measured, machine.clock - begin, TraitsOf())
        number += 1
    return series


@cache
def widths():
    """Return by look half of the interval that is to be expected there, in standard deviations of normal values."""
    rng, found = np.random.default_rng(0), {}
    for n, limit in zip(sequential.LOOKS, sequential.boundary(), strict=True):
        drawn = np.sort(rng.standard_normal((4000, n)), axis=1)
        found[n] = float(np.mean(drawn[:, (n + limit) // 2 - 1] - drawn[:, (n - limit) // 2])) / 2
    return found


def least_median(machine, seconds):
    """Return about the least median interval that any schedule of rounds could reach in some seconds.

    It is that of a schedule which knows how noisy each case is before it has measured any, and measures half of them
    after the first round, to the look that each needs: those for which that costs least.
    """
    left = seconds - SESSION - sum(machine.cost(case) for case in machine.seconds)
    spreads = {case: math.hypot(noise.process, machine.within(case)) for case, noise in machine.noises.items()}

    def needed(width):
        rounds = {c: next((n - 1 for n, w in widths().items() if w * s <= width), math.inf) for c, s in spreads.items()}
        costs = sorted(n * machine.cost(case) for case, n in rounds.items())
        return sum(costs[: len(costs) // 2])

    tried = np.geomspace(0.001, 1.0, 400)
    return tried[bisect_left(tried, True, key=lambda width: needed(width) <= left)]
