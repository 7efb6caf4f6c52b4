"""The spread between processes that is assumed for a side with a single run.

Blocks of one process do not show how much processes differ. So it is taken from runs that were repeated: those of
`bench-core noise` on this machine if there are any, otherwise those of a committed table, by backend and kind of work.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from statistics import NormalDist
from typing import Any

import numpy as np

from bench_core import stats
from bench_core.compare.loading import Reading
from bench_core.compare.options import SIDES, CompareOptions
from bench_core.compare.pairing import arrange
from bench_core.compare.replicates import collect_replicates
from bench_core.machine.facts import contradictions, lasting
from bench_core.records import Limit, Row, Traits
from bench_core.results.run_files import flatten
from bench_core.results.traits import TraitsOf, merged

Measured = Mapping[tuple[str, str, str], float]  # backend, device type, kind of work -> spread

KINDS = {Limit.COMPUTE: "products", Limit.BANDWIDTH: "streams", Limit.LATENCY: "launches"}
OTHER = "layers and models"
LEAST, MOST = 1e-4, 3.0  # a spread outside of these is an error of the file
FEWEST_DIFFERENCES = 30  # of two processes, that a figure needs

# As `measured` returns it for the table named; tests/compare/test_spread.py measures it again.
SPREADS_FROM = "results/amd-epyc-2c, three runs"
SPREADS: Measured = {
    ("numpy", "cpu", "layers and models"): 0.13,
    ("numpy", "cpu", "streams"): 0.17,
    ("numpy", "cpu", "products"): 0.36,
    ("torch", "cpu", "layers and models"): 0.5,
    ("torch", "cpu", "streams"): 0.23,
    ("torch", "cpu", "products"): 0.14,
}

# No committed table repeats a run on a GPU. This is the largest spread between processes of a GPU framework that was
# seen when the method of this project was developed.
ACCELERATOR, ACCELERATOR_FROM = 0.09, "the most seen for a GPU framework"


@dataclass(frozen=True, slots=True)
class Spread:
    """A standard deviation of log times between processes, and the runs that it comes from."""

    value: float
    source: str


@dataclass(frozen=True, slots=True)
class Spreads:
    """Look up the spread to assume for a row.

    traits: of the workloads. noise: what `bench-core noise` has measured, by machine as shown in the rows.
    """

    traits: TraitsOf = field(default_factory=TraitsOf)
    noise: Mapping[str, Measured] = field(default_factory=dict)
    _known: dict[tuple[str, ...], Spread] = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def of(cls, readings: Sequence[Reading]) -> Spreads:
        """Return the spreads for the rows of these readings."""
        noise: dict[str, dict[tuple[str, str, str], float]] = {}
        for reading in readings:
            if not _is_of_this_computer(reading):
                continue
            found = from_json(reading.files.noise)
            for (machine,) in reading.rows.distinct("machine") if found else ():
                known = noise.setdefault(machine, {})
                known |= {key: max(value, known.get(key, 0.0)) for key, value in found.items()}
        return cls(merged(reading.traits for reading in readings), noise)

    def __call__(self, row: Row) -> Spread:
        """Return the spread of a row, of its backend and kind of work: on its machine, otherwise in the table.

        If neither has it, it is the largest of other kinds of work of this backend, or on a CPU of all backends.
        """
        known_by = row.machine, row.backend, row.device_type, row.suite, row.workload
        found = self._known.get(known_by)
        if found is None:
            found = self._known[known_by] = self._of(row)
        return found

    def _of(self, row: Row) -> Spread:
        key = row.backend, row.device_type, kind(self.traits(row))
        own = self.noise.get(row.machine, {})
        sources = (own, f"bench-core noise on {row.machine}"), (SPREADS, SPREADS_FROM)
        for spreads, source in sources:
            if key in spreads:
                return Spread(spreads[key], source)
        others = [Spread(v, source) for spreads, source in sources for k, v in spreads.items() if k[:2] == key[:2]]
        if others:
            largest = max(others, key=lambda spread: spread.value)
            return Spread(largest.value, f"{largest.source}, the largest of {row.backend}")
        if row.device_type == "cpu":
            return Spread(max(SPREADS.values()), f"{SPREADS_FROM}, the largest of all")
        return Spread(ACCELERATOR, ACCELERATOR_FROM)


def _is_of_this_computer(reading: Reading) -> bool:
    """Return whether noise.json and run.json can be of one computer: any folder can be given the name of a machine."""
    host = reading.files.noise.get("host")
    return not contradictions(lasting(flatten(host if isinstance(host, dict) else {})), lasting(reading.files.facts))


def kind(traits: Traits) -> str:
    """Return the kind of work that a workload with these traits is."""
    limit = Limit.BANDWIDTH if traits.is_stream else traits.measures
    return KINDS[limit] if limit else OTHER


def measured(readings: Sequence[Reading]) -> Measured:
    """Return the spreads in runs that were repeated on one machine, rounded to two digits.

    A spread s is such that 95 % of the differences between two processes of a case are within 1.96 sqrt(2) s, as an
    interval for the difference of two single runs assumes. It is a quantile, because a few cases differ far more than
    the others. Backends and kinds of work with fewer than FEWEST_DIFFERENCES differences are left out.
    """
    traits = merged(reading.traits for reading in readings)
    differences: dict[tuple[str, str, str], list[float]] = {}
    valued = [reading.only(~np.isnan(reading.rows.numbers("value"))) for reading in readings]
    cells = arrange(valued, CompareOptions(columns=SIDES)).cells.values()
    for side, found in ((side, found) for sides in cells for side, found in sides.items()):
        side_of_case = collect_replicates(side, found)
        row = side_of_case.entry.row
        lows = [replicate.low for replicate in side_of_case.replicates]
        apart = [abs(a - b) for a, b in combinations(lows, 2)]
        differences.setdefault((row.backend, row.device_type, kind(traits(row))), []).extend(apart)
    z = NormalDist().inv_cdf(0.5 + stats.CONFIDENCE / 2) * math.sqrt(2)
    return {
        key: float(f"{stats.quantile(sorted(apart), stats.CONFIDENCE) / z:.2g}")
        for key, apart in sorted(differences.items())
        if len(apart) >= FEWEST_DIFFERENCES
    }


def to_json(spreads: Measured) -> list[dict[str, Any]]:
    """Return spreads in the format of noise.json."""
    names = ("backend", "device_type", "kind")
    return [dict(zip(names, key, strict=True)) | {"spread": value} for key, value in spreads.items()]


def from_json(plain: Mapping[str, Any]) -> Measured:
    """Return the spreads in a noise.json of any version and origin; invalid entries are left out."""
    found: dict[tuple[str, str, str], float] = {}
    entries = plain.get("spreads")
    if not isinstance(entries, list):
        return found
    for entry in entries:
        match entry:
            case {"backend": str(backend), "device_type": str(device), "kind": str(work), "spread": int() | float()}:
                spread = entry["spread"]
                if LEAST <= spread <= MOST and not isinstance(spread, bool):
                    found[backend, device, work] = float(spread)
    return found
