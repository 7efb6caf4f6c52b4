"""Whether runs can be published beside others: whole, without private data, plausible, one label for one computer.

Who contributes a run can be mistaken. So its files are held against each other and against what its device can do. What
no table can show, that all of them were made up together, is left to the reader.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from bench_core.compare.computers import TableRun, names
from bench_core.compare.implausible import implausible_rows
from bench_core.compare.loading import Reading, read, table_runs
from bench_core.compare.replicates import samples_of
from bench_core.errors import TableError
from bench_core.files import is_link
from bench_core.machine import datasheets
from bench_core.machine.cpu_limits import CpuLimits, limits_of
from bench_core.machine.facts import contradictions, known
from bench_core.machine.privacy import why_private
from bench_core.records import IMPORTED, SPLIT, Limit, Row, Status
from bench_core.results.integrity import Damage, Whole, whole
from bench_core.results.roofline import cached
from bench_core.results.run_files import read_noise, sample_key
from bench_core.results.schema import KINDS, NOISE, RESULTS, RUN, SAMPLES, UNFINISHED
from bench_core.results.traits import TraitsOf
from bench_core.run.plausibility import BANDWIDTH_MARGIN, CPU_MARGIN, FLOPS_MARGIN, SPLIT_MARGIN
from bench_core.text import printable
from bench_core.units import counted, show

_OF_A_RUN = (RESULTS, SAMPLES, RUN)
_NO_FILE, _LINK = f"no file of a run ({', '.join(_OF_A_RUN)})", "a symbolic link"
_BESIDE_RUNS = {".png", ".svg", ".md"}  # pictures and texts about a machine
_OF_A_FLEET = ".fleet"
# Files of the system from which facts are read: their names say nothing of this computer.
_OF_THE_SYSTEM = re.compile(
    r"(?<![\w.:~/\\-])/(?:\.dockerenv|(?:proc|sys|etc|dev|run)(?:/[\w.@*-]+(?::\*)?)*)(?=$|[\s;,)'\"])"
)
# Names of facts and columns that hold versions, of which some have four numbers, as an address has.
_OF_VERSIONS = re.compile(r"package\.|version|driver|library|cuda|kernel")
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
        raise TableError(folder, f"no run here: a run is a folder MACHINE/RUN with a {RESULTS}")
    for path in runs:
        place = _place(path, folder)
        try:
            run = whole(path)
        except Damage as damage:
            problems.append(Problem(place, str(damage)))
            continue
        (reading,) = read([str(path / RESULTS)])
        readings.append(reading)
        problems += [Problem(place, text) for text in _problems(run, reading, path.parent.name)]
        notes += [Problem(place, text) for text in _notes(run, reading)]
    problems += [Problem(place, text) for place, text in _shared_labels(readings)]
    notes += [Problem(place, text) for place, text in _shared_computers(readings)]
    return Validation(len(runs), tuple(problems), tuple(notes))


# ---------------------------------------------------------------- files


def _folders(folder: Path) -> list[Path]:
    """Return the folders in a folder; a link to one may lead out of it, and is none."""
    return [path for path in sorted(folder.iterdir()) if path.is_dir() and not is_link(path)]


def _machines(folder: Path) -> list[Path]:
    """Return the folders of machines: not those that git or a cache has, of a fleet, or of an unfinished series."""
    found = [path for path in _folders(folder) if path.name != UNFINISHED and not path.name.startswith(".")]
    return [path for path in found if not (path / _OF_A_FLEET).exists()]


def _place(path: Path, folder: Path) -> str:
    return str(path.relative_to(folder))


def _strangers(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield what does not belong in a folder of machines: it may hold private data, or lead elsewhere."""
    for path in sorted(folder.iterdir()):
        if is_link(path):
            yield path, _LINK
        elif path.name == UNFINISHED:
            yield path, "parts of a measurement that is not finished"
        elif (path / _OF_A_FLEET).exists():
            yield path, "a fleet: its machines are labelled by numbers, which other fleets have as well"
        elif path.is_file() and path.suffix != ".md":
            yield path, _NO_FILE
    for machine in _machines(folder):
        yield from _strangers_beside_runs(machine)
        yield from (
            (file, _NO_FILE) for run in _folders(machine) for file in sorted(run.iterdir()) if not _belongs(file)
        )


def _strangers_beside_runs(machine: Path) -> Iterator[tuple[Path, str]]:
    """Yield what does not belong in the folder of a machine, and what of its noise.json looks private."""
    for path in sorted(machine.iterdir()):
        if is_link(path):
            yield path, _LINK
        elif path.name == NOISE:
            yield from ((path, why) for why in _private(_texts(read_noise(path.parent / RUN, []))))
        elif path.is_file() and path.suffix not in _BESIDE_RUNS:
            yield path, _NO_FILE


def _belongs(file: Path) -> bool:
    """Whether a file may be in the folder of a run."""
    return file.name in _OF_A_RUN and not is_link(file) and file.is_file()


# ---------------------------------------------------------------- one run


def _problems(run: Whole, reading: Reading, machine: str) -> Iterator[str]:
    """Yield the problems of one run, which is whole."""
    for label in sorted(run.machines - {machine}):
        yield f"the machine in its files is {printable(label, 80)}, its folder is {printable(machine, 80)}"
    yield from run.warnings
    if any(IMPORTED in flags.split(";") for (flags,) in reading.rows.distinct("flags")):
        yield "imported: another program measured it, and nothing checked its answers"
    yield from _private((f"{RUN}: {name}", text) for name, text in _texts(run.about))
    yield from _private(_cells(reading))
    yield from (f"{_case(row)}: {why}" for row, why in implausible_rows([reading.rows]))
    yield from _not_of_samples(reading)
    yield from _beyond_device(reading)


def _case(row: Row) -> str:
    return f"{row.workload} {row.size} {row.dtype} {row.who} {row.device} {row.metric}"


def _private(texts: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Yield which texts look like private data, with their names."""
    for name, text in texts:
        why = why_private(_OF_THE_SYSTEM.sub("", text))
        if why and not (why == "an address" and _OF_VERSIONS.search(name)):
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
    """Yield the texts in results.csv, each once for its column. Those of samples.csv are among them."""
    for column in (name for name, kind in KINDS.items() if kind is str):
        yield from ((f"{RESULTS}: {column}", text) for (text,) in reading.rows.distinct(column))


def _not_of_samples(reading: Reading) -> Iterator[str]:
    """Yield the times that are not those of their samples, and the samples of no row."""
    samples = reading.files.samples
    if samples is None:
        folder = f"{Path(reading.path).parent}/"
        yield from (note.replace(folder, "", 1) for note in reading.files.notes if SAMPLES in note)
        return
    for row in reading.rows:
        if row.metric == "time" and row.has_value and samples_of(reading, row) is None:
            yield f"{_case(row)}: value, n and processes are not those of its samples"
    known_keys = {sample_key(row) for row in reading.rows}
    for key in samples.keys() - known_keys:
        yield f"{SAMPLES} has samples of no row: {printable(', '.join(key), 120)}"


def _beyond_device(reading: Reading) -> Iterator[str]:
    """Yield the rows that are faster than their device can be, of the work that measures its limits."""
    cpu = _cpu(reading)
    for row in reading.rows:
        if row.status != Status.OK or not row.value or row.ranks > 1:
            continue
        # A table of unknown origin may say of its own workloads what it likes.
        measures = reading.traits(row).measures or TraitsOf()(row).measures
        limit = None
        if measures is Limit.COMPUTE and row.metric == "flop_rate":
            limit = _most_flops(row, cpu)
        elif measures is Limit.BANDWIDTH and row.metric == "bandwidth" and not cached(row.flags):
            limit = _most_bytes(row, cpu)
        if limit and row.value > limit:
            rate, most = show(row.value, row.unit), show(limit, row.unit)
            yield f"{_case(row)}: {rate} is more than {row.device_name} can do ({most})"


def _most_flops(row: Row, cpu: CpuLimits) -> float | None:
    if row.device_type == "cpu":
        bound = cpu.peak_flops(row.dtype, row.precision, row.threads)
        return CPU_MARGIN * bound.rate if bound else None
    is_split = SPLIT in row.flags.split(";")
    peak = datasheets.peak_flops(row.device_name, row.dtype, SPLIT if is_split else row.precision)
    return (SPLIT_MARGIN if is_split else FLOPS_MARGIN) * peak if peak else None


def _most_bytes(row: Row, cpu: CpuLimits) -> float | None:
    if row.device_type == "cpu":
        bound = cpu.peak_transfer(row.threads)
        return CPU_MARGIN * bound.rate if bound else None
    peak = datasheets.peak_bandwidth(row.device_name)
    return BANDWIDTH_MARGIN * peak if peak else None


def _cpu(reading: Reading) -> CpuLimits:
    """Return the limits of the CPU of a run, as far as its facts tell them: its clock is the highest there is."""
    facts = reading.files.facts
    vectors, cores = known(facts, "cpu.vectors"), known(facts, "cpu.threads")
    if not isinstance(vectors, list) or not isinstance(cores, int):
        return CpuLimits()
    is_x86 = str(known(facts, "cpu.architecture")) in {"x86_64", "AMD64"}
    return limits_of({*map(str, vectors), *(["sse2"] if is_x86 else [])}, cores=cores)


def _notes(run: Whole, reading: Reading) -> Iterator[str]:
    """Yield what does not prevent a run from being published, but a reader should know."""
    if interrupted := run.statuses.get(Status.INTERRUPTED, 0):
        yield f"{counted(interrupted, 'case')} interrupted"
    if run.run.get("git_dirty"):
        yield "measured with changes that are not committed"
    if _cpu(reading) == CpuLimits():
        yield "what its CPU can do at most is not known, so that its rates could not be judged"


# ---------------------------------------------------------------- labels


def _shared_labels(readings: Iterable[Reading]) -> Iterator[tuple[str, str]]:
    """Yield the labels that several computers have, with the runs and the facts that tell them apart."""
    runs: dict[str, list[str]] = {}
    for (_, machine, run_id), own in names(run for reading in readings for run in table_runs(reading)).items():
        for note in own.notes:
            runs.setdefault(note, []).append(f"{machine}/{run_id}")
    yield from ((", ".join(places), note) for note, places in runs.items())


def _shared_computers(readings: Iterable[Reading]) -> Iterator[tuple[str, str]]:
    """Yield the labels of computers that are equal in all that is known of them, and so may be one."""
    by_label: dict[str, TableRun] = {}
    for run in (run for reading in readings for run in table_runs(reading)):
        by_label.setdefault(run.machine, run)
    for one, other in combinations(by_label.values(), 2):
        alike = one.lasting.keys() == other.lasting.keys() and not contradictions(one.lasting, other.lasting)
        if alike and len(one.lasting) >= _LEAST_KNOWN:
            yield f"{one.machine}, {other.machine}", "equal in all that is known: one computer has one label"
