"""Keep apart what a comparison would refuse to compare, for whatever sets results beside each other by case and metric.

A case_id stands for one work and a metric for one quantity, unless a table was changed or is of a program with other
definitions: times in milliseconds, other parameters, another count of FLOPs. `compare` has all of these in its keys.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any

from bench_core.compare.loading import Reading
from bench_core.compare.result import COSTS, contrast, unlike_work
from bench_core.records import Clock, Row, is_quantity
from bench_core.results.metrics import METRICS
from bench_core.results.schema import IDENTITY
from bench_core.results.table import Table
from bench_core.units import counted

_COSTS = (*COSTS, "least_bytes")
_MOST_NAMED = 3  # differences in a sentence
_identity = attrgetter(*IDENTITY)


@dataclass(frozen=True, slots=True)
class Apart:
    """Readings in which rows of one case_id and metric are of one work and quantity.

    said: a sentence on the values that are left out, and one on the rows that got a case_id of their own.
    """

    readings: tuple[Reading, ...]
    said: tuple[str, ...] = ()


def kept_apart(readings: Sequence[Reading]) -> Apart:
    """Return readings without the values of other quantities, and with a case_id of its own for each work.

    The first work that has a case_id keeps it. Samples are found by the case_id of the table: a row with another is
    compared by its own numbers. Costs and intervals that no chart can show are left out too.
    """
    kinds = [kind for reading in readings for kind in reading.rows.distinct("metric", "clock")]
    clocked = {metric for metric, clock in kinds if clock == Clock.WALL}
    left_out: Counter[str] = Counter()
    others: Counter[str] = Counter()
    works: dict[str, list[Row]] = {}
    seen: set[tuple[object, ...]] = set()
    found = []
    for reading in readings:
        read = list(reading.rows)
        rows = []
        for row in read:
            if why := _other_quantity(row, clocked):
                left_out[why] += 1
                continue
            known = works.setdefault(row.case_id, [])
            place = _place_of(row, known)
            if place and _identity(row) not in seen:  # two rows of one result contradict each other, which is an error
                others[contrast(known[0], row, unlike_work(known[0], row))] += 1
                rows.append(replace(row, case_id=f"{row.case_id}#{place + 1}"))
            else:
                rows.append(row)
            seen.add(_identity(row))
        sound = list(map(_sound, rows))
        is_as_read = list(map(id, sound)) == list(map(id, read))
        found.append(reading if is_as_read else replace(reading, rows=Table.of(sound)))
    said = [_sentence("Left out", "value", left_out)] if left_out else []
    said += [_sentence("Shown as other work", "row", others)] if others else []
    return Apart(tuple(found), tuple(said))


def _sound(row: Row) -> Row:
    """Return a row without costs that are no quantities, and without an interval that does not hold its value."""
    wrong = [name for name in _COSTS if getattr(row, name) is not None and not is_quantity(getattr(row, name))]
    if row.has_value and (row.ci_low, row.ci_high) != (None, None):
        low, value, high = row.ci_low or 0.0, row.value or 0.0, row.ci_high or 0.0
        if not (is_quantity(low) and low <= value <= high and is_quantity(high)):
            wrong += ["ci_low", "ci_high"]
    nothing: dict[str, Any] = dict.fromkeys(wrong)
    return replace(row, **nothing) if nothing else row


def _sentence(what: str, noun: str, why: Counter[str]) -> str:
    """Return a sentence on these rows with the commonest reasons."""
    named = [text for text, _ in why.most_common(_MOST_NAMED)]
    named += [counted(len(why) - _MOST_NAMED, "other difference")] * (len(why) > _MOST_NAMED)
    return f"{what}, because compare keeps it apart, {counted(why.total(), noun)}: {'; '.join(named)}."


def _other_quantity(row: Row, clocked: Collection[str]) -> str:
    """Return how the value of a row differs from what its metric is here, "" if it does not.

    clocked: the metrics that some row has by the wall clock.
    """
    if row.metric not in METRICS or not row.has_value:
        return ""
    metric = METRICS[row.metric]
    if row.unit != metric.unit:
        return f"{row.metric} in {row.unit} instead of {metric.unit}"
    if row.better != metric.better:
        return f"{row.metric} of which {row.better} is better instead of {metric.better}"
    return f"{row.metric} by no clock" if not row.clock and row.metric in clocked else ""


def _place_of(row: Row, works: list[Row]) -> int:
    """Return the place of the work of a row among those with its case_id, each a row of it; add it if it is new."""
    for place, known in enumerate(works):
        if not unlike_work(known, row):
            learnt = {name: getattr(row, name) for name in COSTS if getattr(known, name) is None}
            if any(cost is not None for cost in learnt.values()):
                works[place] = replace(known, **learnt)
            return place
    works.append(row)
    return len(works) - 1
