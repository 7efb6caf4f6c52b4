"""Simulated machines on which the schedule of `bench-core run --precision` runs as it does on a real one.

Costs in seconds: SESSION to start one, or AGAIN if the devices are known; of each case CHECKED to build and check it, its
warm-up (WARMUP, two budgets at most) and its timed blocks, which last as long as the budget. Calls are short, so that
their own time counts for nothing.

Every process has a speed of its own, which no budget changes. So has every block, and many blocks have it less.
"""

import math
from dataclasses import dataclass, replace
from functools import cache

from bench_core.records import Case, Clock, Measurement, Series, Status, Work
from bench_core.results.traits import TraitsOf
from bench_core.run.precision import Precision
from bench_core.run.replicate import Side

SESSION, AGAIN = 6.0, 3.0
CHECKED = 0.1
WARMUP = 0.2
BLOCK = 0.04  # standard deviation of the logarithm of one block
BLOCKS_PER_SECOND, MOST_BLOCKS = 200.0, 30  # after so many, the median has usually converged


@dataclass(frozen=True)
class Noise:
    """The noise between processes, on logarithms, with the median 0.

    process: its standard deviation. skewed: whether it is exponential, not normal. slow: how much slower a process is
    that has the slow speed; share: how many have it, below one half: their median is among the fast ones.
    """

    process: float = 0.03
    skewed: bool = False
    slow: float = 0.0
    share: float = 0.0

    def draw(self, rng):
        own = self.process * (rng.exponential() if self.skewed else rng.standard_normal())
        return own + self.slow * (rng.random() < self.share) - _median(self)


@cache
def _median(noise):
    """Return the median of what is drawn, by bisection of its distribution function."""

    def below(x):
        if noise.skewed:
            return max(0.0, 1 - math.exp(-x / noise.process)) if x > 0 else 0.0
        return 0.5 * math.erfc(-x / noise.process / math.sqrt(2))

    low, high = -5.0, 5.0
    for _ in range(60):
        middle = (low + high) / 2
        share = (1 - noise.share) * below(middle) + noise.share * below(middle - noise.slow)
        low, high = (middle, high) if share < 0.5 else (low, middle)
    return low


def cases(works, implementations=1):
    """Return the cases of some works, each by several implementations on one CPU."""
    names = [f"i{i}" for i in range(implementations)]
    return [Case(Work("s", "w", str(8 + n), "float32"), "numpy", "cpu", name) for n in range(works) for name in names]


@dataclass
class Machine:
    """A machine, and the seconds since it began to measure.

    seconds: the true time of a call of each case, the median over processes. noises: those of each case. budget: of
    timed blocks, in seconds.
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

    @property
    def cost(self):
        """The seconds that a case takes."""
        return CHECKED + min(WARMUP, 2 * self.budget) + self.budget

    def session(self, of, start, factor=1.0):
        """Measure some cases in one session that takes `start` to begin; return the measurement of each."""
        self.clock += start + self.cost * len(of)
        blocks = max(3.0, min(MOST_BLOCKS, self.budget * BLOCKS_PER_SECOND))
        within = 1.25 * BLOCK / math.sqrt(blocks)
        return {case: self._measured(case, factor, within) for case in of}

    def _measured(self, case, factor, within):
        noise = self.noises[case].draw(self.rng) + within * self.rng.standard_normal()
        series = (Series("time", Clock.WALL, (self.seconds[case] * factor * math.exp(noise),)),)
        return Measurement(case, Status.OK, series=series, elapsed_s=self.cost)


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
