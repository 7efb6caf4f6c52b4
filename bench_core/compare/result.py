"""The frozen records of a comparison, and the text of a ratio.

Result               everything that `compare` found, in the order in which it is shown
├── Gate             what a check of --fail-on decided, and on which cases
└── Comparison       one piece of work, two results, a ratio with its interval, a verdict with its reason
    ├── Key          what the two results share: the work, the quantity, and the fields that are not compared
    └── Entry        one result of one side: the machine, backend and device, and the measured value
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from operator import attrgetter

from bench_core import units
from bench_core.records import Row

WORK = ("suite", "workload", "workload_version", "size", "dtype", "precision", "params", "scope", "cache")
QUANTITY = ("metric", "unit", "better", "clock")
COSTS = ("flops", "bytes")  # formulas are part of the work: rates by different formulas are different quantities
WHO = ("machine", "backend", "implementation", "device_type", "device", "threads")
_WORK = (*WORK, *QUANTITY)
_work = attrgetter(*_WORK)
_work_alone = attrgetter(*WORK)


class Verdict(StrEnum):
    """What the data say, on a ladder: unclear, indicated, and the three claims, on which alone a gate decides.

    `faster` means better in the direction of the metric, `slower` worse.
    """

    FASTER = "faster"
    SLOWER = "slower"
    SAME = "same"  # the whole interval is smaller than the smallest effect of interest
    INDICATED = "indicated"  # a difference beyond the spread of processes, from too few runs for a claim
    UNCLEAR = "unclear"  # no difference beyond the spread of processes, or none that drift could not explain
    IDENTICAL = "identical"  # both sides are the same rows, which say nothing about a difference
    INCOMPARABLE = "incomparable"  # both sides have a value, but not of the same work
    MISSING = "missing"  # one side has no value


CLAIMS = (Verdict.FASTER, Verdict.SLOWER, Verdict.SAME)


class Support(IntEnum):
    """The highest step of the ladder that the runs of a comparison allow, whatever the values are."""

    NOTHING = 0
    INDICATION = 1
    CLAIM = 2


class Method(StrEnum):
    """How the interval was computed."""

    PAIRED = "paired"  # Student's t on differences of logarithms: interleaved runs of one machine
    WELCH = "welch"  # Welch's t on logarithms: runs that do not come in pairs
    SEQUENTIAL = "sequential"  # order statistics, valid whatever ended the repetition of processes (sequential.py)
    SINGLE = "single-run"  # one run on a side: widened by the spread assumed between processes (spread.py)
    EXACT = "exact"  # a quantity that is identical in every run (bytes), or both sides are the same rows


@dataclass(frozen=True, slots=True)
class Key:
    """The fields that two results must share to be compared.

    who: machine, backend, device, ... with their values, except the columns. It contains `threads` only if equal
    counts are compared; without it, each side has its largest thread count.
    """

    case_id: str
    suite: str
    workload: str
    workload_version: int
    size: str
    dtype: str
    precision: str
    params: str
    scope: str
    cache: str
    metric: str
    unit: str
    better: str
    clock: str
    who: tuple[tuple[str, str], ...] = ()
    _hash: int = field(init=False, repr=False, compare=False)  # of seventeen texts, asked for dozens of times

    def __post_init__(self) -> None:
        object.__setattr__(self, "_hash", hash((self.case_id, *_work(self), self.who)))

    def __hash__(self) -> int:
        return self._hash

    def get(self, field_name: str) -> str:
        """Return a field as text; "" if the key does not contain it."""
        if field_name in WHO:
            return dict(self.who).get(field_name, "")
        return str(getattr(self, field_name))

    @property
    def work(self) -> tuple[str, ...]:
        """The work and the quantity as strings, without `who`."""
        return (self.case_id, *map(str, _work(self)))

    @property
    def order(self) -> tuple[object, ...]:
        """The sort key; sizes are sorted by value (64KiB before 1MiB), other numbers as numbers."""
        named = (*zip(_WORK, map(str, _work(self)), strict=True), *self.who)
        return tuple(units.size_order(text) if name == "size" else units.natural(text) for name, text in named)


@dataclass(frozen=True, slots=True)
class Entry:
    """One result of one side.

    side: the label of its column. rows: its row in each run, oldest first. If there is a value, all have the status
    ok; otherwise the rows give the reason. value: the median over processes, in the unit of the rows; None if there
    is none. ci_low, ci_high: the interval of this value (not of a ratio). processes: their number, over all runs.
    """

    side: str
    rows: tuple[Row, ...]
    value: float | None
    ci_low: float | None
    ci_high: float | None
    processes: int

    @property
    def row(self) -> Row:
        """The newest row."""
        return self.rows[-1]

    @property
    def ok(self) -> bool:
        return self.value is not None

    @property
    def is_unchecked(self) -> bool:
        """Whether the answer of any of its rows is not checked."""
        return any(row.is_unchecked for row in self.rows)

    @property
    def flags(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(word for row in self.rows for word in row.flags.split(";") if word))

    @property
    def name(self) -> str:
        """Machine, backend, implementation, device and threads: "h100 torch cuda:0", "h100 numpy tuned cpu 16t"."""
        row = self.row
        parts = [self.machine, row.backend] + [row.implementation] * (row.implementation != "default") + [row.device]
        return " ".join(parts + [f"{row.threads}t"] * (row.threads is not None))

    @property
    def machine(self) -> str:
        """The label of the machine if one was given, otherwise its name in the table."""
        return self.row.machine


@dataclass(frozen=True, slots=True)
class Difference:
    """A condition that differs: its name, and its value on each side, in order; "" if unknown."""

    name: str
    values: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        return f"{self.name}: " + " against ".join(value or "unknown" for _, value in self.values)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two results for one key, with ratio and verdict.

    side, against: the columns of the contender and of the baseline; their entries are None if the side has no row
        for this key.
    ratio: how many times better the contender is, for metrics of either direction: 2.0 is twice as fast, 0.5 half
        as fast; None unless there are two comparable values. It is that of the two `values`, of pairs by
        Method.SEQUENTIAL the median of the ratios of the pairs; times `Pair.worth`, which is 1 except for costs.
    ci_low, ci_high: the interval of `ratio` at `confidence`.
    p, p_adjusted: p-value of the hypothesis "no difference", None if nothing was tested; adjusted by the method of
        Benjamini and Hochberg over all cases of this result whose runs allow a claim, None for the others.
    support: what the runs allow at most. evidence: the number and kind of the runs: "5 pairs", "one run a side".
    lacking: what a claim would need, with the command that measures it; "" if nothing.
    basis: the statistic of a process that is compared ("p10 of each process", ...). values: what it is of each side,
        the baseline first: the geometric mean over processes, by Method.SEQUENTIAL their median; in the unit of the
        key.
    conditions: which conditions differ. implausible: why a value is implausible.
    absences: the sides without a value, each with why it has none.
    """

    key: Key
    side: str
    against: str
    baseline: Entry | None
    contender: Entry | None
    verdict: Verdict
    reason: str
    support: Support = Support.NOTHING
    evidence: str = ""
    lacking: str = ""
    ratio: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    confidence: float = 0.95
    p: float | None = None
    p_adjusted: float | None = None
    method: Method | None = None
    basis: str = ""
    values: tuple[float, float] | None = None
    conditions: tuple[Difference, ...] = ()
    implausible: tuple[str, ...] = ()
    absences: tuple[tuple[str, str], ...] = ()

    @property
    def change(self) -> str:
        """The ratio as text: "2.00x faster"; "" for none."""
        return change(self.ratio, self.key.unit)

    @property
    def brief(self) -> str:
        """The ratio with its verdict in few words: "2.00x faster" for a claim, "2.00x faster, indicated", "same"."""
        if self.verdict in {Verdict.FASTER, Verdict.SLOWER}:
            return self.change
        known = {Verdict.SAME, Verdict.IDENTICAL}
        return self.verdict.value if self.verdict in known else f"{self.change}, {self.verdict}"

    @property
    def word(self) -> str:
        """The verdict as shown: "better" and "worse" unless the unit is a time or rate; an indication has evidence."""
        return verdict_word(self.verdict, self.evidence, self.key.unit)

    @property
    def nowhere(self) -> bool:
        """Whether neither side has a value."""
        return not any(entry and entry.ok for entry in (self.baseline, self.contender))

    @property
    def interval(self) -> str:
        """The interval as text: "1.95x to 2.05x", or "1.02x slower to 1.10x faster" if it includes 1."""
        return interval(self.ratio, self.ci_low, self.ci_high, self.key.unit)


@dataclass(frozen=True, slots=True)
class BestPair:
    """The best GPU row against the best CPU row of one piece of work, over all tables.

    comparison: its baseline is the entry of the CPU, its contender that of the GPU; both name their machine, backend,
    implementation, device and threads. A runner-up is None if there is no second row.
    """

    comparison: Comparison
    gpu_runner_up: Entry | None
    cpu_runner_up: Entry | None


@dataclass(frozen=True, slots=True)
class Mean:
    """The geometric mean of a side's ratios over `cases` of `of` cases.

    The interval assumes fully correlated cases, which gives the widest interval: half-widths are averaged.
    is_common: whether every side has these cases. If no case is common to all sides, they are those that this side and
        the baseline have, and the means of several sides do not rank them.
    verdict: on the ladder, by the weakest evidence of any case; `same` is never claimed. evidence, lacking: of that
    case.
    """

    side: str
    metric: str
    clock: str
    unit: str
    ratio: float
    ci_low: float
    ci_high: float
    cases: int
    of: int
    verdict: Verdict = Verdict.UNCLEAR
    evidence: str = ""
    lacking: str = ""
    is_common: bool = True

    @property
    def change(self) -> str:
        """The ratio as text."""
        return change(self.ratio, self.unit)

    @property
    def word(self) -> str:
        """The verdict as shown, as that of a Comparison."""
        return verdict_word(self.verdict, self.evidence, self.unit)

    @property
    def interval(self) -> str:
        """The interval as text."""
        return interval(self.ratio, self.ci_low, self.ci_high, self.unit)


class Outcome(StrEnum):
    """What a gate decided, the most urgent first."""

    FAILED = "failed"
    UNDECIDED = "undecided"  # no case supports a claim
    PASSED = "passed"


@dataclass(frozen=True, slots=True)
class Gate:
    """A check of --fail-on.

    name: its word there. criterion: what fails, in words. checked: the number of cases (of rows for "invalid") that it
    looked at. failed, undecided: the names of those that breach it, and of those on which it cannot decide. reason: why
    it cannot decide the first of these, "" if there is none.
    """

    name: str
    criterion: str
    checked: int
    failed: tuple[str, ...]
    undecided: tuple[str, ...] = ()
    reason: str = ""

    @property
    def outcome(self) -> Outcome:
        """Failed by one case; undecided only if no case is decided."""
        if self.failed:
            return Outcome.FAILED
        return Outcome.UNDECIDED if self.undecided and len(self.undecided) == self.checked else Outcome.PASSED

    @property
    def decided(self) -> int:
        """The number of cases on which it decided."""
        return self.checked - len(self.undecided)

    @property
    def line(self) -> str:
        """The outcome as text, without the word: "regression on 2 of 8 cases; undecided on 6: NAME; NAME; ..."."""
        if self.outcome is Outcome.UNDECIDED:
            return f"{self.name}: no case supports a claim: {self.reason}"
        left = f"; undecided on {len(self.undecided):,}: {_some(self.undecided)}" if self.undecided else ""
        if self.failed:
            return f"{self.name}: {self._of(len(self.failed))} {self.criterion}: {_some(self.failed)}{left}"
        return f"{self.name} on {self._of(self.decided)}{left}"

    def _of(self, number: int) -> str:
        what = "row" if self.name == "invalid" else "case"
        if number == self.checked:
            return f"1 {what}" if number == 1 else f"all {number:,} {what}s"
        return f"{number:,} of {self.checked:,} {what}s"


def _some(names: tuple[str, ...], most: int = 3) -> str:
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return "; ".join(names[:most]) + more


@dataclass(frozen=True, slots=True)
class InputFile:
    """One file that was read: its rows by status, and whether it has samples and an environment."""

    path: str
    label: str
    machines: tuple[str, ...]
    run_ids: tuple[str, ...]
    rows: int
    statuses: tuple[tuple[str, int], ...]
    samples: bool
    environment: bool


@dataclass(frozen=True, slots=True)
class Result:
    """Everything a comparison found, in the order in which it is shown.

    sides: the columns, baseline first. columns, row_fields: the fields that form a side and a row label.
    environment: facts of the machines that differ between sides. comparisons: one per key and contender, in the
    order of the keys, including missing and incomparable ones. implausible: implausible values. notes: remarks on
    the data (no samples, duplicates, unknown columns). gates: the outcomes of --fail-on, those that failed first.
    """

    input_files: tuple[InputFile, ...]
    sides: tuple[str, ...]
    baseline: str
    columns: tuple[str, ...]
    row_fields: tuple[str, ...]
    environment: tuple[Difference, ...]
    comparisons: tuple[Comparison, ...]
    best: tuple[BestPair, ...]
    means: tuple[Mean, ...]
    implausible: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    gates: tuple[Gate, ...] = ()
    min_effect: float = 0.05
    confidence: float = 0.95

    @property
    def compared(self) -> tuple[Comparison, ...]:
        """The comparisons with a ratio."""
        return tuple(c for c in self.comparisons if c.ratio is not None)

    @property
    def unmatched(self) -> tuple[Comparison, ...]:
        """The comparisons without a ratio; each has a reason."""
        return tuple(c for c in self.comparisons if c.ratio is None)

    @property
    def breaches(self) -> tuple[str, ...]:
        """A line for each gate that failed."""
        return tuple(gate.line for gate in self.gates if gate.outcome is Outcome.FAILED)

    @property
    def undecided(self) -> str:
        """Why the gate "regression" neither passes nor fails; "" if it does."""
        return next((gate.line for gate in self.gates if gate.outcome is Outcome.UNDECIDED), "")

    def count(self, verdict: Verdict) -> int:
        """Return how many comparisons have this verdict."""
        return sum(c.verdict is verdict for c in self.comparisons)


def unlike_work(first: Row, second: Row) -> tuple[str, ...]:
    """Return the fields in which the work of two rows differs, and the costs that both have and that differ.

    Two rows with one case_id have the same work, unless somebody changed their tables.
    """
    fields = zip(WORK, _work_alone(first), _work_alone(second), strict=True)
    return (*(name for name, a, b in fields if a != b), *unlike_costs(first, second))


def unlike_costs(first: Row, second: Row) -> tuple[str, ...]:
    """Return the costs that two rows have and in which they differ."""
    return tuple(name for name in COSTS if _both_differ(getattr(first, name), getattr(second, name)))


def _both_differ(a: float | None, b: float | None) -> bool:
    return a is not None and b is not None and not math.isclose(a, b, rel_tol=1e-9)


def contrast(first: Row, second: Row, names: Iterable[str]) -> str:
    """Return the values of two rows in these fields as text: "size 512 against 1024, flops 8.0 against 9.0"."""
    return ", ".join(f"{name} {getattr(first, name)!s} against {getattr(second, name)!s}" for name in names)


def words(unit: str) -> tuple[str, str]:
    """Return the words for better and worse: "faster", "slower" for times and rates, otherwise "better", "worse"."""
    return ("faster", "slower") if unit in ("s", "B/s", "FLOP/s", "1/s") else ("better", "worse")


def verdict_word(verdict: Verdict, evidence: str, unit: str) -> str:
    """Return a verdict as shown: "faster", "better", "indicated (one run a side)"."""
    better, worse = words(unit)
    if verdict is Verdict.INDICATED:
        return f"{verdict} ({evidence})"
    return {Verdict.FASTER: better, Verdict.SLOWER: worse}.get(verdict, verdict.value)


def change(ratio: float | None, unit: str) -> str:
    """Return a ratio as text, with the same number in both directions: 2.0 "2.00x faster", 0.5 "2.00x slower".

    A ratio that rounds to one is "1.00x", without a direction.
    """
    if ratio is None:
        return ""
    size = units.significant(max(ratio, 1 / ratio))
    better, worse = words(unit)
    return "1.00x" if size == "1.00" else f"{size}x {better if ratio > 1 else worse}"


def interval(ratio: float | None, low: float | None, high: float | None, unit: str) -> str:
    """Return the interval of a ratio as text, in the format of `change`, from the smaller to the larger change."""
    if ratio is None or low is None or high is None:
        return ""
    if low >= 1 or high <= 1:
        near, far = (low, high) if ratio >= 1 else (1 / high, 1 / low)
        return f"{units.significant(near)}x to {units.significant(far)}x"
    better, worse = words(unit)
    return f"{units.significant(1 / low)}x {worse} to {units.significant(high)}x {better}"
