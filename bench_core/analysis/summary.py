"""The summary at the end of a run: the best result of each device in each kind of work, what is doubtful, what is next.

Ratios are on the ladder of `bench-core compare`. The table shows the works that say most (see `choose`), and counts the
others.
"""

from __future__ import annotations

import io
import shlex
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench_core.records import (
    DRIFT,
    IMPORTED,
    LAUNCH_BOUND,
    NEVER_QUIET,
    OTHER_WORK,
    SAME_INPUTS,
    SEQUENTIAL,
    SHARED_GPU,
    SLOW_CLOCK,
    STEAL,
    THROTTLED,
    UNCHECKED,
    UNCHECKED_TIMING,
    Identity,
    Measurement,
    Row,
    Run,
    Status,
    count_statuses,
)
from bench_core.results.metrics import headline
from bench_core.results.rows import count_from_other_rows, rows_of_case
from bench_core.results.run_files import RunFiles, read_noise
from bench_core.results.traits import TraitsOf
from bench_core.units import show, significant

if TYPE_CHECKING:  # they are imported where they are called: only the end of a run needs them
    from bench_core.analysis.over_ranks import Reached
    from bench_core.analysis.report_data import ReportData
    from bench_core.analysis.sides import Contender
    from bench_core.compare.result import Comparison

WorkloadName = tuple[str, str]  # suite and workload

# Works in the table, so that 50 lines of 100 columns hold the summary: a work takes one or two lines on one device, two
# or three on several.
MOST_WORKS, MOST_WORKS_OF_SEVERAL = 24, 13
MOST_CROSSOVERS = 2
MOST_TOGETHER = 12  # works of devices that compute together
MOST_DOUBTS = 5
_FEW = 0.01  # share of the timed seconds that is worth a line

# The flags that make a value doubtful, in words.
DOUBTS = {
    "above_ceiling": "faster than the limit that this run measured",
    "above_datasheet": "faster than the datasheet of the device allows",
    "alternating": "every second call took another time",
    "cold_as_hot": "cold as fast as hot: the cache may be larger than reported",
    OTHER_WORK: "other work took cores from blocks that count",
    DRIFT: "the CPU became slower or faster meanwhile",
    "energy_lost": "the energy counter gave no value",
    "idle_energy": "the energy includes a pause",
    "launch_blocking": "CUDA_LAUNCH_BLOCKING made every launch wait",
    "not_converged": "the median was not known within 1 % when the budget ended",
    "compiled_while_timed": "a call that was timed compiled a program",
    "not_isolated": "measured in pytest's own process",
    "not_steady": "still changing when the warm-up ended",
    SAME_INPUTS: "checked again on the same inputs: no others have a known answer",
    NEVER_QUIET: "hardly a block was undisturbed: the least disturbed ones count",
    "poor_fit": "the times are not close to a line",
    "slow_on_new_input": "slow on new numbers: answers may be cached",
    SHARED_GPU: "another process was on the GPU",
    SLOW_CLOCK: "the clock of the GPU fell meanwhile",
    STEAL: "the hypervisor gave CPU time to others",
    THROTTLED: "heat or a power limit slowed the GPU",
    "trend": "calls became slower or faster while they were timed",
    UNCHECKED: "the answer has no reference and was not checked",
    IMPORTED: "another program measured it, and this suite has checked nothing",
    UNCHECKED_TIMING: "the timed calls were not checked",
}
# The same of flags that end in a number, by how they begin.
DOUBTS_BEGIN = {"slow_rank_": "this one of several devices took longer than the others"}
# Why timed seconds do not count, in words.
CAUSES = {
    OTHER_WORK: "other processes",
    STEAL: "steal",
    THROTTLED: "heat",
    SLOW_CLOCK: "a slower clock",
    SHARED_GPU: "others on the GPU",
    "measured_again": "measured again",
}
# Flags that only describe a value, and how such flags begin. Any other, as of a user's kernel, is shown as it is.
FACTS = (
    "single_run",
    "resumed",
    SEQUENTIAL,
    LAUNCH_BOUND,
    "no_device_clock",
    "at_ceiling",
    "near_cache",
    "cache_unknown",
    "3xtf32",
    "partly_3xtf32",
)
FACTS_BEGIN = ("fits_", "bound_")
_PER_SECOND = {"token_rate": "tokens/s", "sample_rate": "samples/s"}


@dataclass(frozen=True, slots=True)
class Best:
    """The best result of one device in one piece of work, by wall time.

    lead: against the second best of this device. against_cpu: that of a GPU against the best CPU. Each is None if there
    is no other result.
    """

    row: Row
    lead: Comparison | None = None
    against_cpu: Comparison | None = None


def best(data: ReportData, cases: Sequence[str]) -> dict[str, dict[Contender, Best]]:
    """Return the best result of each device in several pieces of work, by case_id; the ratios are judged together."""
    from bench_core.compare.verdicts import Pair  # noqa: PLC0415 - see TYPE_CHECKING above

    ranked = {(case, c): found for case in cases for c in data.contenders if (found := data.fastest(c, case))}
    pairs = {
        at: Pair(data.rankings[at[0]].key, found[0].entry.name, found[1].entry.name, found[1], found[0])
        for at, found in ranked.items()
        if len(found) > 1
    }
    leads = dict(zip(pairs, data.judged(list(pairs.values())), strict=True))
    shown: dict[str, dict[Contender, Best]] = {}
    for (case, c), (first, *_) in ranked.items():
        shown.setdefault(case, {})[c] = Best(first.entry.row, leads.get((case, c)), data.at_home.get((c, case)))
    return shown


def choose(data: ReportData, headlines: Collection[WorkloadName], most: int) -> list[str]:
    """Return the works of single devices for a table of at most `most`, by case_id, in the order of families and sizes.

    Each kind of work (a format, a cold cache, ...) is shown in one size before any in two: that which most devices did,
    and of those the largest. The first kind of every workload comes before the second; `headlines` are one kind ahead
    of the other workloads.
    """
    places: dict[str, tuple[int, int]] = {}
    kinds: Counter[WorkloadName] = Counter()
    for family in (family for family in data.families if not family.across_ranks):
        workload = (family.suite, family.workload)
        devices = {case: count for case in data.cases(family).values() if (count := len(data.holders(case, "time")))}
        kind = kinds[workload] + (workload not in headlines)
        largest_first = sorted(enumerate(devices), key=lambda item: (-devices[item[1]], -item[0]))
        ranks = {case: place for place, (_, case) in enumerate(largest_first)}
        places |= {case: (ranks[case], kind) for case in devices}
        kinds[workload] += bool(devices)
    chosen = set(sorted(places, key=places.__getitem__)[:most])
    return [case for case in places if case in chosen]


@dataclass(frozen=True, slots=True)
class Finished:
    """A run that has ended.

    rows: all of them. headlines: the suites and workloads that matter most. folder: that of the run, beside which the
    noise of its machine may have been written.
    """

    rows: Sequence[Row]
    traits: TraitsOf = field(default_factory=TraitsOf)
    headlines: Collection[WorkloadName] = ()
    folder: Path | None = None


def text(run: Finished, about: Sequence[str], width: int, *, color: bool) -> str:
    """Return the summary as text, its table at most `width` columns wide; `about`: the lines after it."""
    buffer = io.StringIO()
    console = Console(file=buffer, width=width, force_terminal=color, no_color=not color, highlight=False)
    if any(row.metric == "time" and row.has_value for row in run.rows):
        for part in _results(run):
            console.print(part)
    for line in about:
        console.print(Text(line), soft_wrap=True)  # a path that is wrapped cannot be copied
    return buffer.getvalue()


def _results(run: Finished) -> Iterator[Table | Text]:
    from bench_core.analysis import figures, over_ranks  # noqa: PLC0415 - see TYPE_CHECKING above
    from bench_core.analysis.report_data import ReportData  # noqa: PLC0415 - see above
    from bench_core.compare import Reading  # noqa: PLC0415 - see above

    noise = read_noise(run.folder, []) if run.folder else {}
    files = RunFiles(about={"traits": run.traits.to_json()}, noise=noise)
    data = ReportData([Reading.of("this run", run.rows, files=files)])
    devices = [c for c in data.contenders if not c.is_several]
    shown = best(data, choose(data, run.headlines, MOST_WORKS_OF_SEVERAL if len(devices) > 1 else MOST_WORKS))
    if shown:
        yield _table(shown, devices, _headlines(data.rows, run.traits))
    single = (case for family in data.families if not family.across_ranks for case in data.cases(family).values())
    ranked = (data.rankings[case] for case in single if case in data.rankings)
    if left := sum(bool(found.cpu or found.gpu) for found in ranked) - len(shown):
        yield Text(f"and {left} more, other sizes among them: bench-core compare shows all", style="dim")
    if together := over_ranks.reached(data):
        yield _table_of_several(together[:MOST_TOGETHER], data, below=bool(shown))
        if (more := len(together) - MOST_TOGETHER) > 0:
            yield Text(f"and {more} more: bench-core report shows all", style="dim")
    if ladder := _ladder(shown):
        yield Text(f"\n{ladder}")
    if crossed := figures.crossover_lines(data, MOST_CROSSOVERS):
        yield Text("\n  ".join(["Size from which the GPU is faster:", *crossed]))


def _table(
    shown: Mapping[str, Mapping[Contender, Best]], contenders: Sequence[Contender], rates: Mapping[Identity, str]
) -> Table:
    """Return the table: a row for each work; for each device a column, and for a GPU one more against the CPU."""
    every = [b for found in shown.values() for b in found.values()]
    threads = max((b.row.threads or 0 for b in every), default=0)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("work")
    if len(contenders) == 1:
        table.add_column(f"best {contenders[0].label}", no_wrap=True)
        table.add_column("", justify="right", no_wrap=True)
        table.add_column("runner-up" if any(b.lead for b in every) else "")
    else:
        for c in contenders:
            for name in (f"best {c.label}", *([f"{c.label} is"] if c.is_gpu else [])):
                table.add_column(name)
    for found in shown.values():
        cells = [work_name(next(iter(found.values())).row)]
        for c in contenders:
            who, rate, lead = _cells(found[c], rates, threads) if c in found else ("", "", "")
            cells += [who, rate, lead] if len(contenders) == 1 else [f"{rate} {who}\n{lead}".strip()]
            if c.is_gpu and len(contenders) > 1:
                against = found[c].against_cpu if c in found else None
                cells.append(against.brief.replace(", ", ",\n") if against else "")
        table.add_row(*cells)
    return table


def _table_of_several(found: Sequence[Reached], data: ReportData, *, below: bool) -> Table:
    """Return the table of devices that compute together. below: whether it follows another table."""
    table = Table(box=None, pad_edge=False, header_style="bold", title=" " if below else None)
    table.add_column("devices together")
    table.add_column("ranks", justify="right", no_wrap=True)
    table.add_column("efficiency or rate")
    table.add_column("by")
    several = len([c for c in data.contenders if c.is_several]) > 1
    for one in found:
        doubt = "? " * any(map(is_doubt, one.row.flags.split(";")))
        contender = data.contender(one.row)
        where = f"{contender.label} " if several and contender else ""
        table.add_row(one.work, f"{one.ranks}", doubt + one.value, where + one.row.who)
    return table


def _cells(of: Best, rates: Mapping[Identity, str], threads: int) -> tuple[str, str, str]:
    """Return who was best, the rate, and the lead over the runner-up: "1.29x over numpy, unclear"."""
    doubt = "? " * any(map(is_doubt, of.row.flags.split(";")))
    lead = ""
    if of.lead and of.lead.ratio and of.lead.baseline:
        # The order is that of the medians, the ratio that of the p10: a lead of less than 1 % may be none.
        ahead = f"{significant(of.lead.ratio)}x over" if of.lead.ratio >= 1.005 else "level with"
        lead = f"{ahead} {_name(of.lead.baseline.row, threads)}, {of.lead.verdict}"
    return _name(of.row, threads), doubt + rates[of.row.identity], lead


def work_name(row: Row) -> str:
    """Return workload, size, dtype and all other fields that are not the default, as text."""
    parts = [row.workload, *([row.size] if row.size else []), row.dtype]
    parts += [word for word in (row.precision, row.scope, row.cache) if word not in {"ieee", "resident", "hot"}]
    return " ".join(parts)


def _name(row: Row, most_threads: int) -> str:
    """Return who did the work, with the number of threads if it is not that of the rows with most."""
    return f"{row.who} {row.threads}t" if row.threads and row.threads != most_threads else row.who


def _ladder(shown: Mapping[str, Mapping[Contender, Best]]) -> str:
    """Return of what the ratios are and what the words of the ladder mean; "" if nothing is compared."""
    compared = [c for found in shown.values() for b in found.values() for c in (b.lead, b.against_cpu) if c]
    lines = []
    if any(c.basis.startswith("p10") for c in compared):
        lines.append("Rates are of the medians; ratios are of the p10, which varies less, so that the two may differ.")
    if any(c.lacking for c in compared):
        lines.append("indicated: beyond the spread of processes; unclear: not beyond it; neither is a claim")
    return "\n".join(lines)


def _headlines(rows: Iterable[Row], traits: TraitsOf) -> dict[Identity, str]:
    """Return the headline metric of each result as text, its rate or else its time, by identity."""
    sides: dict[Identity, dict[str, Row]] = {}
    for row in rows:
        if row.clock == "wall":
            sides.setdefault(row.identity, {})[row.metric] = row
    shown = {side: found.get(headline(traits(next(iter(found.values()))), found)) for side, found in sides.items()}
    return {side: _rate(row) for side, row in shown.items() if row}


def _rate(row: Row) -> str:
    """Return a value as text; a rate says of what: "3.66 k samples/s"."""
    shown = show(row.value, row.unit)
    return f"{shown.removesuffix('/s').rstrip()} {_PER_SECOND[row.metric]}" if row.metric in _PER_SECOND else shown


def counts(measurements: Iterable[Measurement]) -> str:
    """Return the counts by status: "62 planned: 40 ok, 22 skipped"."""
    several = list(measurements)
    by_status = ", ".join(f"{count} {status}" for status, count in count_statuses(several).items())
    return f"{len(several)} planned: {by_status}"


def is_doubt(flag: str) -> bool:
    """Whether a flag makes a value doubtful. One that is not known does."""
    return bool(flag) and flag not in FACTS and not flag.startswith(FACTS_BEGIN)


def disturbed(about: Mapping[str, Any]) -> list[str]:
    """Return a line about the timed seconds that do not count, if they are 1 % or more.

    about: as in run.json (see run/tries.py).
    """
    timed = about["timed_s"]
    shares = {cause: seconds / timed for cause, seconds in about["lost_s"].items()} if timed else {}
    if sum(shares.values()) < _FEW:
        return []
    by_cause = sorted(shares.items(), key=lambda item: (-item[1], item[0]))
    words = ", ".join(f"{CAUSES.get(cause, cause)} {share:.0%}" for cause, share in by_cause if share >= _FEW / 2)
    said = f"{sum(shares.values()):.0%} of the timed seconds were disturbed and do not count: {words}"
    return [said.replace("%", " %")]


def doubts(measurements: Iterable[Measurement], rows: Iterable[Row]) -> list[str]:
    """Return lines about the flags that make values doubtful, the most frequent first; none if there are none.

    rows: those of the run. Some flags follow from the rest of the run, and only its rows have them.
    """
    words = Counter(word for m in measurements for word in _every_flag(m)) + count_from_other_rows(rows)
    found = sorted(
        ((word, count) for word, count in words.items() if is_doubt(word)), key=lambda item: (-item[1], item[0])
    )
    if not found:
        return []
    lines = [f"  {count} {word}: {_doubt(word)}".rstrip(": ") for word, count in found[:MOST_DOUBTS]]
    others = ", ".join(f"{count} {word}" for word, count in found[MOST_DOUBTS:])
    return ["doubtful (marked ? above):", *lines, *([f"  {others}"] if others else [])]


def _doubt(flag: str) -> str:
    """Return a flag that makes a value doubtful in words; "" for one that is not known."""
    begun = (words for begin, words in DOUBTS_BEGIN.items() if flag.startswith(begin))
    return DOUBTS.get(flag) or next(begun, "")


def _every_flag(done: Measurement) -> list[str]:
    """Return the flags of a case and of its series, each once."""
    return list(dict.fromkeys(chain(done.flags, *(series.flags for series in done.series))))


def advice(measurements: Iterable[Measurement]) -> list[str]:
    """Return a sentence if most times did not converge, and one if the outputs of timed calls could not be checked."""
    measurements = list(measurements)
    timed = [series for m in measurements for series in m.series if series.metric == "time"]
    unsettled = sum("not_converged" in series.flags for series in timed)
    unchecked = sorted({m.case.work.workload for m in measurements if UNCHECKED_TIMING in m.flags and not m.planned_as})
    sentences = []
    if 2 * unsettled > len(timed):
        sentences.append(
            f"{unsettled} of {len(timed)} times are uncertain by more than 1 %: bench-core doctor says why"
        )
    if unchecked:
        problem = f"the timed calls of {', '.join(unchecked)} were not checked: a kernel with its own answer or without"
        sentences.append(f"{problem} inputs is deprecated, and an error in the next release")
    return sentences


def commands_after(folder: Path, rows: Iterable[Row]) -> list[str]:
    """Return what to type next for the folder of a finished run; nothing if no row has a value."""
    backends = {row.backend for row in rows if row.has_value}
    if not backends:
        return []
    path = shlex.quote(str(folder))
    compare = [f"to compare its backends: bench-core compare {path}"] if len(backends) > 1 else []
    return [
        *compare,
        f"to see charts: bench-core report {path} -o report.html",
        "to make claims of what is indicated: bench-core run --runs 5, with the same options",
    ]


def command_to_resume(folder: Path, paths: Sequence[str]) -> str:
    """Return what finishes an interrupted run. paths: the files and folders that were named for it."""
    return f"to finish the run: bench-core run --resume {shlex.join([str(folder), *paths])}"


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
