"""Check whether a machine is as fast as it should be: judge its limits from rows of workloads that measure them.

The functions here only compute; they do not read files, run work or print. Each limit is judged by its fastest row,
against the normal range for exactly this device (machine/normal_ranges.py). A limit without a range is not judged. A
low limit gets the causes that can explain it and that a fact or flag confirms: a narrow PCIe link slows transfers, not
matrix products.

The products of a CPU are judged against the same call with the best kernels that its BLAS has for this CPU (the
implementation `tuned`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from bench_core.machine import datasheets, normal_ranges
from bench_core.machine.facts import busy_share, known, reduced_power, slowed_down, small_quota
from bench_core.machine.normal_ranges import Range
from bench_core.machine.pcie import Link
from bench_core.records import (
    CACHE_UNKNOWN,
    DRIFT,
    NOT_TRIED,
    OTHER_WORK,
    STEAL,
    THROTTLED,
    Ceiling,
    Facts,
    Identity,
    Row,
    Status,
)
from bench_core.results.roofline import in_memory
from bench_core.units import show

_CPU = "cpu"
# The `tuned` products of this backend are the same call with other kernels of the same BLAS. Those of other backends
# use another method, which may be slower.
_TUNED_BY_KERNELS = "numpy"
_OF_TUNED = 0.8  # lowest normal share of the tuned rate; AVX2 instead of AVX-512 has half
_SLOW_CLOCK = 0.9  # share of the maximum clock below which the clock may explain a low rate

_METRIC = {Ceiling.ARITHMETIC: "flop_rate", Ceiling.LAUNCH: "time"}  # all others: bandwidth
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
    """The verdict on one limit. `HIGH` is unusual, but not a fault."""

    WRONG = "wrong"
    LOW = "low"
    HIGH = "high"
    IN_RANGE = "in range"
    UNKNOWN = "nothing known"
    NOT_MEASURED = "not measured"


@dataclass(frozen=True, slots=True)
class LimitReading:
    """One limit of one device.

    who: backend and implementation of the row. value: as measured, None without a value. unit: of `value`. normal: the
    normal range, None if unknown. causes: confirmed causes of a low value. reason: why it is wrong or not measured.
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
    """A row to judge: its limit, the values of all metrics of its case by name, the facts of its environment.

    tuned: the row of the same product with the best kernels, None if there is none.
    """

    row: Row
    ceiling: Ceiling
    metrics: Mapping[str, float]
    facts: Facts
    tuned: Row | None = None

    def fact(self, name: str) -> Any:
        return known(self.facts, name)

    def flagged(self, flag: str) -> bool:
        return flag in self.row.flags.split(";")


def judge_limits(
    rows: Sequence[Row], ceilings: Mapping[str, Ceiling], host: Facts, workers: Mapping[str, Facts]
) -> list[LimitReading]:
    """Return the readings of a run: wrong ones first, then by device, last the limits that were not measured.

    ceilings: the limit that a workload measures, by name of workload. host: facts of the machine. workers: facts of the
    worker processes, by env_id.
    """
    mine = [row for row in rows if row.workload in ceilings]
    metrics: dict[tuple[str, Identity], dict[str, float]] = {}
    for row in mine:
        if row.status == Status.OK and row.value is not None:
            metrics.setdefault((row.run_id, row.identity), {})[row.metric] = row.value
    readings = [_wrong(row) for row in mine if _went_wrong(row)]
    fastest = _fastest(mine, ceilings)
    for row in fastest:
        facts = host | workers.get(row.env_id, {})
        tuned = _tuned(row, mine)
        subject = _Subject(row, ceilings[row.workload], metrics[row.run_id, row.identity], facts, tuned)
        readings.append(_read(subject))
    return [*readings, *_left_out(mine, ceilings, {_place(row, ceilings[row.workload]) for row in fastest})]


def exit_code(readings: Iterable[LimitReading]) -> int:
    """Return 1 if a reading is low or wrong, else 3 if a device has no judged limit, else 0.

    If there is an accelerator, the CPU may be without a judged limit. Limits of links do not count: a normal link does
    not show that its device is normal.
    """
    found = list(readings)
    if any(r.verdict in {LimitVerdict.LOW, LimitVerdict.WRONG} for r in found):
        return 1
    devices = {r.device for r in found}
    required = devices - {_CPU} or devices
    unjudged = {LimitVerdict.UNKNOWN, LimitVerdict.NOT_MEASURED}
    judged = {r.device for r in found if r.verdict not in unjudged and r.what not in _OF_LINKS}
    return 0 if required and required <= judged else 3


_OF_LINKS = frozenset(_WHAT[ceiling] for ceiling in _TRANSFERS)


def unmeasured(cards: Sequence[str], readings: Iterable[LimitReading]) -> list[LimitReading]:
    """Return a reading "not measured" for every card that the driver lists and that has no reading.

    Cards are matched by name. The name of a MIG slice begins with the name of its card.
    """
    measured = {r.device_name for r in readings}
    missing = [card for card in dict.fromkeys(cards) if not any(name.startswith(card) for name in measured)]
    reason = "no installed library computes on it, or none was selected"
    return [
        LimitReading("gpu", card, "every limit", "driver", LimitVerdict.NOT_MEASURED, reason=reason) for card in missing
    ]


def _went_wrong(row: Row) -> bool:
    """Whether a case failed; an interrupted case did not."""
    return row.status not in {Status.OK, Status.INTERRUPTED, *NOT_TRIED}


def _wrong(row: Row) -> LimitReading:
    what = " ".join(filter(None, (row.workload, row.size, _format(row))))
    return LimitReading(row.device, row.device_name, what, row.who, LimitVerdict.WRONG, reason=row.absence)


def _left_out(
    rows: Iterable[Row], ceilings: Mapping[str, Ceiling], shown: Collection[tuple[str, ...]]
) -> Iterator[LimitReading]:
    """Yield the limits that a device could have measured, but were skipped (memory, time) or interrupted.

    So is memory if no cache is known: then its arrays may lie in one. shown: the places (`_place`) of the limits that
    were measured.
    """
    seen = set(shown)
    for row in rows:
        ceiling = ceilings[row.workload]
        place = _place(row, ceiling)
        # The row of a device that this machine does not have is without device_name.
        here = row.status == Status.INTERRUPTED or (row.status == Status.SKIPPED and row.device_name)
        unknown = row.status == Status.OK and CACHE_UNKNOWN in row.flags.split(";") and ceiling is Ceiling.MEMORY
        if (here or unknown) and place not in seen:
            seen.add(place)
            what = _what(row, ceiling)
            reason = row.reason or "the sizes of its caches are not known"
            yield LimitReading(row.device, row.device_name, what, row.who, LimitVerdict.NOT_MEASURED, reason=reason)


def _what(row: Row, ceiling: Ceiling) -> str:
    return _WHAT.get(ceiling) or f"{_format(row)} product"


def _format(row: Row) -> str:
    return "TF32" if row.precision == "tf32" else datasheets.computed_in(row.dtype, row.precision)[0]


def _fastest(rows: Iterable[Row], ceilings: Mapping[str, Ceiling]) -> list[Row]:
    """Return the fastest row of each limit, sorted: accelerators first, then by device, limit, format and library."""
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
    """Whether a row measures its limit.

    Launches count by the wall clock, copies in memory only if the roofline counts them, and products of a CPU only with
    the default implementation. Launch-bound rows measure the host, not the device. Unchecked rows do not count.
    """
    if row.is_unchecked or row.status != Status.OK or row.value is None:
        return False
    if row.metric != _METRIC.get(ceiling, "bandwidth"):
        return False
    if ceiling is Ceiling.LAUNCH:
        return row.clock == "wall"
    if row.is_launch_bound:
        return False
    if ceiling is Ceiling.MEMORY:
        return in_memory(row)
    return row.device != _CPU or row.implementation == "default"


def _place(row: Row, ceiling: Ceiling) -> tuple[str, ...]:
    """Return the key of a fastest row: device, limit, format, and the backend if the limit depends on it."""
    formats = (row.dtype, row.precision) if ceiling is Ceiling.ARITHMETIC else ()
    of_library = ceiling is Ceiling.LAUNCH or (ceiling is Ceiling.ARITHMETIC and row.device == _CPU)
    return (row.device, ceiling, *formats, row.backend if of_library else "")


def _beats(row: Row, other: Row) -> bool:
    mine, theirs = row.value or 0.0, other.value or 0.0
    return mine < theirs if row.better == "lower" else mine > theirs


def _tuned(row: Row, rows: Iterable[Row]) -> Row | None:
    """Return the row of the same CPU product with the best kernels of its BLAS, None if there is none."""
    if row.device != _CPU or row.backend != _TUNED_BY_KERNELS or row.metric != _METRIC[Ceiling.ARITHMETIC]:
        return None
    same = ("run_id", "case_id", "backend", "device", "threads", "metric", "clock")
    wanted = [getattr(row, name) for name in same]
    found = (r for r in rows if r.implementation == "tuned" and [getattr(r, name) for name in same] == wanted)
    return next((r for r in found if r.status == Status.OK and r.value and not r.is_unchecked), None)


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
    """Return the rate that is compared with the lower end of the normal range.

    For a CPU, whose range is as noisy as the row, this is the upper end of the confidence interval: noise from other
    programs on a busy machine must not make it low.
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
    """Return the fastest link of the card: from its datasheet, else from the maxima that the driver reports."""
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
    """Yield throttling: during the run, with power, temperature and clock right after it; and before the run."""
    if of.flagged(THROTTLED):
        state = ", ".join(filter(None, (_of_limit(of), _heat(of), _of_top_clock(of))))
        yield "power or temperature limited its clocks" + f" (right after: {state})" * bool(state)
    if held := slowed_down(of.facts):
        yield f"its clocks were limited before any work: {', '.join(held)}"


def _of_limit(of: _Subject) -> str:
    power, limit = of.metrics.get("gpu_power"), of.fact("gpu.power_limit")
    return f"{show(power, 'W')} of {show(limit, 'W')}" if power and limit else ""


def _heat(of: _Subject) -> str:
    degrees = of.metrics.get("gpu_temperature")
    return f"{degrees:.0f} degrees C" if degrees else ""


def _of_top_clock(of: _Subject) -> str:
    clock, top = of.metrics.get("gpu_clock"), of.fact("gpu.sm_clock_max")
    return f"{show(clock, 'Hz')} of {show(top, 'Hz')}" if clock and top else ""


def _locked_clocks(of: _Subject) -> Iterator[str]:
    clock, top = of.metrics.get("gpu_clock"), of.fact("gpu.sm_clock_max")
    locked = "application_clocks" in (of.fact("gpu.throttle_reasons") or ())
    if locked and clock and top and clock < _SLOW_CLOCK * top:
        yield f"its application clocks are set low: {_of_top_clock(of)}"


def _narrow_link(of: _Subject) -> Iterator[str]:
    lanes = [n for n in (of.fact("gpu.pcie_width"), of.fact("gpu.pcie_width_max")) if n]
    can = _link(of)
    if lanes and can and min(lanes) < can.lanes:
        yield f"{min(lanes)} of {can.lanes} PCIe lanes"


def _old_link(of: _Subject) -> Iterator[str]:
    """Yield a board with an older PCIe generation than the card, or a link that ran below the generation of both.

    An idle card lowers the generation of its link, and facts are read before any work. So the generation read counts
    only if the measured rate is not above the maximum rate of that generation.
    """
    now, most, can = of.fact("gpu.pcie_generation"), of.fact("gpu.pcie_generation_max"), _link(of)
    if not can:
        return
    if most and most < can.generation:
        yield f"board and card together support PCIe {most}.0; the card supports {can.generation}.0"
    carried = Link(now, of.fact("gpu.pcie_width") or can.lanes).rate if now else None
    if now and now < (most or can.generation) and carried and (of.row.value or 0.0) <= carried:
        yield f"the link runs at PCIe {now}.0 and supports {most or can.generation}.0"


def _ecc(of: _Subject) -> Iterator[str]:
    if of.fact("gpu.ecc") and of.row.device_name in normal_ranges.ECC_OFF_AS_DELIVERED:
        yield "ECC is on, which reduces the bandwidth of this board"


def _others(of: _Subject) -> Iterator[str]:
    others = of.fact("gpu.other_processes")
    if others:
        yield f"{others} other process{'es' * (others > 1)} on it"


def _slice(of: _Subject) -> Iterator[str]:
    if of.fact("gpu.mig"):
        yield "MIG is on: this device is a slice of the card or shares the card with slices"


def _blas(of: _Subject) -> Iterator[str]:
    """Yield BLAS kernels other than the best ones, by the library names in the two rows."""
    if of.tuned and of.tuned.library != of.row.library:
        yield f"not the best BLAS kernels for this CPU: {of.row.library} instead of {of.tuned.library}"


def _quota(of: _Subject) -> Iterator[str]:
    quota = small_quota(of.facts)
    if of.row.device == _CPU and quota:
        yield f"a control group limits it to {quota:g} cores"


def _disturbed(of: _Subject) -> Iterator[str]:
    """Yield disturbances of the CPU: by the flags of the row, and by the load measured just before the run."""
    if of.row.device != _CPU:
        return
    texts = {
        STEAL: "the hypervisor took CPU time while it ran",
        DRIFT: "the CPU's clock changed while it ran",
        OTHER_WORK: "other programs used its cores while it ran",
    }
    yield from (text for flag, text in texts.items() if of.flagged(flag))
    if busy := busy_share(of.facts):
        yield f"other programs used {busy:.0%} of the CPU just before the run"


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
