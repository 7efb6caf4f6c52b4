"""The summary at the end of a run: the fastest CPU row and GPU row of each case, then counts and advice."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench_core.records import UNCHECKED, Identity, Measurement, Row, Run, Status, count_statuses
from bench_core.results.metrics import headline
from bench_core.results.rows import count_from_other_rows, rows_of_case
from bench_core.results.run_files import RunFiles, read_noise
from bench_core.results.traits import TraitsOf
from bench_core.units import show


@dataclass(frozen=True, slots=True)
class Fastest:
    """The fastest rows of one case on a CPU and on an accelerator, each None if it has no value."""

    work: str
    cpu: Row | None
    gpu: Row | None

    @property
    def case_id(self) -> str:
        row = self.cpu or self.gpu
        return row.case_id if row else ""


def fastest(rows: Iterable[Row]) -> list[Fastest]:
    """Return the fastest rows of every case by wall time, in order of first appearance."""
    groups: dict[str, list[Row]] = {}
    names: dict[str, str] = {}
    for row in rows:
        if row.metric == "time" and row.clock == "wall" and row.value is not None:
            groups.setdefault(row.case_id, []).append(row)
            names[row.case_id] = work_name(row)
    return [Fastest(names[key], _fastest(group, cpu=True), _fastest(group, cpu=False)) for key, group in groups.items()]


def _fastest(rows: Sequence[Row], *, cpu: bool) -> Row | None:
    side = [row for row in rows if (row.device_type == "cpu") is cpu and row.value is not None]
    return min(side, key=lambda row: row.value or 0.0, default=None)


def work_name(row: Row) -> str:
    """Return workload, size, dtype and all other fields that are not the default, as text."""
    parts = [row.workload, *([row.size] if row.size else []), row.dtype]
    parts += [word for word in (row.precision, row.scope, row.cache) if word not in {"ieee", "resident", "hot"}]
    return " ".join(parts)


@dataclass(frozen=True, slots=True)
class Speedups:
    """The fastest GPU row against the fastest CPU row of each case, by the method of `bench-core compare`, as texts.

    by_case: by case_id. crossed: a line for each family with the size from which the GPU is faster. lacking: what
    claims would need; "" if nothing is only indicated.
    """

    by_case: Mapping[str, str] = field(default_factory=dict)
    crossed: Sequence[str] = ()
    lacking: str = ""


def speedups(rows: Sequence[Row], traits: TraitsOf, folder: Path | None = None) -> Speedups:
    """Compare GPU and CPU in the rows of a run. folder: that of the run; see `text`."""
    from bench_core.analysis import figures  # noqa: PLC0415 - these are only needed at the end of a run
    from bench_core.analysis.report_data import ReportData  # noqa: PLC0415 - see above
    from bench_core.compare import Reading, Verdict  # noqa: PLC0415 - see above

    noise = read_noise(folder, []) if folder else {}
    files = RunFiles(about={"traits": traits.to_json()}, noise=noise)
    data = ReportData([Reading.of("this run", rows, files=files)])
    fastest_gpus = {case: data.contender(r.gpu[0].entry.row) for case, r in data.rankings.items() if r.gpu}
    judged = {case: c for (gpu, case), c in data.at_home.items() if gpu == fastest_gpus[case]}
    lacking = next((c.lacking for c in judged.values() if c.verdict is Verdict.INDICATED), "")
    return Speedups({case: c.brief for case, c in judged.items()}, figures.crossover_lines(data), lacking)


def text(
    rows: Sequence[Row], traits: TraitsOf, about: Sequence[str], width: int, *, color: bool, folder: Path | None = None
) -> str:
    """Return the summary as text, its table at most `width` columns wide.

    about: the lines after it. folder: that of the run, beside which the noise of its machine may have been written.
    """
    buffer = io.StringIO()
    console = Console(file=buffer, width=width, force_terminal=color, no_color=not color, highlight=False)
    if found := fastest(rows):
        ratios = speedups(rows, traits, folder) if any(b.gpu and b.cpu for b in found) else Speedups()
        console.print(_table(found, _headlines(rows, traits), ratios))
        if ratios.lacking:
            about_indicated = "indicated: beyond the spread assumed between processes"
            console.print(Text(f"{about_indicated}; {ratios.lacking}"))
        if ratios.crossed:
            console.print(Text("\n  ".join(["Size from which the GPU is faster:", *ratios.crossed])))
    for line in about:
        console.print(Text(line), soft_wrap=True)  # a path that is wrapped cannot be copied
    return buffer.getvalue()


def _table(found: Sequence[Fastest], rates: Mapping[Identity, str], ratios: Speedups) -> Table:
    gpu = any(b.gpu for b in found)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("work", overflow="fold")
    for name in ("best CPU", "", *(("best GPU", "", "GPU is") if gpu else ())):
        table.add_column(name, justify="left" if name else "right", no_wrap=True)
    for b in found:
        cells = [*_cells(b.cpu, rates), *(_cells(b.gpu, rates) if gpu else ())]
        table.add_row(b.work, *cells, *([ratios.by_case.get(b.case_id, "")] if gpu else []))
    return table


def _cells(row: Row | None, rates: Mapping[Identity, str]) -> tuple[str, str]:
    if row is None:
        return "", ""
    device = row.device if row.device not in {"cpu", "cuda:0"} else ""
    threads = f"{row.threads}t" if row.threads else ""
    return " ".join(filter(None, (row.who, device, threads))), rates[row.identity]


def _headlines(rows: Iterable[Row], traits: TraitsOf) -> dict[Identity, str]:
    """Return the headline metric of each result as text, its rate or else its time, by identity."""
    sides: dict[Identity, dict[str, Row]] = {}
    for row in rows:
        if row.clock == "wall":
            sides.setdefault(row.identity, {})[row.metric] = row
    shown = {side: found.get(headline(traits(next(iter(found.values()))), found)) for side, found in sides.items()}
    return {side: show(row.value, row.unit) for side, row in shown.items() if row}


def counts(measurements: Iterable[Measurement]) -> str:
    """Return the counts by status: "62 planned: 40 ok, 22 skipped"."""
    several = list(measurements)
    by_status = ", ".join(f"{count} {status}" for status, count in count_statuses(several).items())
    return f"{len(several)} planned: {by_status}"


def flags(measurements: Iterable[Measurement], rows: Iterable[Row]) -> str:
    """Return the number of cases with each flag: "3 drift, 1 steal"; "" if there are no flags.

    rows: those of the run. Some flags follow from the rest of the run, and only its rows have them.
    """
    words = Counter(word for m in measurements for word in _every_flag(m)) + count_from_other_rows(rows)
    return ", ".join(f"{count} {word}" for word, count in sorted(words.items()))


def _every_flag(done: Measurement) -> list[str]:
    """Return the flags of a case and of its series, each once."""
    return list(dict.fromkeys(chain(done.flags, *(series.flags for series in done.series))))


def advice(measurements: Iterable[Measurement]) -> list[str]:
    """Return a sentence if most times did not converge, and one if the outputs of timed calls could not be checked.

    Such results look like any others in the table.
    """
    measurements = list(measurements)
    timed = [series for m in measurements for series in m.series if series.metric == "time"]
    unsettled = sum("not_converged" in series.flags for series in timed)
    unchecked = sorted({m.case.work.workload for m in measurements if UNCHECKED in m.flags and not m.planned_as})
    sentences = []
    if 2 * unsettled > len(timed):
        problem = f"{unsettled} of {len(timed)} times did not reach a precision of 1 %: busy machine or varying clock"
        sentences.append(f"{problem}; bench-core doctor shows causes, bench-core run --runs 5 measures the variation")
    if unchecked:
        problem = f"the timed calls of {', '.join(unchecked)} were not checked: a kernel with its own answer or without"
        sentences.append(f"{problem} inputs is deprecated, and an error in the next release")
    return sentences


def extra_info(done: Measurement) -> dict[str, Any]:
    """Return the extra_info for pytest-benchmark: the metrics of a measurement, and the facts of its case."""
    no_run = Run(run_id="", started_at="", machine="")
    values = {
        f"{row.metric}{'_device' if row.clock == 'device' else ''}": row.value for row in rows_of_case(no_run, [done])
    }
    case = done.case
    known = {"case_id": case.work.case_id, "device_name": done.device_name, "library": done.library}
    about = {**known, "status": Status(done.status).value, "rel_error": done.rel_error, "threads": done.threads}
    return {**about, **values, "flags": _every_flag(done)}
