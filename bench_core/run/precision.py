"""Repeat processes until each headline value is precise enough, or the time is up.

A value is the median over processes of one case: of the series behind the headline metric of its workload, else of its
wall time. With two sides it is the ratio of the two within each round, of the p10 as `compare` takes it: that is what
was asked for, and a machine that drifts leaves it alone. Its precision is half of its interval (sequential.py), as a
factor: 3 % is from 1 / 1.03 to 1.03 times the middle.

The first round measures every case. From then on a round measures what is not yet precise, first what would change an
answer, then what needs the fewest seconds in all: with the widest first, fewer would be precise when the time is up.
Each value is measured until its next look, where it is judged again. A look that could not be reached within the time
is not begun, because the processes until then would say nothing. Nor is one that would take the time which the values
before it need until they are precise: that is how the cases of the longest calls may get none.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench_core import sequential, stats
from bench_core.records import NOT_TRIED, SEQUENTIAL, Case, Clock, Measurement, Part, Status, Work
from bench_core.results.metrics import METRICS
from bench_core.results.traits import TraitsOf, merged
from bench_core.run.replicate import Done, Side, Turn
from bench_core.run.session import write_cases
from bench_core.units import SYMMETRIC

NEAREST = "nearest to it"  # why a value is repeated that decides nothing
# By what factor two values may differ and still be rivals if one of them has no interval yet.
_UNKNOWN = 1.5
_MOST_FAILURES = 2  # in a row, after which a case is not tried again
# Processes that a value is expected to need as long as it has no interval: as many as there is time for if the cheapest
# _SEEN_THROUGH of all values get them, and no more than _MOST_EXPECTED.
_SEEN_THROUGH = 0.7
_MOST_EXPECTED = 21


@dataclass(frozen=True, slots=True)
class Goal:
    """precision: of each headline value, 0.03 for 3 %. seconds: of wall time, infinite for no limit."""

    precision: float
    seconds: float = math.inf


@dataclass(slots=True, eq=False)
class Value:
    """One headline value, with all that is known of it.

    numbers: of its processes, in the order of their measurement: seconds, or with two sides a ratio. middle: their
    median. ends: its interval, None before the first look. costs: the wall seconds of its case in each round, of all
    sides. failures: rounds without a number since the last that had one. first: its precision at the first look. why:
    why it was measured after that. is_refused: whether an answer was wrong.
    """

    case: Case
    numbers: list[float] = field(default_factory=list)
    middle: float = math.nan
    ends: tuple[float, float] | None = None
    costs: list[float] = field(default_factory=list)
    failures: int = 0
    first: float | None = None
    why: dict[str, None] = field(default_factory=dict)
    is_refused: bool = False

    def add(self, number: float) -> None:
        """Add the number of one more process."""
        self.failures = 0
        self.numbers.append(number)
        self.middle = stats.quantile(sorted(self.numbers), 0.5)
        if len(self.numbers) in sequential.LOOKS:
            self.ends = sequential.interval(self.numbers)
        if len(self.numbers) == sequential.FIRST:
            self.first = self.precision

    def refuse(self) -> None:
        """Take all numbers away: after a wrong answer the case has no value, whatever other processes say."""
        self.numbers, self.middle, self.ends, self.first = [], math.nan, None, None
        self.failures = _MOST_FAILURES
        self.is_refused = True

    @property
    def name(self) -> str:
        return f"{self.case.work.workload} {self.case.label}"

    @property
    def precision(self) -> float | None:
        """Half of its interval as a factor less one; None before the first look."""
        return math.sqrt(self.ends[1] / self.ends[0]) - 1 if self.ends else None

    @property
    def cost(self) -> float:
        """The wall seconds that it takes in a round."""
        return sum(self.costs) / len(self.costs)

    @property
    def rounds(self) -> int:
        """The number of rounds until its next look, 0 after the last; one without a number is tried once more."""
        if not self.numbers:
            return 1
        return (sequential.next_look(len(self.numbers)) or len(self.numbers)) - len(self.numbers)

    @property
    def may_go_on(self) -> bool:
        """Whether more processes may say more; also of a case that failed at once, perhaps by chance."""
        return self.failures < _MOST_FAILURES and self.rounds > 0

    @property
    def is_under_way(self) -> bool:
        """Whether it is between two looks: what was spent since the last says nothing until the next.

        The first round measures everything, so that one value alone is no beginning. A case that failed is tried again.
        """
        return not self.numbers or len(self.numbers) > max(1, sequential.look(len(self.numbers)))

    def rivals(self, other: Value) -> bool:
        """Whether it is not known which of two values is smaller."""
        (a, b), (c, d) = (v.ends or (v.middle / _UNKNOWN, v.middle * _UNKNOWN) for v in (self, other))
        return a <= d and c <= b


@dataclass(frozen=True, slots=True)
class Round:
    """A complete round: the number of its cases, and its wall seconds in all and outside of them."""

    cases: int
    seconds: float
    beside: float


class Precision:
    """The schedule of a series that ends with its precision. See `replicate.Schedule`.

    folder: where files for the sessions can be written; it must stay until the series has ended. now: a clock in
    seconds. values: by planned case, all that have a value or may get one. ended: why, "" as long as it has not.
    """

    flag = SEQUENTIAL
    of = "rounds are complete"

    def __init__(
        self, goal: Goal, sides: Sequence[Side], folder: Path, now: Callable[[], float] = time.monotonic
    ) -> None:
        self.goal, self.sides = goal, [side.name for side in sides]
        self.values: dict[Case, Value] = {}
        self.rounds: list[Round] = []
        self.ended = ""
        self._folder, self._now, self._begin = folder, now, now()
        self._chosen: list[Value] = []
        self._expected = 0.0

    # ------------------------------------------------------------ what replicate.Schedule asks

    def next(self, number: int) -> str | None:
        if number == 0:
            return f"round 1: all cases, to be known within {percent(self.goal.precision)}"
        self._chosen = self._choose(self.goal.seconds - (self._now() - self._begin))
        if not self._chosen:
            self.ended = self._why_ended()
            return None
        left = self.goal.seconds - (self._now() - self._begin)
        in_time = "" if math.isinf(left) else f", {math.ceil(left / 60)} min left"
        what = f"{len(self._chosen)} of {len(self.values)} cases"
        return f"round {number + 1}: {what}, {len(self.inside)} within {percent(self.goal.precision)}{in_time}"

    def options(self, turn: Turn) -> Sequence[str]:
        probes = f"--bench-probes={self._folder / f'probes-{turn.side.name}.jsonl'}"
        if turn.replicate == 0:
            return [probes]
        path = self._folder / "cases.json"
        write_cases(path, self.chosen)
        return [probes, f"--bench-cases={path}"]

    def took(self, done: Sequence[Done]) -> None:
        measured = {d.turn.side.name: d.kept.by_planned() for d in done}
        self.add(measured, sum(d.seconds for d in done), merged(d.traits for d in done))

    def about(self) -> Mapping[str, Any]:
        seconds = None if math.isinf(self.goal.seconds) else self.goal.seconds
        return {
            "precision": {
                "precision": self.goal.precision,
                "time": seconds,
                "looks": list(sequential.LOOKS),
                "ended": self.ended or "stopped early",
                "values": len(self.known),
                "within": len(self.inside),
                "rounds": [{"cases": each.cases, "seconds": each.seconds} for each in self.rounds],
                "cases": [
                    {
                        "workload": value.case.work.workload,
                        "case": value.case.label,
                        "processes": len(value.numbers),
                        "first": value.first,
                        "last": value.precision,
                        "why": list(value.why),
                    }
                    for value in self.values.values()
                ],
            }
        }

    # ------------------------------------------------------------ what is known

    @property
    def refused(self) -> list[Value]:
        """Those of which an answer was wrong."""
        return [value for value in self.values.values() if value.is_refused]

    @property
    def known(self) -> list[Value]:
        """All that have a value, however uncertain."""
        return [value for value in self.values.values() if value.numbers]

    @property
    def chosen(self) -> list[Case]:
        """The cases of the round that was announced last; those of the first, which measures all, are not known."""
        return [value.case for value in self._chosen]

    @property
    def inside(self) -> list[Value]:
        return [value for value in self.known if self._is_inside(value)]

    def _is_inside(self, value: Value) -> bool:
        precision = value.precision
        return precision is not None and precision <= self.goal.precision

    def add(self, measured: Mapping[str, Mapping[Case, Measurement]], seconds: float, traits: TraitsOf) -> None:
        """Add a complete round: the measurements of each side by planned case, and its wall seconds."""
        cases = dict.fromkeys(case for by_case in measured.values() for case in by_case)
        spent = 0.0
        for case in cases:
            tried = [measured[side][case] for side in self.sides if case in measured[side]]
            if not self.rounds and any(m.status in NOT_TRIED for m in tried):
                continue
            value = self.values.setdefault(case, Value(case))
            value.costs.append(sum(map(_cost, tried)))
            spent += value.costs[-1]
            number = _number(tried, traits) if len(tried) == len(self.sides) else None
            if number is None:
                value.failures += 1
                if any(m.status is Status.INVALID for m in tried):
                    value.refuse()
                continue
            value.add(number)
        self.rounds.append(Round(len(cases), seconds, max(0.0, seconds - spent)))

    # ------------------------------------------------------------ what to measure next

    def _choose(self, left: float) -> list[Value]:
        """Return what the next round measures, nothing if there is nothing to gain in the seconds that are left.

        A value that is begun reserves the time until it is probably precise. The next is begun if its look fits into
        what remains. So values of long calls do not take, look by look, the time in which many others would be known.
        """
        if len(self.rounds) == 1:
            self._expected = self._affordable(left)
        going = [value for value in self.values.values() if value.may_go_on]
        wanted = [value for value in going if value.is_under_way or not self._is_inside(value)]
        # One that hung, and not by chance, must not take the time of all others once more.
        others = sum(value.cost for value in wanted if value.numbers) or math.inf
        wanted = [value for value in wanted if value.numbers or value.cost <= others]
        deciding = self._deciding()
        chosen: list[Value] = []
        looks, reserved, longest = 0.0, 0.0, 0  # seconds of all looks that are chosen, and until precise; rounds
        for value in sorted(wanted, key=lambda value: self._place(value, deciding)):
            planned = looks if value.is_under_way or not chosen else reserved
            look, rounds = value.rounds * value.cost, max(longest, value.rounds)
            if planned + look + rounds * self.rounds[-1].beside > left:
                continue
            looks, longest = looks + look, rounds
            reserved += max(look, (self._enough(value) - len(value.numbers)) * value.cost)
            chosen.append(value)
            if value.first is not None and not value.is_under_way:
                value.why[deciding.get(value, NEAREST)] = None
        return chosen

    def _affordable(self, left: float) -> float:
        """Return how many processes most values can have in the seconds that are left after the first."""
        costs = sorted(value.cost for value in self.known)
        measuring = left - (sequential.FIRST - 1) * self.rounds[0].beside
        more = measuring / max(1e-9, sum(costs[: math.ceil(_SEEN_THROUGH * len(costs))]))
        return min(max(1 + more, sequential.FIRST), _MOST_EXPECTED)

    def _enough(self, value: Value) -> float:
        """Return the number of processes with which a value is probably precise, or the most that it gets."""
        if value.precision is None:
            return self._expected
        # Intervals shrink with the square root of the number of processes.
        factor = math.log1p(value.precision) / math.log1p(self.goal.precision)
        return min(len(value.numbers) * factor**2, sequential.LOOKS[-1])

    def _place(self, value: Value, deciding: Mapping[Value, str]) -> tuple[float, ...]:
        """Return the sort key: first what is under way or failed, then what decides, then what needs least time."""
        if value.is_under_way:
            return (0, value.rounds, value.cost)
        return (1, value not in deciding, self._enough(value) * value.cost)

    def _deciding(self) -> dict[Value, str]:
        """Return the values that leave an answer open, each with that answer."""
        if len(self.sides) > 1:
            logs = [[math.log(number) for number in value.numbers] for value in self.known]
            adjusted = stats.benjamini_hochberg([sequential.p_of_zero(each) for each in logs])
            open_ones = zip(self.known, adjusted, strict=True)
            return {value: "verdict" for value, p in open_ones if p > 1 - stats.CONFIDENCE}
        works: dict[Work, dict[str, list[Value]]] = {}
        for value in self.known:
            devices = works.setdefault(value.case.work, {})
            devices.setdefault(value.case.device, []).append(value)
        found: dict[Value, str] = {}
        for devices in works.values():
            leaders = {device: min(values, key=lambda value: value.middle) for device, values in devices.items()}
            for device, leader in leaders.items():
                equals = [value for value in devices[device] if value.rivals(leader)]
                if len(equals) > 1:
                    found |= dict.fromkeys(equals, f"best of {device}")
            cpu = leaders.pop("cpu", None)
            for leader in leaders.values():
                if cpu and cpu.rivals(leader):
                    found |= dict.fromkeys((cpu, leader), "crossover")
        return found

    def _why_ended(self) -> str:
        if len(self.inside) == len(self.known):
            return "every value is precise enough" if self.known else "no case has a value"
        open_ones = [value for value in self.known if value.may_go_on and not self._is_inside(value)]
        if not open_ones:
            return "the others are at the last look, or failed"
        left = self.goal.seconds - (self._now() - self._begin)
        if left <= 0:
            return "the time is up"
        beside = self.rounds[-1].beside
        needed = min(value.rounds * (value.cost + beside) for value in open_ones)
        more = math.ceil((needed - left) / 60)
        return f"the next look of any other would take {max(1, more)} min longer than --time"


def _cost(m: Measurement) -> float:
    """Return the wall seconds of a case without the start of its process; also of one that hung or crashed."""
    spent = sum(seconds for part, seconds in m.spent.items() if part is not Part.STARTING)
    return max(spent, m.elapsed_s)


def _number(tried: Iterable[Measurement], traits: TraitsOf) -> float | None:
    """Return the number of one round: the median seconds of one side, or the ratio of the p10 of two; None without."""
    several = [_seconds(m, traits) for m in tried]
    found = [sorted(seconds) for seconds in several if seconds]
    if len(found) < len(several):
        return None
    if len(found) == 1:
        return stats.quantile(found[0], 0.5)
    first, second = (stats.quantile(seconds, 0.1) for seconds in found)
    return second / first


def _seconds(m: Measurement, traits: TraitsOf) -> Sequence[float] | None:
    """Return the wall seconds from which the headline metric of a measurement follows; None if it has no value."""
    if m.status is not Status.OK:
        return None
    metric = METRICS.get(traits(m.case.work).headline or "time")
    name = metric.formula.lead.name if metric and metric.formula else metric.name if metric else "time"
    walls = {series.metric: series.calm for series in m.series if series.clock is Clock.WALL}
    seconds = walls.get(name) or walls.get("time")
    return seconds if seconds and min(seconds) > 0 else None


def percent(precision: float | None) -> str:
    """Return a precision as text: "3 %", "a factor of 2.5" where that is lopsided, "unknown" for None."""
    if precision is None:
        return "unknown"
    return f"{100 * precision:.2g} %" if precision < SYMMETRIC else f"a factor of {1 + precision:.3g}"
