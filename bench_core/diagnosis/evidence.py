"""What the environment says of one machine of a fleet: facts in which it differs from most of the others.

A fact that stays the same, such as a driver, is told where more than half of the others agree on another value. A
number that varies, such as a temperature, is told where it is beyond the range of most others by a margin. So several
machines with one fault do not hide each other.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench_core.analysis.summary import DOUBTS
from bench_core.compare.labels import short
from bench_core.compare.loading import Reading
from bench_core.machine.facts import VOLATILE, absent, known, reduced_power, shown, slowed_down
from bench_core.records import (
    DRIFT,
    NEVER_QUIET,
    OTHER_WORK,
    SHARED_GPU,
    SLOW_CLOCK,
    STEAL,
    THROTTLED,
    Clock,
    Facts,
    Status,
)
from bench_core.text import printable
from bench_core.units import show

MOST = 8  # causes of a machine
_FEWEST = 2  # other machines that know a fact
_TRIMMED = 4  # one in so many of the others may be beyond what is said of most of them, on each side
_LONGEST = 80  # characters of a value
_MOST_WORDS = 4  # of packages and of environment variables

# What differs between parts of one node, is told elsewhere, or is no property of the machine.
_UNTOLD = {
    *("cpu.affinity", "cpu.given", "env.CUDA_VISIBLE_DEVICES", "package.bench-core", "system.clock", "threadpools"),
    "cuda.driver",  # the same as gpu.driver_cuda
}
_FAMILIES = {"package.": "packages", "env.": "environment variables"}
_POWER, _HELD, _LANES, _LIBRARY = "power capped", "slowed down", "lanes", "library"  # made of other facts, or of rows
_FLAGS = (THROTTLED, SLOW_CLOCK, SHARED_GPU, STEAL, OTHER_WORK, NEVER_QUIET, DRIFT)

# How a fact is called, the most telling ones first. Others follow under their own names.
_WORDS = {
    **{f"flag {flag}": DOUBTS[flag] for flag in _FLAGS[:3]},
    _HELD: "what limited its clocks before any work",
    _POWER: "power limit",
    "gpu.power_limit": "power limit",
    "gpu_clock": "clock of the GPU right after the timed blocks, from the median node",
    "gpu_temperature": "temperature of the GPU right after the timed blocks, from the median node",
    "gpu_power": "power of the GPU right after the timed blocks, from the median node",
    "gpu.sm_clock_max": "highest clock of the GPU",
    "gpu.memory_clock_max": "highest clock of the GPU's memory",
    _LANES: "PCIe lanes",
    "gpu.pcie_generation_max": "PCIe generation of board and card",
    "gpu.pcie_width_max": "PCIe lanes of board and card",
    "gpu.pcie_generation": "PCIe generation",
    "gpu.ecc": "ECC",
    "gpu.ecc_errors": "memory errors of the GPU that ECC could not correct",
    "gpu.remapped_rows": "rows of the GPU's memory that were replaced",
    "gpu.mig": "MIG",
    "gpu.other_processes": "other processes on the GPU",
    "gpu.memory": "memory of the GPU",
    "memory.total": "memory",
    "memory.bandwidth": "bandwidth of its DIMMs",
    **{f"flag {flag}": DOUBTS[flag] for flag in _FLAGS[3:]},
    "load.average": "load before the run",
    "cpu.quota": "CPU quota in cores",
    "cpu.cores_usable": "usable cores",
    "gpu.driver": "driver",
    "gpu.driver_cuda": "CUDA of the driver",
    "cuda.runtime": "CUDA runtime",
    "cuda.cublas": "cuBLAS",
    "cuda.cudnn": "cuDNN",
    "cpu.governor": "CPU governor",
    "cpu.boost": "CPU boost",
    "cpu.smt": "SMT",
    "cpu.frequency": "CPU clock before the run",
    "gpu.memory_clock": "clock of the GPU's memory before any work",
    "gpu.sm_clock": "clock of the GPU before any work",
    "gpu.temperature": "temperature of the GPU before any work",
    "memory.available": "free memory",
    "memory.limit": "memory that it may use",
    "memory.swap_used": "used swap",
    "memory.huge_pages": "huge pages",
    "cpu.identity": "CPU",
    "system.kernel": "kernel",
    _LIBRARY: "library",
}
_ORDER = {name: place for place, name in enumerate(_WORDS)}


@dataclass(frozen=True, slots=True)
class _Varies:
    """A number that varies. sides: -1 if low values are telling, 1 if high ones are, 0 if both.

    margin: by how much it must be beyond the others, in its unit. share: the same as a share of their median.
    of_several: what stands for several readings of one machine.
    """

    sides: int
    margin: float = 0.0
    share: float = 0.0
    of_several: Callable[[Iterable[float]], float] = statistics.median


_VARYING = {
    "gpu.temperature": _Varies(1, 5.0),
    "gpu.sm_clock": _Varies(-1, share=0.1),
    "gpu.memory_clock": _Varies(-1, share=0.1),
    "gpu.other_processes": _Varies(1, 0.5),
    "gpu.ecc_errors": _Varies(1, 0.5),
    "gpu.remapped_rows": _Varies(1, 0.5),
    "gpu.pcie_generation": _Varies(-1, 0.5, of_several=max),  # an idle card lowers it
    "cpu.frequency": _Varies(-1, share=0.1),
    "memory.total": _Varies(0, share=0.01),
    "memory.limit": _Varies(-1, share=0.05),
    "memory.available": _Varies(-1, share=0.2),
    "memory.swap_used": _Varies(1, 1e8),
    "load.average": _Varies(1, 1.0),
    "gpu_clock": _Varies(0, 0.02),  # of this and the next two: from the fleet, as a share or in degrees
    "gpu_power": _Varies(0, 0.05),
    "gpu_temperature": _Varies(1, 5.0),
    **{f"flag {flag}": _Varies(1, 0.05) for flag in _FLAGS},
}

_Key = tuple[str, str]  # name of a fact, and where it is from: a device, a backend, "" for the host


@dataclass(frozen=True, slots=True)
class _Said:
    """A fact in which a machine differs. own: its value. others: theirs. size: how telling, among equals."""

    name: str
    where: str
    own: str
    others: str
    sentence: str
    size: float = 0.0


@dataclass(frozen=True, slots=True)
class Evidence:
    """The environments of machines of one kind: what is known of each, by fact."""

    texts: Mapping[_Key, Mapping[str, str]]
    numbers: Mapping[_Key, Mapping[str, float]]

    @classmethod
    def of(cls, machines: Iterable[str], readings: Sequence[Reading]) -> Evidence:
        """Return what some tables know of these machines (Hardware.machines of nodes.py)."""
        found = _Collected(frozenset(machines))
        for reading in readings:
            found.add(reading)
        numbers = {key: found.single(key[0], by_machine) for key, by_machine in found.numbers.items()}
        return cls(found.as_texts(), numbers | _after_blocks(found.after) | _shares(found.flagged, found.cases))

    def causes(self, machine: str) -> tuple[str, ...]:
        """Return in what a machine differs from most of the others, a sentence each: the most telling first, MOST."""
        every = [*self._of_texts(machine), *self._of_numbers(machine)]
        by_name: dict[str, list[_Said]] = {}
        for said in sorted(every, key=lambda said: (_rank(said.name), said.name, -said.size, said.where)):
            family = next((family for family in _FAMILIES if said.name.startswith(family)), said.name)
            by_name.setdefault(family, []).append(said)
        if _POWER in by_name:
            by_name.pop("gpu.power_limit", None)
        sentences = [
            _of_family(name, several) if name in _FAMILIES else self._of_fact(several)
            for name, several in by_name.items()
        ]
        return tuple(map(printable, sentences[:MOST]))

    def _of_fact(self, several: Sequence[_Said]) -> str:
        """Return the sentence of one fact, which may be of several devices or libraries."""
        first = several[0]
        alike = [said.where for said in several if (said.own, said.others) == (first.own, first.others)]
        everywhere = {where for name, where in (*self.texts, *self.numbers) if name == first.name}
        where = "" if len(everywhere) == 1 or {*alike} == everywhere else f" ({', '.join(sorted(alike))})"
        more = len(several) - len(alike)
        return f"{first.sentence}{where}" + f", and similarly on {more} more" * (more > 0)

    def _of_texts(self, machine: str) -> Iterator[_Said]:
        for (name, where), by_machine in self.texts.items():
            own = by_machine.get(machine)
            others = Counter(by_machine[other] for other in sorted(by_machine) if other != machine)
            if own is None or others.total() < _FEWEST:
                continue
            usual, count = others.most_common(1)[0]
            if own != usual and 2 * count > others.total():
                told = f"{_words(name)}: {own}; on {count} of {others.total()} other nodes: {usual}"
                yield _Said(name, where, own, usual, told)

    def _of_numbers(self, machine: str) -> Iterator[_Said]:
        for (name, where), by_machine in self.numbers.items():
            others = [value for other, value in by_machine.items() if other != machine]
            if machine in by_machine and len(others) >= _FEWEST:
                found = _beyond(_VARYING[name], by_machine[machine], others)
                if found:
                    low, high, size = found
                    own, usual = _told(name, by_machine[machine]), _range(_told(name, low), _told(name, high))
                    told = f"{_words(name)}: {own}; on most other nodes: {usual}"
                    yield _Said(name, where, own, usual, told, size)


def _beyond(varies: _Varies, own: float, others: Sequence[float]) -> tuple[float, float, float] | None:
    """Return the range of most others, and how far a value is beyond it by its margin; None if it is not.

    Their range is a margin too: where the others scatter, only what is far away is telling.
    """
    ordered = sorted(others)
    cut = len(ordered) // _TRIMMED
    low = ordered[cut if varies.sides <= 0 else 0]
    high = ordered[-1 - cut] if varies.sides >= 0 else ordered[-1]
    margin = max(varies.margin, varies.share * abs(statistics.median(ordered)), high - low)
    above, below = own - high, low - own
    size = max(above if varies.sides >= 0 else -math.inf, below if varies.sides <= 0 else -math.inf)
    return (low, high, size / margin) if size >= margin and size > 0 else None


def _rank(name: str) -> int:
    return _ORDER.get(name, len(_ORDER) + any(map(name.startswith, _FAMILIES)))


def _words(name: str) -> str:
    return _WORDS.get(name) or short(name)


def _range(low: str, high: str) -> str:
    return low if low == high else f"{low} to {high}"


def _told(name: str, value: float) -> str:
    """Return a number that varies as text."""
    if name.startswith("flag "):
        return f"{100 * value:.0f} % of the cases"
    if name == "gpu_temperature":
        return f"{round(value):+d} degrees C"
    if name in {"gpu_clock", "gpu_power"}:
        return f"{round(100 * value, 1) + 0.0:+.1f} %"
    if name == "gpu.temperature":
        return f"{value:.0f} degrees C"
    return shown(name, int(value) if value == int(value) else round(value, 2))


def _of_family(family: str, several: Sequence[_Said]) -> str:
    """Return the sentence of all packages, or of all environment variables."""
    named = {said.name.removeprefix(family): f"{said.own} instead of {said.others}" for said in several}
    words = [f"{short(name)} {told}" for name, told in named.items()]
    more = [f"{len(words) - _MOST_WORDS} more"] if len(words) > _MOST_WORDS else []
    return f"{_FAMILIES[family]}: {', '.join([*words[:_MOST_WORDS], *more])}"


# ---------------------------------------------------------------- what is known


class _Collected:
    """What the tables of some machines say, by fact and machine.

    after: metrics that were read right after the timed blocks, by metric and device, then work, then machine. flagged,
    cases: how many results have a flag, by flag and device, and how many there are, by device; then by machine.
    """

    def __init__(self, machines: frozenset[str]) -> None:
        self.machines = machines
        self.texts: dict[_Key, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
        self.numbers: dict[_Key, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        self.after: dict[_Key, dict[tuple[Any, ...], dict[str, list[float]]]] = {}
        self.flagged: dict[_Key, Counter[str]] = defaultdict(Counter)
        self.cases: dict[str, Counter[str]] = defaultdict(Counter)
        self._with_host: set[str] = set()

    def add(self, reading: Reading) -> None:
        rows = reading.rows
        rows = rows.only(rows.mask("machine", self.machines.__contains__) & rows.mask("status", Status.OK.__eq__))
        hosts = set()
        for machine, run_id, env_id, backend, device, library in rows.distinct(
            "machine", "run_id", "env_id", "backend", "device", "library"
        ):
            files = reading.files_of(run_id)
            if (machine, run_id) not in hosts:
                hosts.add((machine, run_id))
                self._add_host(machine, files.facts)
            self._add_worker(machine, files.worker_facts.get(env_id, {}), files.facts, backend, device)
            if library:
                self.texts[_LIBRARY, backend][machine].add(printable(library, _LONGEST))
        self._add_flags(reading.only(reading.rows.mask("machine", self.machines.__contains__)))
        self._add_after(reading.only(reading.rows.mask("machine", self.machines.__contains__)))

    def _add_host(self, machine: str, facts: Facts) -> None:
        if facts:
            self._with_host.add(machine)
        for name, fact in facts.items():
            self._add_fact(machine, name, "", fact.value)

    def _add_worker(self, machine: str, facts: Facts, host: Facts, backend: str, device: str) -> None:
        """Add the facts of a worker which the host has not: it repeats many of them, and the versions of packages."""
        for name, fact in facts.items():
            if name not in host and f"package.{name}" not in host:
                is_of_device = name.startswith(("gpu.", "cuda."))
                self._add_fact(machine, name, device if is_of_device else backend, fact.value)
        if "gpu.name" in facts or "gpu.driver" in facts:
            for name, text in _made(facts):
                self.texts[name, device][machine].add(text)

    def _add_fact(self, machine: str, name: str, where: str, value: Any) -> None:
        number = value[0] if name == "load.average" and isinstance(value, list) and value else value
        if name in _VARYING:
            if _is_number(number):
                self.numbers[name, where][machine].append(float(number))
        elif value is not None and name not in VOLATILE and name not in _UNTOLD:
            self.texts[name, where][machine].add(printable(shown(name, value), _LONGEST))

    def _add_flags(self, reading: Reading) -> None:
        rows = reading.rows
        rows = rows.only(
            rows.mask("status", Status.OK.__eq__)
            & rows.mask("clock", Clock.WALL.__eq__)
            & rows.mask("metric", "time".__eq__)
        )
        groups, numbers = rows.groups(("machine", "device", "flags"))
        for (machine, device, flags), count in zip(groups, np.bincount(numbers).tolist(), strict=True):
            self.cases[device][machine] += count
            for flag in set(flags.split(";")).intersection(_FLAGS):
                self.flagged[f"flag {flag}", device][machine] += count

    def _add_after(self, reading: Reading) -> None:
        rows = reading.rows
        rows = rows.only(rows.mask("status", Status.OK.__eq__) & rows.mask("metric", _AFTER.__contains__))
        names = ("metric", "device", "machine", "case_id", "backend", "implementation")
        cells = zip(*(rows.cells(name) for name in names), rows.numbers("value").tolist(), strict=True)
        for metric, device, machine, *work, value in cells:
            if value > 0:
                by_work = self.after.setdefault((metric, device), {})
                by_work.setdefault(tuple(work), {}).setdefault(machine, []).append(value)

    def single(self, name: str, by_machine: Mapping[str, Sequence[float]]) -> dict[str, float]:
        """Return one number for each machine."""
        return {machine: _VARYING[name].of_several(several) for machine, several in by_machine.items()}

    def as_texts(self) -> dict[_Key, dict[str, str]]:
        """Return one text for each fact and machine. What a known host lacks is not installed, or unset."""
        found = {
            key: {machine: " / ".join(sorted(several)) for machine, several in by_machine.items()}
            for key, by_machine in self.texts.items()
        }
        for (name, where), by_machine in found.items():
            word = absent(name)
            if word and not where:
                by_machine.update(dict.fromkeys(self._with_host - by_machine.keys(), word))
        return found


_AFTER = frozenset({"gpu_clock", "gpu_temperature", "gpu_power"})


def _made(facts: Facts) -> Iterator[tuple[str, str]]:
    """Yield what follows from several facts of a GPU: its power limit, what slowed it down, its link."""
    if all(map(_is_number, (known(facts, "gpu.power_limit"), known(facts, "gpu.power_limit_default")))):
        capped = reduced_power(facts)
        yield _POWER, "capped at {} of {}".format(*(show(w, "W") for w in capped)) if capped else "as delivered"
    reasons = known(facts, "gpu.throttle_reasons")
    if isinstance(reasons, list) and all(isinstance(reason, str) for reason in reasons):
        yield _HELD, printable(", ".join(slowed_down(facts)), _LONGEST) or "nothing"
    lanes, most = known(facts, "gpu.pcie_width"), known(facts, "gpu.pcie_width_max")
    if _is_number(lanes) and _is_number(most):
        yield _LANES, f"{lanes} of {most}"


def _is_number(value: Any) -> bool:
    """Whether a fact is a number, as those of a file of unknown origin need not be."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _after_blocks(
    after: Mapping[_Key, Mapping[tuple[Any, ...], Mapping[str, Sequence[float]]]],
) -> dict[_Key, dict[str, float]]:
    """Return how far each machine is from the median machine, in the median work: in degrees, or as a share."""
    found: dict[_Key, dict[str, float]] = {}
    for key, by_work in after.items():
        distances: dict[str, list[float]] = defaultdict(list)
        for by_machine in by_work.values():
            values = {machine: statistics.median(several) for machine, several in by_machine.items()}
            middle = statistics.median(values.values())
            for machine, value in values.items():
                distances[machine].append(value - middle if key[0] == "gpu_temperature" else value / middle - 1)
        found[key] = {machine: statistics.median(several) for machine, several in distances.items()}
    return found


def _shares(
    flagged: Mapping[_Key, Mapping[str, int]], cases: Mapping[str, Mapping[str, int]]
) -> dict[_Key, dict[str, float]]:
    """Return the share of the results on a device that have a flag, of each machine."""
    return {
        (name, device): {machine: by_machine.get(machine, 0) / total for machine, total in cases[device].items()}
        for (name, device), by_machine in flagged.items()
    }
