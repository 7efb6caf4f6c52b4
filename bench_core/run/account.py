"""Where the time of a run went: the seconds of each part, of all cases and of each one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench_core.records import MEASURING, Measurement, Part, to_json

_WORDS = {Part.WARM_UP: "warm-up", Part.SECOND_LOOK: "second look"}
_DIGITS = 3  # after the decimal point of the seconds in run.json
_SHORT = 20.0  # seconds; below this, tenths are shown
_LONG, _NAMED = 60.0, 3  # seconds of a run that names the cases that took longest, and how many


@dataclass(frozen=True, slots=True)
class RunAccount:
    """The wall seconds of a run in total and by part, which add up to the total, and those of each case by its name."""

    total: float
    parts: Mapping[Part, float]
    cases: Mapping[str, Mapping[Part, float]] = field(default_factory=dict)

    @classmethod
    def of(cls, measurements: Iterable[Measurement], *, starting: float, total: float) -> RunAccount:
        """Return the account of a run. starting: seconds before its first case. total: seconds until now.

        What no case has spent is `other`, as is what a case spent outside of all parts.
        """
        cases = {_name(m): dict(m.spent) for m in measurements if m.spent}
        parts = _added([{Part.STARTING: starting}, *cases.values()])
        accounted = sum(parts.values())
        return cls(max(total, accounted), _ordered(parts | {Part.OTHER: max(0.0, total - accounted)}), cases)

    @property
    def measuring_share(self) -> float:
        """The share of the time that went into warm-up and timed blocks."""
        return sum(self.parts.get(part, 0.0) for part in MEASURING) / max(self.total, 1e-9)

    def to_json(self) -> dict[str, Any]:
        """Return the value of `time` in run.json."""
        rounded = {name: _rounded(parts) for name, parts in self.cases.items()}
        about = {"total_s": round(self.total, _DIGITS), "measuring_share": round(self.measuring_share, 4)}
        return {**about, "parts_s": _rounded(self.parts), "cases_s": rounded}

    @property
    def line(self) -> str:
        """The account in one line; parts without time are left out."""
        spent = {part: _seconds(s, self.total) for part, s in self.parts.items()}
        shown = [f"{_WORDS.get(part, part)} {s}" for part, s in spent.items() if float(s.split()[0])]
        return f"time: {_seconds(self.total, self.total)}, {self.measuring_share:.0%} measuring: {', '.join(shown)}"

    @property
    def longest(self) -> str:
        """The cases that took longest, with what each took, in one line; "" for a run of less than a minute."""
        seconds = {name: sum(parts.values()) for name, parts in self.cases.items()}
        most = sorted(seconds, key=seconds.__getitem__, reverse=True)[:_NAMED]
        named = ", ".join(f"{name} {_seconds(seconds[name], self.total)}" for name in most)
        return f"longest: {named}" if self.total >= _LONG and named else ""


def merged(accounts: Sequence[Mapping[str, Any] | None]) -> dict[str, Any]:
    """Return the sum of several runs' `time` in run.json; {} if one of them has none, as in earlier versions."""
    known = [each for each in accounts if each]
    if not known or len(known) < len(accounts):
        return {}
    names = dict.fromkeys(name for each in known for name in each["cases_s"])
    cases = {name: _added([_parts(each["cases_s"].get(name, {})) for each in known]) for name in names}
    parts = _added([_parts(each["parts_s"]) for each in known])
    return RunAccount(sum(each["total_s"] for each in known), parts, cases).to_json()


def _name(m: Measurement) -> str:
    return f"{m.case.work.workload} {m.case.label}"


def _added(some: Iterable[Mapping[Part, float]]) -> dict[Part, float]:
    total: dict[Part, float] = {}
    for parts in some:
        for part, seconds in parts.items():
            total[part] = total.get(part, 0.0) + seconds
    return _ordered(total)


def _ordered(parts: Mapping[Part, float]) -> dict[Part, float]:
    return {part: parts[part] for part in Part if part in parts}


def _parts(plain: Mapping[str, float]) -> dict[Part, float]:
    return {Part(name): seconds for name, seconds in plain.items()}


def _rounded(parts: Mapping[Part, float]) -> dict[str, float]:
    rounded: dict[str, float] = to_json({part.value: round(seconds, _DIGITS) for part, seconds in parts.items()})
    return rounded


def _seconds(seconds: float, total: float) -> str:
    return f"{seconds:.{int(total < _SHORT)}f} s"
