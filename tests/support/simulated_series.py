"""Simulated machines on which the schedule of `bench-core run --precision` runs as it would on a real one.

What a session costs, in seconds: SESSION to start, or AGAIN if the devices are known; for each case CHECKED and CHECKS
calls to build and check it, a warm-up of WARMUP or two calls, and the timed blocks: the budget or three calls. The
figures are those of the preset `quick` on two cores of an AMD EPYC, where checks are most of what long calls cost.

A process has a speed of its own, which no budget changes, as the blocks inside of it have (BLOCK, which more blocks make
smaller).
"""

import math
from dataclasses import dataclass, replace
from functools import cache

from bench_core.records import Case, Clock, Measurement, Series, Status, Work
from bench_core.results.traits import TraitsOf
from bench_core.run.precision import Goal, Precision
from bench_core.run.replicate import Side

SESSION, AGAIN = 6.0, 3.0
CHECKED, CHECKS = 0.3, 8
WARMUP = 0.2
BLOCK = 0.04  # standard deviation of the logarithm of one block
MOST_BLOCKS = 30  # after which the median has usually converged


@dataclass(frozen=True)
class Noise:
    """Between processes, on logarithms. process: its standard deviation. skewed: exponential, not normal. slow: how
    much slower a process is that got the slow speed, and the share of those."""

    process: float = 0.03
    skewed: bool = False
    slow: float = 0.0
    share: float = 0.0

    def median(self):
        """Return the median of what is drawn, by bisection."""
        low, high = -5.0, 5.0
        for _ in range(60):
            middle = (low + high) / 2
            below = (1 - self.share) * self._below(middle) + self.share * self._below(middle - self.slow)
            low, high = (middle, high) if below < 0.5 else (low, middle)
        return low

    def _below(self, x):
        if self.skewed:
            return max(0.0, 1 - math.exp(-x / self.process - 1)) if x > -self.process else 0.0
        return 0.5 * math.erfc(-x / self.process / math.sqrt(2))

    def draw(self, rng):
        own = self.process * (rng.exponential() - 1) if self.skewed else self.process * rng.standard_normal()
        return own + self.slow * (rng.random() < self.share)


@cache
def cases(works, implementations):
    """Return the cases of some works, each by several implementations on one CPU."""
    names = [f"i{i}" for i in range(implementations)]
    return [Case(Work("s", "w", str(8 + n), "float32"), "numpy", "cpu", name) for n in range(works) for name in names]


@dataclass
class Machine:
    """seconds: the true time of a call of each case. noises: that of each case. budget: of timed blocks, in seconds."""

    rng: object
    seconds: dict
    noises: dict
    budget: float
    clock: float = 0.0

    def now(self):
        return self.clock

    def cost(self, case):
        t = self.seconds[case]
        warmup = t if t > 2 * self.budget else max(min(WARMUP, 2 * self.budget), 2 * t)
        return CHECKED + CHECKS * t + warmup + self.blocks(t) * t

    def blocks(self, t):
        """Return the number of blocks, each of one call or 1 ms, as sampling.py times them."""
        fewest = 3 if 3 * t <= 3 * self.budget else math.ceil(3 * self.budget / t)
        return max(1, self.budget / t, fewest)

    def middle(self, case, factor=1.0):
        """Return the median of the seconds of one more process."""
        t = self.seconds[case] * factor
        blocks = min(MOST_BLOCKS, self.blocks(self.seconds[case]))
        within = 1.25 * BLOCK / math.sqrt(blocks) * self.rng.standard_normal()
        return t * math.exp(self.noises[case].draw(self.rng) + within)

    def session(self, of, start, factor=1.0):
        """Measure some cases in one session, and return their measurements."""
        self.clock += start
        done = {}
        for case in of:
            self.clock += self.cost(case)
            series = (Series("time", Clock.WALL, (self.middle(case, factor),)),)
            done[case] = Measurement(case, Status.OK, series=series, elapsed_s=self.cost(case))
        return done


def repeat_until_precise(machine, goal, factors=(1.0,)):
    """Run the schedule to its end and return it. factors: of the seconds of each side."""
    sides = [Side(name) for name in ("this", "against")[: len(factors)]]
    series = Precision(goal, sides, folder=None, now=machine.now)
    chosen, number = list(machine.seconds), 0
    while series.next(number) is not None:
        begin, start = machine.clock, AGAIN if number else SESSION
        if number:
            chosen = series.chosen
        measured = {s.name: machine.session(chosen, start, f) for s, f in zip(sides, factors, strict=True)}
        series.add(measured, machine.clock - begin, TraitsOf())
        number += 1
    return series


def with_budget(machine, budget):
    return replace(machine, budget=budget, clock=0.0)


def until(precision, seconds=math.inf):
    return Goal(precision, seconds)
