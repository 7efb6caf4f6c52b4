"""What `bench_core.measure` returns: the rows of one function, shown as a table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench_core.analysis.summary import work_name
from bench_core.records import UNCHECKED, Row, Status
from bench_core.render.text_table import Table, layout
from bench_core.results.metrics import RATES
from bench_core.streams import plainer
from bench_core.text import printable
from bench_core.units import show

if TYPE_CHECKING:
    import pandas as pd

_WIDTH = 100  # columns
_HEADER = ("", "time", "95 % interval", "rate", "check", "flags")


@dataclass(frozen=True, slots=True, repr=False)
class Result:
    """The rows of a function on every backend that was asked for, as in results.csv.

    notes: what limits the numbers, for people. folder: that of the run, if one was written.
    """

    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    folder: Path | None = None

    def to_frame(self) -> pd.DataFrame:
        """Return all rows as a frame with the columns and types of `bench_core.load`."""
        from bench_core.results.reader import frame_of  # noqa: PLC0415 - it imports pandas, which takes a third of a second

        return frame_of(self.rows)

    def __repr__(self) -> str:
        """Return a table with a line for each backend and device, then what could not be measured, and the notes."""
        times = [row for row in self.rows if row.metric == "time" and row.clock == "wall"]
        measured = [row for row in times if row.has_value]
        lines = [work_name(times[0])] if times else ["nothing was measured"]
        if measured:
            cells = [self._cells(row) for row in measured]
            used = [i for i in range(len(_HEADER)) if any(row[i] for row in cells)]
            rows = tuple(tuple(row[i] for i in used) for row in cells)
            numeric = frozenset(place for place, i in enumerate(used) if _HEADER[i] in {"time", "rate"})
            lines += layout(Table(tuple(_HEADER[i] for i in used), rows, numeric), _WIDTH)
        lines += [f"{_who(row)}: {row.status}: {printable(row.reason)}" for row in times if not row.has_value]
        return plainer("\n".join([*lines, *self.notes]))

    def _cells(self, time: Row) -> tuple[str, ...]:
        interval = f"{show(time.ci_low, time.unit)} to {show(time.ci_high, time.unit)}" if time.ci_low else ""
        mine = [row for row in self.rows if row.identity == time.identity and row.clock == "wall" and row.has_value]
        rates = {row.metric: show(row.value, row.unit) for row in mine if row.metric in RATES}
        flags = [word for word in time.flags.split(";") if word not in {"", "single_run"}]
        checked = UNCHECKED if time.rel_error is None else f"error {time.rel_error:.1e}"
        return _who(time), show(time.value, time.unit), interval, "\n".join(rates.values()), checked, ", ".join(flags)


def _who(row: Row) -> str:
    threads = f", {row.threads} thread{'s' * (row.threads != 1)}" if row.threads and row.status == Status.OK else ""
    return f"{row.who} {row.device}{threads}"
