"""Whether runs can be published beside others: whole, without private data, plausible, one label for one computer.

Who contributes a run can be mistaken. So its files are held against each other and against what its device can do. What
no table can show, that all of them were made up together, is left to the reader.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench_core.compare.computers import TableRun, names
from bench_core.compare.implausible import implausible_rows
from bench_core.compare.loading import Reading, read, table_runs
from bench_core.errors import TableError
from bench_core.files import is_link, read_bytes
from bench_core.fleet.plan import PRIVATE
from bench_core.machine import datasheets
from bench_core.machine.cpu_limits import CpuLimits, limits_of
from bench_core.machine.facts import known
from bench_core.machine.privacy import why_private
from bench_core.records import (
    IMPORTED,
    PARTLY_SPLIT,
    SEQUENTIAL,
    SPLIT,
    Limit,
    Row,
    Status,
    Traffic,
    Traits,
)
from bench_core.results.integrity import Damage, Whole, whole, without_folder
from bench_core.results.legacy import ADDED_LATER
from bench_core.results.metrics import METRICS
from bench_core.results.roofline import cached
from bench_core.results.rows import statistics_of
from bench_core.results.run_files import read_noise, sample_key
from bench_core.results.schema import (
    CACHE,
    COLUMNS,
    KINDS,
    NOISE,
    RESULTS,
    RUN,
    SAMPLE_COLUMNS,
    SAMPLES,
    UNFINISHED,
)
from bench_core.results.table import Table
from bench_core.results.traits import FIT, TraitsOf
from bench_core.run.plausibility import BANDWIDTH_MARGIN, CPU_MARGIN, FLOPS_MARGIN, SPLIT_MARGIN
from bench_core.text import printable
from bench_core.units import counted, show

_OF_A_RUN = (RESULTS, SAMPLES, RUN)
_NO_FILE, _LINK = f"no file of a run ({', '.join(_OF_A_RUN)})", "a symbolic link"
_FLEET = "a fleet: its machines are labelled by numbers, which other fleets have as well"
_BESIDE_RUNS = {".png", ".svg", ".md"}  # pictures and texts about a machine
# Files of the system from which facts are read: their names say nothing of this computer.
_OF_THE_SYSTEM = re.compile(
    r"(?<![\w.:~/\\-])/(?:\.dockerenv|run/\.containerenv|etc/os-release|(?:proc|sys)(?:/[\w.@*-]+(?::\*)?)*)"
    r"(?=$|[\s;,)'\"])"
)
_OF_VERSIONS = re.compile(r"\.package\.|\.gpu\.driver|\.cuda\.|version|library")  # names of facts and columns
_MOST_REASONS = 3  # told where there is no run
_ROUNDING = 1e-9  # relative; the numbers are those that the statistics were computed from, to the last digit
_SHORTEST = 1e-9  # seconds; of a standard deviation that is 0 but for rounding
_COUNTED_TWICE = 2.0
_WORK = ("suite", "workload", "workload_version", "size", "dtype", "precision", "params", "scope", "cache")
_LEAST_KNOWN = 4  # lasting facts that two computers share before one may think that they are one


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a run cannot be published. place: a folder or file, relative to the folder that is validated."""

    place: str
    text: str


@dataclass(frozen=True, slots=True)
class Validation:
    """What was found in a folder of machines. runs: how many were looked at. notes: what a reader should know."""

    runs: int
    problems: tuple[Problem, ...]
    notes: tuple[Problem, ...]


def validate(folder: Path) -> Validation:
    """Return what prevents the runs in a folder of machines (MACHINE/RUN) from being published.

    Raises TableError if the folder cannot be read or holds no run.
    """
    problems: list[Problem] = []
    notes: list[Problem] = []
    readings: list[Reading] = []
    try:
        problems += [Problem(_place(path, folder), why) for path, why in _strangers(folder)]
        runs = [path for machine in _machines(folder) for path in _folders(machine)]
    except OSError as error:
        raise TableError(folder, error.strerror or str(error)) from None
    if not runs:
        raise TableError(folder, _why_no_run(folder, problems))
    copies: dict[str, str] = {}
    for path in runs:
        place = _place(path, folder)
        try:
            run = whole(path)
        except Damage as damage:
            problems.append(Problem(place, str(damage)))
            continue
        (reading,) = read([str(path / RESULTS)])
        readings.append(reading)
        problems += [Problem(place, text) for text in _problems(run, reading, path)]
        notes += [Problem(place, text) for text in _notes(run, reading)]
        first = copies.setdefault(run.samples_sha256, place)
        if first != place:
            problems.append(Problem(place, f"has the samples of {first}: a copy is no second measurement"))
    described = [run for reading in readings for run in table_runs(reading)]
    problems += [Problem(place, text) for place, text in _shared_labels(described)]
    notes += [Problem(place, text) for place, text in _shared_computers(described)]
    return Validation(len(runs), tuple(problems), tuple(notes))


def _why_no_run(folder: Path, problems: Sequence[Problem]) -> str:
    """Return what to say of a folder in which no run was found."""
    if (folder / RESULTS).exists():
        return "a run: give the folder of all machines, two levels above"
    if any((path / RESULTS).exists() for path in _folders(folder)):
        return "the folder of one machine: give the folder above it"
    told = "".join(f"; {problem.place}: {problem.text}" for problem in problems[:_MOST_REASONS])
    return f"no run here: a run is a folder MACHINE/RUN with a {RESULTS}{told}"


# ---------------------------------------------------------------- files


def _folders(folder: Path) -> list[Path]:
    """Return the folders in a folder; a link to one may lead out of it, and is none."""
    return [path for path in sorted(folder.iterdir()) if path.is_dir() and not is_link(path)]


def _machines(folder: Path) -> list[Path]:
    """Return the folders of machines: not those of a cache, of a fleet, or of an unfinished series."""
    found = [path for path in _folders(folder) if path.name not in {UNFINISHED, CACHE}]
    return [path for path in found if not (path / PRIVATE).exists()]


def _place(path: Path, folder: Path) -> str:
    return str(path.relative_to(folder))


def _strangers(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield what does not belong in a folder of machines: it may hold private data, or lead elsewhere."""
    yield from ((path, why) for path in (folder, *sorted(folder.iterdir())) if (why := _why_no_machine(path, folder)))
    for machine in _machines(folder):
        yield from _strangers_beside_runs(machine)
        for run in _folders(machine):
            yield from ((file, why) for file in sorted(run.iterdir()) if (why := _why_no_file(file)))


def _why_no_machine(path: Path, folder: Path) -> str:
    """Return why a path in a folder of machines, or that folder, is neither of a machine nor a text; "" if it is."""
    if path != folder and is_link(path):
        return _LINK
    if path.name == UNFINISHED:
        return "parts of a measurement that is not finished"
    if path.is_dir():
        return _FLEET if (path / PRIVATE).exists() else ""
    return "" if path.is_file() and path.suffix == ".md" else _NO_FILE


def _strangers_beside_runs(machine: Path) -> Iterator[tuple[Path, str]]:
    """Yield what does not belong in the folder of a machine, and what is wrong with its noise.json."""
    for path in sorted(machine.iterdir()):
        if is_link(path):
            yield path, _LINK
        elif path.name == NOISE:
            yield from ((path, why) for why in _noise(path))
        elif not path.is_dir() and not (path.is_file() and path.suffix in _BESIDE_RUNS):
            yield path, _NO_FILE


def _noise(path: Path) -> Iterator[str]:
    """Yield what is wrong with a noise.json: it cannot be read, is of another machine, or holds private data."""
    unread: list[str] = []
    found = read_noise(path.parent / RUN, unread)
    yield from (note.replace(f"{path}: ", "", 1) for note in unread)
    if found and found.get("machine") != path.parent.name:
        yield f"is that of {printable(str(found.get('machine')), 80)}"
    yield from _private(_texts(found))


def _why_no_file(file: Path) -> str:
    """Return why a file may not be in the folder of a run; "" if it may."""
    if is_link(file):
        return _LINK
    return "" if file.name in _OF_A_RUN and file.is_file() else _NO_FILE


# ---------------------------------------------------------------- one run


def _problems(run: Whole, reading: Reading, path: Path) -> Iterator[str]:
    """Yield the problems of one run, which is whole."""
    for label in sorted(run.machines - {path.parent.name}):
        yield f"the machine in its files is {printable(label, 80)}, its folder is {printable(path.parent.name, 80)}"
    yield from run.warnings
    # The noise of the machine is beside its runs, and looked at there.
    yield from (without_folder(note, path) for note in reading.files.notes if NOISE not in note)
    if any(IMPORTED in flags.split(";") for (flags,) in reading.rows.distinct("flags")):
        yield "imported: another program measured it, and nothing checked its answers"
    yield from _not_as_written(path)
    yield from _private((f"{RUN}: {name}", text) for name, text in _texts(run.about))
    yield from _private(_cells(reading))
    yield from (f"{_case(row)}: {why}" for row, why in implausible_rows([reading.rows]))
    yield from _not_of_samples(reading)
    yield from _odd_rows(reading.rows)
    yield from _beyond_device(reading)


def _not_as_written(path: Path) -> Iterator[str]:
    """Yield how the tables differ in form from those that this suite writes: a reader skips what could be private."""
    for name, columns in ((RESULTS, COLUMNS), (SAMPLES, SAMPLE_COLUMNS)):
        content = read_bytes(path / name)
        header = content.partition(b"\n")[0].decode("utf-8", "replace").strip().split(",")
        if not set(columns) - ADDED_LATER <= set(header) <= set(columns) or len(set(header)) != len(header):
            yield f"{name}: other columns, or another format, than this suite writes"
        elif name == SAMPLES and (why := why_private(content.decode("utf-8", "replace"))):
            yield f"{name} contains {why}"


def _case(row: Row) -> str:
    return f"{row.workload} {row.size} {row.dtype} {row.who} {row.device} {row.metric}"


def _private(texts: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Yield which texts look like private data, with their names."""
    for name, text in texts:
        if why := why_private(_OF_THE_SYSTEM.sub("", text), of_version=bool(_OF_VERSIONS.search(name))):
            yield f"{printable(name, 100)} contains {why}: {printable(text, 80)}"


def _texts(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Yield every text in a JSON value with the names that lead to it; names are texts too."""
    if isinstance(value, str):
        yield name, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield name, str(key)
            yield from _texts(item, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item, name)


def _cells(reading: Reading) -> Iterator[tuple[str, str]]:
    """Yield the texts in results.csv, each once for its column."""
    for column in (name for name, kind in KINDS.items() if kind is str):
        yield from ((f"{RESULTS}: {column}", text) for (text,) in reading.rows.distinct(column))


def _not_of_samples(reading: Reading) -> Iterator[str]:
    """Yield the rows whose statistics are not those of their samples, and the samples of no row."""
    samples = reading.files.samples
    if samples is None:
        return  # a note says why
    for row in reading.rows:
        by_process = samples.get(sample_key(row))
        if by_process and row.has_value:
            again = statistics_of([*by_process.values()], sequence=SEQUENTIAL in row.flags.split(";"))
            others = [name for name, value in again.items() if not _is_same(getattr(row, name), value)]
            if others:
                yield f"{_case(row)}: not that of its samples: {', '.join(others)}"
        elif row.metric == "time" and row.has_value:
            yield f"{_case(row)}: a value without samples"
    keys = {sample_key(row) for row in reading.rows}
    for key in samples.keys() - keys:
        yield f"{SAMPLES} has samples of no row: {printable(', '.join(key), 120)}"


def _is_same(stated: float | None, computed: float | None) -> bool:
    if stated is None or computed is None:
        return stated is computed
    return math.isclose(stated, computed, rel_tol=_ROUNDING, abs_tol=_ROUNDING * _SHORTEST)


def _odd_rows(rows: Table) -> Iterator[str]:
    """Yield rows that this suite writes in no run."""
    of_case: dict[str, tuple[str, ...]] = {}
    for case_id, *work in rows.distinct("case_id", *_WORK):
        if of_case.setdefault(case_id, tuple(map(str, work))) != tuple(map(str, work)):
            yield f"{case_id} stands for several works: {', '.join(map(str, work))}"
    timed = {row.identity for row in rows if row.metric == "time" and row.has_value}
    for row in rows:
        metric = METRICS.get(row.metric)
        if metric and (row.unit, row.better) != (metric.unit, metric.better):
            stated, right = (f"{of.unit} (better {of.better})" for of in (row, metric))
            yield f"{_case(row)}: in {stated}, and not in {right}"
        if row.status == Status.OK and row.identity not in timed and not row.workload.endswith(FIT):
            yield f"{_case(row)}: ok without a time"


def _beyond_device(reading: Reading) -> Iterator[str]:
    """Yield the times in which their device cannot do the FLOPs, or move the bytes, of their work."""
    known_here, told, cpu = TraitsOf(), reading.traits, _cpu(reading)
    for row in reading.rows:
        if row.metric != "time" or not row.has_value or not row.value:
            continue
        # A table of unknown origin may say of its own workloads what it likes.
        traits = known_here(row) if known_here(row).measures else told(row)
        for amount, limit, unit in (
            (row.flops, _most_flops(row, traits, cpu), "FLOP/s"),
            (row.bytes, _most_bytes(row, traits, cpu), "B/s"),
        ):
            if amount and limit is not None and amount / row.value > limit * row.ranks:
                rate, most = show(amount / row.value, unit), show(limit * row.ranks, unit)
                yield f"{_case(row)}: {rate} is more than {row.device_name} can do ({most})"


def _most_flops(row: Row, traits: Traits, cpu: CpuLimits) -> float | None:
    """Return the FLOP/s that a device can reach, None if unknown. Causal attention counts twice what it needs."""
    least = 1.0 if traits.measures is Limit.COMPUTE else _COUNTED_TWICE
    if row.device_type == "cpu":
        bound = cpu.peak_flops(row.dtype, row.precision, row.threads)
        return least * CPU_MARGIN * bound.rate if bound else None
    flags = row.flags.split(";")
    peak = datasheets.peak_flops(
        row.device_name, row.dtype, SPLIT if {SPLIT, PARTLY_SPLIT} & {*flags} else row.precision
    )
    return least * (SPLIT_MARGIN if SPLIT in flags else FLOPS_MARGIN) * peak if peak else None


def _most_bytes(row: Row, traits: Traits, cpu: CpuLimits) -> float | None:
    """Return the B/s that a device can reach, None if unknown: a CPU from its caches, a GPU from its memory."""
    if row.device_type == "cpu":
        bound = cpu.peak_transfer(row.threads) if traits.traffic is not Traffic.LINK else None
        return CPU_MARGIN * bound.rate if bound else None
    is_of_memory = traits.traffic is Traffic.MEMORY and not cached(row.flags)
    peak = datasheets.peak_bandwidth(row.device_name) if is_of_memory else None
    return BANDWIDTH_MARGIN * peak if peak else None


def _cpu(reading: Reading) -> CpuLimits:
    """Return the limits of the CPU of a run, as far as its facts tell them: its clock is the highest there is."""
    facts = reading.files.facts
    vectors, cores = known(facts, "cpu.vectors"), known(facts, "cpu.threads")
    if not isinstance(vectors, list) or not isinstance(cores, int) or cores < 1:
        return CpuLimits()
    is_x86 = str(known(facts, "cpu.architecture")) in {"x86_64", "AMD64"}
    return limits_of({*map(str, vectors), *(["sse2"] if is_x86 else [])}, cores=cores)


def _notes(run: Whole, reading: Reading) -> Iterator[str]:
    """Yield what does not prevent a run from being published, but a reader should know."""
    if interrupted := run.statuses.get(Status.INTERRUPTED, 0):
        yield f"{counted(interrupted, 'case')} interrupted"
    if run.run.get("git_dirty"):
        yield "measured with changes that are not committed"
    devices = reading.rows.distinct("device_type", "device_name")
    if _cpu(reading) == CpuLimits() and any(device == "cpu" for device, _ in devices):
        yield "what its CPU can do at most is not known, so that its rates could not be judged"
    for device, name in devices:
        if device != "cpu" and name and datasheets.peak_bandwidth(name) is None:
            yield f"no datasheet of {printable(name, 80)} is known, so that its rates could not be judged"


# ---------------------------------------------------------------- labels


def _shared_labels(described: Iterable[TableRun]) -> Iterator[tuple[str, str]]:
    """Yield the labels that several computers have, with the runs and the facts that tell them apart."""
    runs: dict[str, list[str]] = {}
    for (_, machine, run_id), own in names(described).items():
        for note in own.notes:
            runs.setdefault(note, []).append(f"{machine}/{run_id}")
    yield from ((", ".join(places), note) for note, places in runs.items())


def _shared_computers(described: Iterable[TableRun]) -> Iterator[tuple[str, str]]:
    """Yield the labels of computers that are equal in all that is known of them, and so may be one."""
    by_facts: dict[tuple[tuple[str, object], ...], dict[str, None]] = {}
    for run in described:
        if len(run.lasting) >= _LEAST_KNOWN:
            by_facts.setdefault(tuple(sorted(run.lasting.items())), {})[run.machine] = None
    for labels in by_facts.values():
        if len(labels) > 1:
            yield ", ".join(labels), "equal in all that is known: one computer has one label"
