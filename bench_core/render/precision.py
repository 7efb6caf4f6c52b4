"""A series that was repeated for precision, as lines of text: which value got what, and how well each is known."""

from __future__ import annotations

from bench_core import sequential
from bench_core.render.text_table import Table, layout
from bench_core.run.precision import Precision, Value, percent
from bench_core.units import counted

_MOST_SHOWN, _MOST_NAMED = 40, 8


def lines(series: Precision) -> list[str]:
    """Return what has become of each headline value, and why measuring ended, as lines of text."""
    known, inside, goal = series.known, series.inside, percent(series.goal.precision)
    ended = series.ended or "stopped early"
    rounds = counted(len(series.rounds), "round")
    told = [f"{len(inside)} of {len(known)} values are known within {goal} after {rounds}: {ended}"]
    if series.refused:
        told.append(f"No value, as an answer was wrong: {', '.join(value.name for value in series.refused)}")
    if unlooked := [value.name for value in known if value.precision is None]:
        named = ", ".join(unlooked[:_MOST_NAMED]) + f" and {len(unlooked) - _MOST_NAMED} more" * (
            len(unlooked) > _MOST_NAMED
        )
        told.append(f"Precision unknown, because there are fewer than {sequential.FIRST} processes: {named}")
    shown = [value for value in known if value.precision is not None and (value not in inside or value.why)]
    shown.sort(key=lambda value: (value in inside, -(value.precision or 0.0)))
    if shown:
        header = ("value", "processes", f"after {sequential.FIRST}", "at the end", "repeated for")
        told += layout(Table(header, tuple(map(_cells, shown[:_MOST_SHOWN])), frozenset({1, 2, 3})), 100)
    if len(shown) > _MOST_SHOWN:
        told.append(f"and {len(shown) - _MOST_SHOWN} more: run.json has all, under precision")
    return told


def _cells(value: Value) -> tuple[str, ...]:
    before, after = (percent(precision) for precision in (value.first, value.precision))
    return value.name, str(len(value.numbers)), before, after, ", ".join(value.why)
