"""Is this machine all right? Rows of the workloads that show its limits in, one reading a limit out.

Pure functions: nothing is read, run or printed here. Every limit is judged by the fastest row that shows it, against
what is normal for exactly this device (machine/normal_ranges.py); without such a range it is not judged. A low one
gets the causes that a fact or flag confirms, of those that can explain it: a narrow PCIe link slows transfers, not
products.

A CPU's products are judged against the same call with the best kernels that its BLAS has for it (the row `tuned`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from bench_core.machine import datasheets, normal_ranges
from bench_core.machine.facts import busy_share, known, reduced_power, slowed_down, small_quota
from bench_core.machine.normal_ranges import Link, Range
from bench_core.records import NOT_TRIED, Ceiling, Facts, Identity, Row, Status
from bench_core.results.roofline import cached
from bench_core.units import show

_CPU = "cpu"
# Its `tuned` products are the same call under other kernels of the same BLAS; those of other libraries take another
# route, which need not be the faster one.
_TUNED_BY_KERNELS = "numpy"
_OF_TUNED = 0.8  # share of its tuned rate that a default product has at least: AVX2 instead of AVX-512 has half
_SLOW_CLOCK = 0.9  # share of the highest clock below which the clock may explain a low rate

_METRIC = {Ceiling.ARITHMETIC: "flop_rate", Ceiling.LAUNCH: "time"}  # of all others it is the bandwidth
_PRODUCTS = frozenset({Ceiling.ARITHMETIC})
_INSIDE = frozenset({Ceiling.ARITHMETIC, Ceiling.MEMORY})
_TRANSFERS = frozenset({Ceiling.HOST_TO_DEVICE, Ceiling.DEVICE_TO_HOST})
_ALL = frozenset(Ceiling)
_WHAT = {
    Ceiling.MEMORY: "copy in memory",
    Ceiling.HOST_TO_DEVICE: "host to device",
    Ceiling.DEVICE_TO_HOST: "device to host",
    Ceiling.LAUNCH: "one launch",
}


class LimitVerdict(StrEnum):
    """What a reading says of its device. A `high` one is odd, and not bad."""

    WRONG = "wrong"
    LOW = "low"
    HIGH = "high"
    IN_RANGE = "in range"
    UNKNOWN = "nothing known"
    NOT_MEASURED = "not measured"


@dataclass(frozen=True, slots=True)
class LimitReading:
    """One limit of one device.

    who: whose row it is. value, unit: as measured, None where there is no value. normal: None if nothing is known.
    causes: what confirms why it is low. reason: why it is wrong, or not measured.
    """

    device: str
    device_name: str
    what: str
    who: str
    verdict: LimitVerdict
    value: float | None = None
    unit: str = ""
    normal: Range | None = None
    causes: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _Subject:
    """A row to be judged: the limit that it shows, the other metrics of its case by name, what is known around it."""

    row: Row
    ceiling: Ceiling
    beside: Mapping[str, float]
    facts: Facts
    tuned: Row | None = None

    def fact(self, name: str) -> Any:
        return known(self.facts, name)

    def flagged(self, flag: str) -> bool:
        return flag in self.row.flags.split(";")


def judge_limits(
    rows: Sequence[Row], ceilings: Mapping[str, Ceiling], host: Facts, workers: Mapping[str, Facts]
) -> list[LimitReading]:
    """Return the readings of a run: wrong ones first, then device by device, last what a device had no room for.

    ceilings: which limit a workload shows, by its name. host, workers: facts of the machine and, by env_id, of the
    processes that measured.
    """
    mine = [row for row in rows if row.workload in ceilings]
    beside: dict[tuple[str, Identity], dict[str, float]] = {}
    for row in mine:
        if row.status == Status.OK and row.value is not None:
            beside.setdefault((row.run_id, row.identity), {})[row.metric] = row.value
    readings = [_wrong(row) for row in mine if _went_wrong(row)]
    fastest = _fastest(mine, ceilings)
    for row in fastest:
        facts = host | workers.get(row.env_id, {})
        tuned = _tuned(row, mine)
        subject = _Subject(row, ceilings[row.workload], beside[row.run_id, row.identity], facts, tuned)
        readings.append(_read(subject))
    return [*readings, *_left_out(mine, ceilings, {_place(row, ceilings[row.workload]) for row in fastest})]


def exit_code(readings: Iterable[LimitReading]) -> int:
    """Return 1 if anything is low or wrong, else 3 if nothing is known of one of the devices, else 0.

    Where there is an accelerator, a CPU need not be known. A link that is as it should be says nothing of the device
    behind it.
    """
    found = list(readings)
    if any(r.verdict in {LimitVerdict.LOW, LimitVerdict.WRONG} for r in found):
        return 1
    devices = {r.device for r in found}
    asked = devices - {_CPU} or devices
    silent = {LimitVerdict.UNKNOWN, LimitVerdict.NOT_MEASURED}
    known = {r.device for r in found if r.verdict not in silent and r.what not in _OF_LINKS}
    return 0 if asked and asked <= known else 3


_OF_LINKS = frozenset(_WHAT[ceiling] for ceiling in _TRANSFERS)


def unmeasured(cards: Sequence[str], readings: Iterable[LimitReading]) -> list[LimitReading]:
    """Return a reading for every card of the driver, by its name, that no reading is of: nothing is known of it.

    A slice of a card bears the card's name and more.
    """
    measured = {r.device_name for r in readings}
    lost = [card for card in dict.fromkeys(cards) if not any(name.startswith(card) for name in measured)]
    reason = "no library here computes on it, or none was asked to"
    return [
        LimitReading("gpu", card, "every limit", "driver", LimitVerdict.NOT_MEASURED, reason=reason) for card in lost
    ]


def _went_wrong(row: Row) -> bool:
    """Whether a case failed; one that somebody stopped did not."""
    return row.status not in {Status.OK, Status.INTERRUPTED, *NOT_TRIED}


def _wrong(row: Row) -> LimitReading:
    what = " ".join(filter(None, (row.workload, row.size, _format(row))))
    return LimitReading(
        row.device, row.device_name, what, row.who, LimitVerdict.WRONG, reason=f"{row.status}: {row.reason}"
    )


def _left_out(
    rows: Iterable[Row], ceilings: Mapping[str, Ceiling], shown: Collection[tuple[str, ...]]
) -> Iterator[LimitReading]:
    """Yield the limits that a device is able to show and did not, for want of memory or of time, or once stopped."""
    told = set(shown)
    for row in rows:
        ceiling = ceilings[row.workload]
        place = _place(row, ceiling)
        # A row of a device that is not here has no name of one.
        here = row.status == Status.INTERRUPTED or (row.status == Status.SKIPPED and row.device_name)
        if here and place not in told:
            told.add(place)
            what = _what(row, ceiling)
            yield LimitReading(row.device, row.device_name, what, row.who, LimitVerdict.NOT_MEASURED, reason=row.reason)


def _what(row: Row, ceiling: Ceiling) -> str:
    return _WHAT.get(ceiling) or f"{_format(row)} product"


def _format(row: Row) -> str:
    return "TF32" if row.precision == "tf32" else datasheets.computed_in(row.dtype, row.precision)[0]


def _fastest(rows: Iterable[Row], ceilings: Mapping[str, Ceiling]) -> list[Row]:
    """Return the row that shows each limit best: accelerators first, then by device, limit, format and library."""
    best: dict[tuple[str, ...], Row] = {}
    for row in rows:
        ceiling = ceilings[row.workload]
        if not _counts(row, ceiling):
            continue
        key = _place(row, ceiling)
        if key not in best or _beats(row, best[key]):
            best[key] = row
    order = list(Ceiling)

    def place(row: Row) -> tuple[Any, ...]:
        limit = order.index(ceilings[row.workload])
        return (row.device == _CPU, row.device, limit, row.dtype, row.precision, row.backend)

    return sorted(best.values(), key=place)


def _counts(row: Row, ceiling: Ceiling) -> bool:
    """Whether a row shows a limit: launches by the host's clock, memory outside of caches, a CPU's default products.

    A time that is the host's is no limit of a device.
    """
    if row.status != Status.OK or row.value is None or row.metric != _METRIC.get(ceiling, "bandwidth"):
        return False
    if ceiling is Ceiling.LAUNCH:
        return row.clock == "wall"
    if row.is_launch_bound:
        return False
    if ceiling is Ceiling.MEMORY:
        return not cached(row.flags)
    return row.device != _CPU or row.implementation == "default"


def _place(row: Row, ceiling: Ceiling) -> tuple[str, ...]:
    """Return what has one best row: a limit of a device, or of a library on it where the library is what limits."""
    formats = (row.dtype, row.precision) if ceiling is Ceiling.ARITHMETIC else ()
    of_library = ceiling is Ceiling.LAUNCH or (ceiling is Ceiling.ARITHMETIC and row.device == _CPU)
    return (row.device, ceiling, *formats, row.backend if of_library else "")


def _beats(row: Row, other: Row) -> bool:
    mine, theirs = row.value or 0.0, other.value or 0.0
    return mine < theirs if row.better == "lower" else mine > theirs


def _tuned(row: Row, rows: Iterable[Row]) -> Row | None:
    """Return the row of the same product with the best kernels, for those whose tuning is that."""
    if row.device != _CPU or row.backend != _TUNED_BY_KERNELS or row.metric != _METRIC[Ceiling.ARITHMETIC]:
        return None
    same = ("run_id", "case_id", "backend", "device", "threads", "metric", "clock")
    wanted = [getattr(row, name) for name in same]
    found = (r for r in rows if r.implementation == "tuned" and [getattr(r, name) for name in same] == wanted)
    return next((r for r in found if r.status == Status.OK and r.value), None)


def _read(of: _Subject) -> LimitReading:
    row, expected = of.row, _expected(of)
    what = _what(row, of.ceiling)
    reading = LimitReading(row.device, row.device_name, what, row.who, LimitVerdict.UNKNOWN, row.value, row.unit)
    if expected is None or row.value is None:
        return reading
    verdict = LimitVerdict.LOW if _most(of) < expected.low else LimitVerdict.HIGH if row.value > expected.high else None
    causes = tuple(_causes(of)) if verdict is LimitVerdict.LOW else ()
    return replace(reading, verdict=verdict or LimitVerdict.IN_RANGE, normal=expected, causes=causes)


def _most(of: _Subject) -> float:
    """Return the rate that must be below the range for it to be low.

    Of a CPU, whose range is as noisy as the row, it is the farther end of the interval: neighbours on a busy machine
    are no fault of it.
    """
    ends = (of.row.value, of.row.ci_high if of.row.device == _CPU else None)
    return max(end for end in ends if end is not None)


def _expected(of: _Subject) -> Range | None:
    row, tuned = of.row, of.tuned
    if row.device == _CPU:
        if tuned is None or not tuned.value:
            return None
        least, most = tuned.ci_low or tuned.value, tuned.ci_high or tuned.value
        return Range(_OF_TUNED * least, most / _OF_TUNED, "the same with the best kernels for this CPU")
    if of.ceiling is Ceiling.ARITHMETIC:
        return normal_ranges.products(row.device_name, row.dtype, row.precision)
    if of.ceiling is Ceiling.MEMORY:
        return normal_ranges.copies(row.device_name)
    link = _link(of) if of.ceiling in _TRANSFERS else None
    return normal_ranges.transfers(link) if link else None


def _link(of: _Subject) -> Link | None:
    """Return the link that the card can have: by its datasheet, else what the driver says of card and board."""
    generation, lanes = of.fact("gpu.pcie_generation_max"), of.fact("gpu.pcie_width_max")
    by_driver = Link(generation, lanes) if isinstance(generation, int) and isinstance(lanes, int) else None
    return normal_ranges.link(of.row.device_name) or by_driver


# ---------------------------------------------------------------- causes


def _causes(of: _Subject) -> Iterator[str]:
    for explained, ask in _CAUSES:
        if of.ceiling in explained:
            yield from ask(of)


def _power_cap(of: _Subject) -> Iterator[str]:
    if power := reduced_power(of.facts):
        yield "power is capped: {} of {}".format(*(show(watts, "W") for watts in power))


def _throttled(of: _Subject) -> Iterator[str]:
    """Tell of clocks that power or heat held down, with the power, the temperature and the clock right after."""
    if of.flagged("throttled"):
        state = ", ".join(filter(None, (_of_limit(of), _heat(of), _of_top_clock(of))))
        yield "power or heat held its clocks down" + f" (right after: {state})" * bool(state)
    if held := slowed_down(of.facts):
        yield f"it was slowed down before any work: {', '.join(held)}"


def _of_limit(of: _Subject) -> str:
    power, limit = of.beside.get("gpu_power"), of.fact("gpu.power_limit")
    return f"{show(power, 'W')} of {show(limit, 'W')}" if power and limit else ""


def _heat(of: _Subject) -> str:
    degrees = of.beside.get("gpu_temperature")
    return f"{degrees:.0f} degrees C" if degrees else ""


def _of_top_clock(of: _Subject) -> str:
    clock, top = of.beside.get("gpu_clock"), of.fact("gpu.sm_clock_max")
    return f"{show(clock, 'Hz')} of {show(top, 'Hz')}" if clock and top else ""


def _locked_clocks(of: _Subject) -> Iterator[str]:
    clock, top = of.beside.get("gpu_clock"), of.fact("gpu.sm_clock_max")
    locked = "application_clocks" in (of.fact("gpu.throttle_reasons") or ())
    if locked and clock and top and clock < _SLOW_CLOCK * top:
        yield f"its application clocks are set low: {_of_top_clock(of)}"


def _narrow_link(of: _Subject) -> Iterator[str]:
    lanes = [n for n in (of.fact("gpu.pcie_width"), of.fact("gpu.pcie_width_max")) if n]
    can = _link(of)
    if lanes and can and min(lanes) < can.lanes:
        yield f"{min(lanes)} of {can.lanes} PCIe lanes"


def _old_link(of: _Subject) -> Iterator[str]:
    """Tell of a board older than the card, or of a link that ran at an older generation than both can.

    A resting card lets its link fall back, and facts are read before any work. So the generation that was read counts
    only where the rate is not above what that generation carries: then it was no rest.
    """
    now, most, can = of.fact("gpu.pcie_generation"), of.fact("gpu.pcie_generation_max"), _link(of)
    if not can:
        return
    if most and most < can.generation:
        yield f"PCIe {most}.0 is all that this board and card give together; the card can {can.generation}.0"
    carried = Link(now, of.fact("gpu.pcie_width") or can.lanes).rate if now else None
    if now and now < (most or can.generation) and carried and (of.row.value or 0.0) <= carried:
        yield f"the link is PCIe {now}.0, and can be {most or can.generation}.0"


def _ecc(of: _Subject) -> Iterator[str]:
    if of.fact("gpu.ecc") and of.row.device_name in normal_ranges.ECC_OFF_AS_DELIVERED:
        yield "ECC is on, which takes a part of this board's bandwidth"


def _others(of: _Subject) -> Iterator[str]:
    others = of.fact("gpu.other_processes")
    if others:
        yield f"{others} other process{'es' * (others > 1)} on it"


def _slice(of: _Subject) -> Iterator[str]:
    if of.fact("gpu.mig"):
        yield "MIG is on: this is a slice, or shares the card with some"


def _blas(of: _Subject) -> Iterator[str]:
    """Tell of other kernels than the best, by what the library says of itself in the two rows."""
    if of.tuned and of.tuned.library != of.row.library:
        yield f"BLAS kernels below the CPU's: {of.row.library}; the best are {of.tuned.library}"


def _quota(of: _Subject) -> Iterator[str]:
    quota = small_quota(of.facts)
    if of.row.device == _CPU and quota:
        yield f"a control group limits it to {quota:g} cores"


def _disturbed(of: _Subject) -> Iterator[str]:
    """Tell of others on the CPU: by the row's flags, and by a look at the machine just before."""
    if of.row.device != _CPU:
        return
    said = {
        "steal": "the hypervisor took CPU time away while it ran",
        "drift": "the CPU's clock changed while it ran",
        "context_switches": "other programs took its cores while it ran",
    }
    yield from (words for flag, words in said.items() if of.flagged(flag))
    if busy := busy_share(of.facts):
        yield f"other programs used {busy:.0%} of the CPU just before"


_CAUSES: tuple[tuple[frozenset[Ceiling], Callable[[_Subject], Iterator[str]]], ...] = (
    (_INSIDE, _power_cap),
    (_INSIDE, _throttled),
    (_INSIDE, _locked_clocks),
    (_TRANSFERS, _narrow_link),
    (_TRANSFERS, _old_link),
    (frozenset({Ceiling.MEMORY}), _ecc),
    (_ALL, _others),
    (_ALL, _slice),
    (_PRODUCTS, _blas),
    (_ALL, _quota),
    (_ALL, _disturbed),
)
