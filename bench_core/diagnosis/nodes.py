"""From tables to nodes: for each piece of work what each process of each machine took, of machines of one kind.

Only machines with the same CPU, cores, memory and GPUs are compared with each other. A process contributes one number
for each work, as in a comparison: the logarithm of the p10 of its seconds (compare/replicates.py). Of work without a
time it is that of the headline metric, so turned that larger is slower.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from operator import attrgetter
from typing import Any

import numpy as np

from bench_core.compare.apart import kept_apart
from bench_core.compare.labels import label, label_fields, short
from bench_core.compare.loading import Reading
from bench_core.compare.replicates import collect_replicates
from bench_core.compare.result import QUANTITY, WORK, Key
from bench_core.fleet.verification import RUN_OPTIONS
from bench_core.history.store import moment
from bench_core.machine.facts import Lasting, against, contradictions, gpu_models, known, lasting, shown
from bench_core.records import IMPORTED, Clock, Row, Status, is_several, is_unchecked, type_of
from bench_core.results.metrics import headline
from bench_core.results.run_files import RunFiles
from bench_core.results.traits import merged
from bench_core.units import counted, natural, show

Values = Mapping["WorkKey", Mapping[str, Mapping[str, float]]]  # by work, machine, and process of a run

_IDENTITY = "cpu.identity"  # family, model and stepping: a difference is evidence, and no reason not to compare
_CHOSEN = ("workload", "size", "dtype", "backend", "device")
_WHO = ("backend", "implementation", "device", "threads")
_FEW = 3  # fewer nodes of one kind are few enough to be a kind by mistake, such as of a missing DIMM
_MOST_NAMED = 5
_LONGEST_COMMIT = 9
_OVERLAP = 2.0  # seconds of two runs: starts are in whole seconds
_SHARE = 0.1  # of the shorter one: how long each process of a merged run took is not known
_EPOCH = datetime(1970, 1, 1)  # in UTC, as `moment` returns it
_work = attrgetter("case_id", *WORK, *QUANTITY)


@dataclass(frozen=True, slots=True)
class WorkKey:
    """A piece of work and who did it: the identity of a result without its machine.

    threads: None where the device is no CPU. suite, label: for people; works do not differ by them.
    """

    case_id: str
    backend: str
    implementation: str
    device: str
    threads: int | None
    metric: str = "time"
    suite: str = field(default="", compare=False)
    label: str = field(default="", compare=False)

    @property
    def family(self) -> str:
        """Its suite and type of device: "memory on cpu", "collectives on several cuda"."""
        return f"{self.suite} on {'several ' * is_several(self.device)}{type_of(self.device)}"


@dataclass(frozen=True, slots=True)
class Hardware:
    """Machines of one kind.

    name: what they are, in words; no two kinds have one name. machines: in natural order. works: those that a machine
    has a value of, by family, then as in a comparison. values: logarithms, larger is slower, by work, then by machine
    that has any, then by process; a process has one name in all works. unmeasured: other machines of
    this kind, of which no value counts. notes: what was left out, and what is odd.
    """

    name: str
    machines: tuple[str, ...]
    works: tuple[WorkKey, ...]
    values: Values
    notes: tuple[str, ...] = ()
    unmeasured: tuple[str, ...] = ()


def nodes_of(readings: Sequence[Reading]) -> list[Hardware]:
    """Return the machines of some tables by kind, the largest kind first. The order of the tables does not matter.

    Values do not count that are by the clock of the device, or that nobody has checked, unless another program measured
    them. A machine that measured two runs at the same time is left out: that are two computers with one label. A kind
    of which no machine is left has none, and says why.
    """
    values, apart = _values(_counted(readings))
    facts = _facts_by_machine(readings)
    kinds, unsure = _kinds(facts)
    doubled = _overlapping(readings)
    having = {machine for by_machine in values.values() for machine in by_machine}
    found = []
    for name, kind in zip(_names(kinds, facts), kinds, strict=True):
        machines = tuple(machine for machine in kind if machine in having and machine not in doubled)
        mine = {work: _of(machines, by_machine) for work, by_machine in values.items()}
        mine = {work: by_machine for work, by_machine in mine.items() if by_machine}
        notes = [doubled[machine] for machine in kind if machine in doubled]
        notes += [f"{short(machine)}: no value that counts" for machine in kind if machine not in having]
        notes += [*_other_kind(kind, kinds[0], facts), *_other_runs(machines, readings), *_lacking(machines, mine)]
        unmeasured = tuple(machine for machine in kind if machine not in machines)
        found.append(Hardware(name, machines, tuple(mine), mine, tuple(notes), unmeasured))
    if found:
        found[0] = replace(found[0], notes=(*found[0].notes, *unsure, *apart))
    return found


def _of(machines: Iterable[str], by_machine: Mapping[str, Mapping[str, float]]) -> dict[str, Mapping[str, float]]:
    return {machine: by_machine[machine] for machine in machines if machine in by_machine}


# ---------------------------------------------------------------- values


@dataclass(frozen=True, slots=True)
class _Named:
    suite: str
    workload: str


@dataclass(frozen=True, slots=True)
class _Process:
    """The logarithms of a process, larger is slower. low: that of its p10, None if only the median is known."""

    low: float | None
    middle: float


def _counted(readings: Sequence[Reading]) -> list[Reading]:
    """Return the readings with the rows alone that count, each work with one metric."""
    usable = []
    for reading in readings:
        rows = reading.rows
        is_ok, is_by_wall = rows.mask("status", Status.OK.__eq__), rows.mask("clock", Clock.DEVICE.__ne__)
        usable.append(reading.only(is_ok & is_by_wall & rows.mask("flags", _is_sound)))
    traits = merged(reading.traits for reading in readings)
    metrics: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    for reading in usable:
        for *named, metric in reading.rows.distinct("case_id", "suite", "workload", "metric"):
            metrics[named[0], named[1], named[2]].add(metric)
    asked = {
        case_id: "time" if "time" in there else headline(traits(_Named(suite, workload)), there)
        for (case_id, suite, workload), there in metrics.items()
    }
    found = []
    for reading in usable:
        kinds, numbers = reading.rows.groups(("case_id", "metric"))
        wanted = np.array([asked[case_id] == metric for case_id, metric in kinds], np.bool_)
        found.append(reading.only(wanted[numbers]))
    return found


def _is_sound(flags: str) -> bool:
    return not is_unchecked(flags) or IMPORTED in flags.split(";")


def _values(readings: Sequence[Reading]) -> tuple[dict[WorkKey, dict[str, dict[str, float]]], tuple[str, ...]]:
    """Return the values in the order of the works, and what `kept_apart` says of them.

    All processes of a work contribute their p10; if one of them has none, all contribute their median.
    """
    comparable = kept_apart(readings)
    found: dict[WorkKey, dict[str, dict[str, _Process]]] = {}
    keys: dict[WorkKey, Key] = {}
    for reading in comparable.readings:
        for row in reading.rows:
            if row.has_value:
                work = WorkKey(*row.identity, row.metric, row.suite)
                if work not in keys:
                    keys[work] = _key(row)
                _add(found.setdefault(work, {}).setdefault(row.machine, {}), reading, row)
    labels = _labels(keys)
    return {replace(w, label=labels[w]): _on_one_basis(found[w]) for w in labels}, comparable.said


def _labels(keys: Mapping[WorkKey, Key]) -> dict[WorkKey, str]:
    """Return the label of each work, in the order of the works; no two works have one."""
    fields, _ = label_fields(list(keys.values()), _CHOSEN)
    labels: dict[WorkKey, str] = {}
    seen: Counter[str] = Counter()
    for work in sorted(keys, key=lambda work: (work.family, keys[work].order, work.case_id)):
        text = label(keys[work], fields)
        seen[text] += 1
        labels[work] = f"{text} ({seen[text]})" if seen[text] > 1 else text
    return labels


def _key(row: Row) -> Key:
    who = tuple((name, "" if getattr(row, name) is None else str(getattr(row, name))) for name in _WHO)
    return Key(*_work(row), who)  # type: ignore[call-arg]


def _add(processes: dict[str, _Process], reading: Reading, row: Row) -> None:
    """Add the processes of a row. A run that is in several tables is one run.

    A row that merges several processes, of which there are no samples, counts as one: they cannot be told apart.
    """
    sign = -1.0 if row.better == "higher" else 1.0
    collected = collect_replicates("", [(reading, row)])
    for each in collected.replicates:
        has_low = bool(row.p90 if row.better == "higher" else row.p10) or each.low != each.middle
        process = _Process(sign * each.low if has_low else None, sign * each.middle)
        processes.setdefault(f"{row.run_id} {each.pair[2]}", process)
    for merged_row in collected.summaries:
        processes.setdefault(f"{row.run_id} 0", _Process(None, sign * merged_row.mean))


def _on_one_basis(by_machine: Mapping[str, Mapping[str, _Process]]) -> dict[str, dict[str, float]]:
    lows = [process.low for processes in by_machine.values() for process in processes.values()]
    is_low = None not in lows
    return {
        machine: {run: p.low if is_low and p.low is not None else p.middle for run, p in sorted(processes.items())}
        for machine, processes in by_machine.items()
    }


# ---------------------------------------------------------------- kinds


def _facts_by_machine(readings: Iterable[Reading]) -> Mapping[str, Lasting]:
    """Return what is known of the hardware of each machine, from all of its runs."""
    found: dict[str, dict[str, str | float]] = {}
    for reading in readings:
        devices: dict[tuple[str, str], list[tuple[str, str]]] = {}
        for run_id, machine, *device in reading.rows.distinct("run_id", "machine", "device", "device_name"):
            devices.setdefault((run_id, machine), []).append((device[0], device[1]))
        for (run_id, machine), mine in devices.items():
            for name, value in lasting(reading.files_of(run_id).facts, mine).items():
                # The smallest of several, so that the order of the runs does not matter.
                facts = found.setdefault(machine, {})
                facts[name] = min(facts.get(name, value), value)
            found.setdefault(machine, {}).pop(_IDENTITY, None)
    return found


def _kinds(facts: Mapping[str, Lasting]) -> tuple[list[list[str]], list[str]]:
    """Return the machines by kind, the largest kind first, and a note for each that could be of several.

    Those of which most is known decide which kinds there are.
    """
    kinds: list[list[str]] = []
    unsure = []
    for machine in sorted(facts, key=lambda name: (-len(facts[name]), natural(name), name)):
        fitting = [kind for kind in kinds if not any(contradictions(facts[machine], facts[other]) for other in kind)]
        if len(fitting) == 1:
            fitting[0].append(machine)
        elif fitting:
            unsure.append(f"{short(machine)} is left out: what is known of it fits {len(fitting)} kinds of machines")
        else:
            kinds.append([machine])
    ordered = [sorted(kind, key=lambda name: (natural(name), name)) for kind in kinds]
    return sorted(ordered, key=lambda kind: (-len(kind), natural(kind[0]), kind[0])), unsure


def _names(kinds: Sequence[Sequence[str]], facts: Mapping[str, Lasting]) -> list[str]:
    named: list[str] = []
    for kind in kinds:
        own = _name([facts[machine] for machine in kind])
        several = named.count(own) + sum(other.startswith(f"{own} (") for other in named)
        named.append(f"{own} ({several + 1})" if several else own)
    return named


def _name(several: Iterable[Lasting]) -> str:
    """Return a kind in words: "8 x NVIDIA H100 80GB HBM3, AMD EPYC 9654, 96 cores, 1.52 TB"."""
    everything = [*several]
    facts: dict[str, str | float] = {}
    for own in sorted(everything, key=len):
        facts |= own
    gpus = Counter(str(name) for name in gpu_models(facts).values())
    words = [f"{count} x {name}" if count > 1 else name for name, count in gpus.items()]
    words += [str(facts["cpu.model"])] if "cpu.model" in facts else []
    words += [counted(int(facts["cpu.cores"]), "core")] if "cpu.cores" in facts else []
    words += [show(float(facts["memory.total"]), "B")] if "memory.total" in facts else []
    return short(", ".join(words)) or "machines of unknown hardware"


# ---------------------------------------------------------------- notes


def _other_kind(kind: Sequence[str], largest: Sequence[str], facts: Mapping[str, Lasting]) -> Iterator[str]:
    """Yield why a few machines are not compared with those of the largest kind."""
    if len(kind) < _FEW < len(largest):
        one, other = facts[kind[0]], facts[largest[0]]
        differing = {name for member in largest for name in contradictions(one, facts[member])}
        told = [short(against(name, (one.get(name), other.get(name)))) for name in sorted(differing)]
        of = "is of another kind" if len(kind) == 1 else "are of another kind"
        yield f"{_listed(kind)} {of} than most: {'; '.join(told)}"


@dataclass(frozen=True, slots=True, order=True)
class _Span:
    """When a process of a run began and ended, in seconds since 1970. series: runs with one are measured in turns."""

    begin: float
    end: float
    run_id: str
    series: str

    def overlaps(self, other: _Span) -> bool:
        shared = min(self.end, other.end) - max(self.begin, other.begin)
        shorter = min(self.end - self.begin, other.end - other.begin)
        return self.series != other.series and shared > max(_OVERLAP, _SHARE * shorter)


def _overlapping(readings: Iterable[Reading]) -> dict[str, str]:
    """Return the machines of which two runs overlap in time, each with a note that names them.

    Runs of one series do not count as overlapping with each other: they were measured in turns. A run that was resumed
    is not looked at: its seconds do not tell when it ended.
    """
    spans: dict[str, set[_Span]] = {}
    for reading in readings:
        for run_id, machine in reading.rows.distinct("run_id", "machine"):
            spans.setdefault(machine, set()).update(_spans(run_id, reading.files_of(run_id).about))
    found = {}
    for machine, several in spans.items():
        if pair := _first_overlap(sorted(several)):
            told = f"{short(machine)} is left out: its runs {short(pair[0].run_id)} and {short(pair[1].run_id)} overlap"
            found[machine] = f"{told} in time, so two computers have this label, or it did not measure alone"
    return found


def _first_overlap(spans: Sequence[_Span]) -> tuple[_Span, _Span] | None:
    """Return two of these spans, sorted by their begin, that overlap; None if no two do."""
    for place, one in enumerate(spans):
        for other in spans[place + 1 :]:
            if other.begin >= one.end:
                break
            if one.overlaps(other):
                return one, other
    return None


def _spans(run_id: str, about: Mapping[str, Any]) -> Iterator[_Span]:
    """Yield when the processes of a run began and ended; of several, each as long as the others."""
    run, time = about.get("run"), about.get("time")
    seconds = time.get("total_s") if isinstance(time, dict) else None
    if not isinstance(run, dict) or not isinstance(seconds, int | float) or about.get("resumed"):
        return
    processes = about.get("processes")
    several = processes if isinstance(processes, list) and processes else [run]
    for each in several:
        start = moment(str(each.get("started_at"))) if isinstance(each, dict) else None
        if start is not None:
            begin = (start - _EPOCH).total_seconds()
            yield _Span(begin, begin + seconds / len(several), run_id, str(about.get("series") or run_id))


def _other_runs(machines: Sequence[str], readings: Iterable[Reading]) -> Iterator[str]:
    """Yield in what the runs of some machines differ from those of most: commit, version, options."""
    told: dict[str, dict[str, set[str]]] = {}
    for reading in readings:
        for run_id, machine, commit, dirty in reading.rows.distinct("run_id", "machine", "git_commit", "git_dirty"):
            if machine in machines:
                own = dict(_of_run(reading.files_of(run_id)))
                own |= {"git commit": commit[:_LONGEST_COMMIT] + "+" * bool(dirty)} if commit else {}
                for name, text in own.items():
                    told.setdefault(name, {}).setdefault(machine, set()).add(text)
    for name, by_machine in told.items():
        texts = {machine: " and ".join(sorted(several)) for machine, several in by_machine.items()}
        if len(set(texts.values())) > 1:
            yield _unlike(name, texts)


def _of_run(files: RunFiles) -> Iterator[tuple[str, str]]:
    version = known(files.facts, "package.bench-core")
    if version is not None:
        yield "bench-core", short(shown("package.bench-core", version))
    options = files.about.get("options")
    given = options if isinstance(options, dict) else {}
    for name in (name for name in RUN_OPTIONS if name in given):
        yield f"option {name}", "none" if given[name] in (None, "", []) else short(shown(name, given[name]))


def _unlike(name: str, texts: Mapping[str, str]) -> str:
    """Return which machines have which value of something, the most frequent one last."""
    common, count = Counter(texts[machine] for machine in sorted(texts)).most_common(1)[0]
    groups: dict[str, list[str]] = {}
    for machine, text in texts.items():
        if text != common:
            groups.setdefault(text, []).append(machine)
    named = [f"{text} on {_listed(several)}" for text, several in groups.items()]
    more = [f"{counted(len(named) - _MOST_NAMED, 'other value')}"] if len(named) > _MOST_NAMED else []
    return f"{name} differs: {', '.join([*named[:_MOST_NAMED], *more])}; {common} on {counted(count, 'node')}"


def _lacking(machines: Sequence[str], values: Values) -> Iterator[str]:
    """Yield which machines lack works that most have."""
    usual = [work for work, by_machine in values.items() if 2 * len(by_machine) > len(machines)]
    for machine in machines:
        lacking = [work for work in usual if machine not in values[work]]
        if lacking:
            some = dict.fromkeys(work.device for work in lacking)
            where = f", all on {next(iter(some))}" if len(some) == 1 else ""
            yield f"{short(machine)} lacks {len(lacking):,} of the {len(usual):,} works that most nodes have{where}"


def _listed(names: Sequence[str]) -> str:
    """Return names as text, the first of many: "node-01, node-02 and 7 more"."""
    ordered = [short(name) for name in sorted(names, key=natural)]
    more = len(ordered) - _MOST_NAMED
    return ", ".join(ordered[:_MOST_NAMED]) + (f" and {more:,} more" if more > 0 else "")
