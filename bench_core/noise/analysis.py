"""Analyse an A/A test: how the noise of a machine affects comparisons made on it.

The same measurement is run many times, and adjacent runs are treated as a before/after pair. Nothing changed, so
every claim is a false alarm. The spread of the pairs gives the smallest change that a number of pairs can detect.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from bench_core import stats
from bench_core.compare import CompareOptions, Reading
from bench_core.compare.pairing import arrange
from bench_core.compare.ratio import FEWEST_RUNS
from bench_core.compare.replicates import collect_replicates
from bench_core.errors import UsageError

POWER = 0.9
MOST = 20  # the most runs per side that are recommended; the fewest are those that a claim needs
_MOST_RELABELLINGS = 512

Logs = Mapping[str, Sequence[float]]  # case -> logarithm of each run's p10, in the order of the runs


@dataclass(frozen=True, slots=True)
class CaseNoise:
    """One case. spread: standard deviation of log times of the runs; difference: of their difference within a pair."""

    name: str
    spread: float
    difference: float

    def smallest(self, runs: int, cases: int, confidence: float) -> float:
        """Return the smallest change (0.05 for 5 %) that `runs` pairs detect with a power of 90 %.

        The formula is (t_alpha + t_power) * s / sqrt(n), on logarithms. alpha is divided by `cases`, which is the
        correction if only one case changed. Source: Chow, Shao and Wang, Sample Size Calculations in Clinical
        Research, section 3.1.
        """
        return self._change(_t(runs - 1, _tail(confidence, cases)) + _t(runs - 1, POWER), runs)

    def significant(self, runs: int, cases: int, confidence: float) -> float:
        """Return the smallest observed change (0.05 for 5 %) that is significant: t_alpha * s / sqrt(n).

        The smallest effect of interest must not be larger, or significant changes are discarded.
        """
        return self._change(_t(runs - 1, _tail(confidence, cases)), runs)

    def _change(self, t: float, runs: int) -> float:
        return math.expm1(t * self.difference / math.sqrt(runs))


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of an A/A test.

    pairs: number of pairs of runs. alarms: share of relabellings of the pairs in which the rule of `compare` raises
    a false alarm in any case. relabellings: their number. rough_alarms: share of pairs of single runs in which any
    case differs by `target` or more. confidence: confidence level of the rule. target: the change that should be
    detected. runs, min_effect: recommended runs per side and smallest effect. found: the change that these detect in
    90 % of all attempts, in every case.
    """

    pairs: int
    cases: tuple[CaseNoise, ...]
    alarms: float
    relabellings: int
    rough_alarms: float
    confidence: float
    target: float
    runs: int
    min_effect: float
    found: float

    @property
    def reachable(self) -> bool:
        """Whether the recommended runs detect a change of `target`."""
        return self.found <= self.target


def logs_of(reading: Reading) -> dict[str, list[float]]:
    """Return the log p10 of the processes of every case, in their order, from a merged run of one machine."""
    grid = arrange([reading], CompareOptions())
    logs: dict[str, list[float]] = {}
    for key, cells in grid.cells.items():
        for side, found in cells.items():
            replicates = sorted(collect_replicates(side, found).replicates, key=lambda r: r.pair[2])
            if len(replicates) > 1:
                name = " ".join([key.workload, key.size, key.dtype, key.clock, *(value for _, value in key.who)])
                logs[name] = [r.low for r in replicates]
    return logs


def analyse(logs: Logs, target: float = 0.05, confidence: float = 0.95, seed: int = 0) -> Finding:
    """Analyse the runs; `target` is the change that should be detected, 0.05 for 5 %.

    Raises UsageError if there is no case, or a case has fewer than four runs.
    """
    pairs = min((len(runs) // 2 for runs in logs.values()), default=0)
    if pairs < 2:
        raise UsageError("noise: at least four runs of every case are needed")
    differences = {name: [runs[2 * i + 1] - runs[2 * i] for i in range(pairs)] for name, runs in logs.items()}
    cases = tuple(
        # Nothing changed, so the true mean of the differences is zero: divide by `pairs`, not by `pairs - 1`.
        CaseNoise(name, math.sqrt(stats.Moments.of(logs[name]).variance), math.sqrt(sum(d * d for d in ds) / pairs))
        for name, ds in differences.items()
    )
    flips = list(_flips(pairs, seed))
    alarms = sum(_alarm(differences.values(), signs, target, confidence) for signs in flips)
    least = math.log1p(target)
    rough = sum(any(abs(ds[i]) >= least for ds in differences.values()) for i in range(pairs))

    def worst(runs: int) -> float:
        return max(case.smallest(runs, len(cases), confidence) for case in cases)

    runs = next((n for n in range(FEWEST_RUNS, MOST + 1) if worst(n) <= target), MOST)
    significant = max(case.significant(runs, len(cases), confidence) for case in cases)
    return Finding(
        pairs,
        cases,
        alarms / len(flips),
        len(flips),
        rough / pairs,
        confidence,
        target,
        runs,
        min(max(0.01, math.floor(100 * significant) / 100), target),
        worst(runs),
    )


def _flips(pairs: int, seed: int) -> Iterator[tuple[int, ...]]:
    """Yield sign vectors that swap "before" and "after" within pairs: all of them, or 512 drawn at random.

    The first pair is never swapped: swapping all pairs only turns "faster" into "slower".
    """
    if 2 ** (pairs - 1) <= _MOST_RELABELLINGS:
        yield from ((1, *signs) for signs in itertools.product((1, -1), repeat=pairs - 1))
        return
    draw = random.Random(seed)  # noqa: S311 - labels, not secrets
    for _ in range(_MOST_RELABELLINGS):
        yield (1, *(draw.choice((1, -1)) for _ in range(pairs - 1)))


def _alarm(differences: Collection[Sequence[float]], signs: Sequence[int], effect: float, confidence: float) -> bool:
    """Return whether the rule of `compare` for pairs of runs would claim a change in any case."""
    if len(signs) < FEWEST_RUNS:
        return False
    estimates = [stats.paired([s * d for s, d in zip(signs, ds, strict=True)]) for ds in differences]
    adjusted = stats.benjamini_hochberg([e.p() for e in estimates])
    least = math.log1p(effect)
    return any(p <= 1 - confidence and abs(e.mean) >= least for e, p in zip(estimates, adjusted, strict=True))


def _tail(confidence: float, cases: int) -> float:
    return 1 - (1 - confidence) / cases / 2


def _t(dof: int, tail: float) -> float:
    return stats.Estimate(0.0, 1.0, dof).interval(2 * tail - 1)[1]
