"""What a person sees at the end of a run: the best CPU and the best GPU on each piece of work, then the counts."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench_core import metrics
from bench_core.model import Measurement, Row, Run, Status, count_statuses
from bench_core.units import show

_RATES = ("token_rate", "sample_rate", "bandwidth", "flop_rate")  # the first that a row has is its headline


@dataclass(frozen=True, slots=True)
class Best:
    """The fastest rows of one piece of work, None where there is none: on a CPU, and on an accelerator."""

    work: str
    cpu: Row | None
    gpu: Row | None

    @property
    def speedup(self) -> float | None:
        """How many times faster the accelerator is; below one where the CPU wins."""
        if self.cpu is None or self.gpu is None or not self.cpu.value or not self.gpu.value:
            return None
        return self.cpu.value / self.gpu.value


def best(rows: Iterable[Row]) -> list[Best]:
    """Return the best of every piece of work, by wall time, in the order in which the work first appears."""
    groups: dict[str, list[Row]] = {}
    names: dict[str, str] = {}
    for row in rows:
        if row.metric == "time" and row.clock == "wall" and row.value is not None:
            groups.setdefault(row.case_id, []).append(row)
            names[row.case_id] = work_name(row)
    return [Best(names[key], _fastest(group, cpu=True), _fastest(group, cpu=False)) for key, group in groups.items()]


def _fastest(rows: Sequence[Row], *, cpu: bool) -> Row | None:
    side = [row for row in rows if (row.device_type == "cpu") is cpu and row.value is not None]
    return min(side, key=lambda row: row.value or 0.0, default=None)


def crossovers(found: Iterable[Best]) -> list[str]:
    """Return from which size on the GPU wins, for every family of work that both sides did in two sizes or more."""
    families: dict[str, list[Best]] = {}
    for b in found:
        if b.cpu and b.gpu:
            families.setdefault(work_name(replace(b.cpu, size="")), []).append(b)
    return [f"{name}: {_wins_from(group)}" for name, group in families.items() if len(group) > 1]


def _wins_from(group: Sequence[Best]) -> str:
    by_size = sorted(group, key=lambda b: (b.cpu and (b.cpu.flops or b.cpu.bytes)) or 0.0)
    losses = [i for i, b in enumerate(by_size) if (b.speedup or 0.0) <= 1]
    start = losses[-1] + 1 if losses else 0
    if start == len(by_size):
        return "never"
    row = by_size[start].gpu
    return "at every size" if start == 0 or row is None else f"from {row.size}"


def work_name(row: Row) -> str:
    """Return a row's work in words; what goes without saying is left out."""
    parts = [row.workload, *([row.size] if row.size else []), row.dtype]
    parts += [word for word in (row.precision, row.scope, row.cache) if word not in {"ieee", "resident", "hot"}]
    return " ".join(parts)


def who(row: Row) -> str:
    """Return who did the work: "torch", "numpy tuned", "torch cuda:1 compile"."""
    device = row.device if row.device not in {"cpu", "cuda:0"} else ""
    implementation = row.implementation if row.implementation != "default" else ""
    return " ".join(word for word in (row.backend, device, implementation) if word)


def text(rows: Sequence[Row], about: Sequence[str], width: int, *, color: bool) -> str:
    """Return the summary as text of at most `width` columns; `about` are closing lines."""
    buffer = io.StringIO()
    console = Console(file=buffer, width=width, force_terminal=color, no_color=not color, highlight=False)
    if found := best(rows):
        console.print(_table(found, _headlines(rows)))
        if crossed := crossovers(found):
            console.print(Text(f"the GPU wins: {'; '.join(crossed)}"))
    for line in about:
        console.print(Text(line))
    return buffer.getvalue()


def _table(found: Sequence[Best], headlines: dict[tuple[Any, ...], str]) -> Table:
    gpu = any(b.gpu for b in found)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("work", overflow="fold")
    for name in ("best CPU", "", *(("best GPU", "", "GPU is") if gpu else ())):
        table.add_column(name, justify="left" if name else "right", no_wrap=True)
    for b in found:
        cells = [*_cells(b.cpu, headlines), *(_cells(b.gpu, headlines) if gpu else ())]
        table.add_row(b.work, *cells, *([_times(b.speedup)] if gpu else []))
    return table


def _cells(row: Row | None, headlines: dict[tuple[Any, ...], str]) -> tuple[str, str]:
    if row is None:
        return "", ""
    return who(row), headlines.get(_side(row)) or show(row.value, row.unit)


def _times(speedup: float | None) -> str:
    if speedup is None:
        return ""
    return f"{speedup:.3g}x faster" if speedup >= 1 else f"{1 / speedup:.3g}x slower"


def _side(row: Row) -> tuple[Any, ...]:
    return row.case_id, row.backend, row.implementation, row.device, row.threads


def _headlines(rows: Iterable[Row]) -> dict[tuple[Any, ...], str]:
    """Return the rate to show for each side: the first of _RATES that it has."""
    shown: dict[tuple[Any, ...], tuple[int, str]] = {}
    for row in rows:
        if row.metric in _RATES and row.clock == "wall":
            rank = (_RATES.index(row.metric), show(row.value, row.unit))
            shown[_side(row)] = min(shown.get(_side(row), rank), rank)
    return {side: rate for side, (_, rate) in shown.items()}


def counts(measurements: Iterable[Measurement]) -> str:
    """Return the counts by status: "62 planned: 40 ok, 22 skipped"."""
    several = list(measurements)
    by_status = ", ".join(f"{count} {status}" for status, count in count_statuses(several).items())
    return f"{len(several)} planned: {by_status}"


def flags(measurements: Iterable[Measurement]) -> str:
    """Return how many cases earned each flag, "" if none did."""
    words = [
        word for m in measurements for word in dict.fromkeys(chain(m.flags, *(series.flags for series in m.series)))
    ]
    return ", ".join(f"{words.count(word)} {word}" for word in sorted(set(words)))


def extra_info(done: Measurement) -> dict[str, Any]:
    """Return what pytest-benchmark stores beside its own statistics: the metrics and what they rest on."""
    nobody = Run(run_id="", started_at="", machine="")
    values = {
        f"{row.metric}{'_device' if row.clock == 'device' else ''}": row.value for row in metrics.rows(nobody, [done])
    }
    case = done.case
    known = {"case_id": case.work.case_id, "device_name": done.device_name, "library": done.library}
    about = {**known, "status": Status(done.status).value, "rel_error": done.rel_error, "threads": done.threads}
    return {**about, **values, "flags": list(done.flags)}
