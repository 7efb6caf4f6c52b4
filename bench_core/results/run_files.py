"""Read the other files of a run folder, samples.csv and run.json, and the noise.json of its machine.

A results.csv is usable without them. If one is missing, damaged or belongs to another table, it is not used, and a note
gives the reason. Numbers of different runs are never mixed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench_core.errors import TableError
from bench_core.files import digest, is_link, read_bytes, read_text
from bench_core.records import Fact, Facts, Row
from bench_core.results.schema import NOISE, RESULTS, RUN, SAMPLE_COLUMNS, SAMPLES, converter, integer, number, truth
from bench_core.results.strict_csv import read_csv
from bench_core.text import harmless, printable

MOST_RUN_BYTES = 64 << 20
_MOST_FACTS = 2000
_DEEPEST = 20  # levels of a JSON file; ours have 7
_LARGEST = 1e300  # of the numbers in a JSON file: those near the end of the range overflow in any sum

SampleKey = tuple[str, str, str, str, str, str, str]  # case_id to clock of SAMPLE_COLUMNS, as texts
Samples = Mapping[SampleKey, Mapping[int, tuple[float, ...]]]


@dataclass(frozen=True, slots=True)
class RunFiles:
    """The contents of samples.csv, run.json and noise.json.

    samples: seconds by result and process, None if they cannot be used. facts: the environment of the host by dotted
    name ("cpu.model"). worker_facts: those of the worker processes, by env_id, then by name. about: the whole run.json.
    noise: the whole noise.json in the folder above, which is that of the machine. notes: one line for each problem.
    """

    samples: Samples | None = None
    facts: Facts = field(default_factory=dict)
    worker_facts: Mapping[str, Facts] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)
    noise: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def are_of(self, run_id: str, machine: str | None = None, *, is_only: bool) -> bool:
        """Return whether run.json describes this run of its table, which may contain several.

        It names one by id and machine. machine: as the table names it, None if any will do. is_only: whether the table
        has no other run; then files that name no run are of it.
        """
        run = self.about.get("run")
        if not isinstance(run, dict) or not run.get("run_id"):
            return is_only
        return bool(run["run_id"] == run_id and (machine is None or run.get("machine") == machine))


def sample_key(row: Row) -> SampleKey:
    """Return the key of the samples of a row."""
    return (row.case_id, row.backend, row.implementation, row.device, _shown(row.threads), row.metric, row.clock)


def read_run_files(results: Path) -> RunFiles:
    """Return the other files in the folder of a results.csv. Damage causes a note, never an error.

    If the table has another name, no other file is read: a renamed CSV may be in a folder with unrelated files.
    """
    if results.name != RESULTS:
        return RunFiles(notes=(f"{results}: a single table without samples: its intervals are used",))
    notes: list[str] = []
    about = _read_object(results.with_name(RUN), "the environment is unknown", notes)
    if not _is_of_table(about, results, notes):
        return RunFiles(notes=tuple(notes))
    # Earlier versions marked what was slow, and counted it: to leave it out would make them look fast.
    all_count = about is not None and "disturbed" not in about
    samples = _read_samples_if_unchanged(results, _files(about), notes, all_count=all_count)
    facts, workers = _environment(about)
    return RunFiles(samples, facts, workers, about or {}, read_noise(results.parent, notes), tuple(notes))


def read_run_json(results: Path) -> RunFiles:
    """Return what the run.json beside a results.csv says, without the other files. Damage causes a note."""
    notes: list[str] = []
    about = _read_object(results.with_name(RUN), "the environment is unknown", notes)
    if not _is_of_table(about, results, notes):
        return RunFiles(notes=tuple(notes))
    facts, workers = _environment(about)
    return RunFiles(facts=facts, worker_facts=workers, about=about or {}, notes=tuple(notes))


def _files(about: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    return None if about is None else _mapping(about.get("files"))


def _is_of_table(about: Mapping[str, Any] | None, results: Path, notes: list[str]) -> bool:
    """Return whether a run.json, if there is one, belongs to a table; add a note if not."""
    files = _files(about)
    return files is None or _matches(results, files, notes)


def read_noise(folder: Path, notes: list[str]) -> Mapping[str, Any]:
    """Return the noise.json beside the folder of a run, empty if there is none; damage adds a note."""
    path = folder.absolute().parent / NOISE
    found = _read_object(path, "the noise of the machine is unknown", notes) if os.path.lexists(path) else None
    return found or {}


def _read_samples_if_unchanged(
    results: Path, files: Mapping[str, Any] | None, notes: list[str], *, all_count: bool
) -> Samples | None:
    path = results.with_name(SAMPLES)
    unused = f"the intervals in {RESULTS} are used"
    if not _is_plain_file(path):
        notes.append(f"{path}: missing: {unused}")
        return None
    try:
        return read_samples(path, all_count=all_count) if files is None or _matches(path, files, notes) else None
    except TableError as error:
        notes.append(f"{error}; {unused}")
        return None


def read_samples(path: Path, *, all_count: bool = False) -> Samples:
    """Return the samples in samples.csv that count, in seconds, in order of measurement.

    all_count: whether the noisy ones do as well. Where all of a process are noisy, all of them count. Raises TableError
    for an invalid file.
    """
    table = read_csv(path, required=SAMPLE_COLUMNS)
    keys = zip(*(table.column(name, _key_text(name)).cells() for name in SAMPLE_COLUMNS[:7]), strict=True)
    processes = table.column("process", _count).cells()
    seconds = table.column("seconds", _seconds).cells()
    noisy = table.column("noisy", truth).cells()
    calm: dict[SampleKey, dict[int, list[float]]] = {}
    left_out: dict[SampleKey, dict[int, list[float]]] = {}
    for key, process, value, is_noisy in zip(keys, processes, seconds, noisy, strict=True):
        into = left_out if is_noisy and not all_count else calm
        into.setdefault(key, {}).setdefault(process, []).append(value)
    return {
        # By number of process, whether or not any of its blocks was calm.
        key: {p: tuple(v) for p, v in sorted({**left_out.get(key, {}), **calm.get(key, {})}.items())}
        for key in {**calm, **left_out}
    }


def _key_text(name: str) -> Callable[[str], str]:
    """Return the function that converts a cell of a column of a SampleKey to a text, as `sample_key` does."""
    convert = converter(name)
    return lambda text: _shown(convert(text))


def _shown(value: Any) -> str:
    return "" if value is None else str(value)


def _count(text: str) -> int:
    value = integer(text)
    if value is None or value < 0:
        raise ValueError("not a count")
    return value


def _seconds(text: str) -> float:
    value = number(text)
    if value is None or value < 0:
        raise ValueError("not a time")
    return value


def _read_object(path: Path, without: str, notes: list[str]) -> Mapping[str, Any] | None:
    """Return the JSON object in a file; if there is none, None and a note. without: what is then unknown."""
    if not _is_plain_file(path):
        notes.append(f"{path}: missing: {without}")
        return None
    try:
        found = strict_json(read_text(path, MOST_RUN_BYTES))
    except TableError as error:
        notes.append(f"{error}; {without}")
    except (ValueError, RecursionError) as error:
        notes.append(f"{path}: not JSON ({printable(str(error), 80)}): {without}")
    else:
        if isinstance(found, dict):
            return found
        notes.append(f"{path}: not a JSON object: {without}")
    return None


def strict_json(text: str) -> Any:
    """Return the value of a JSON text, its texts made harmless; raises ValueError for NaN, huge numbers, deep nesting.

    Python reads all of these, but later fails to calculate with them, to show them or to write them again.
    """
    found = json.loads(
        text, parse_constant=_number, parse_float=_number, parse_int=_integer, object_pairs_hook=_each_once
    )
    level = [found]
    for _ in range(_DEEPEST):
        level = [item for value in level if isinstance(value, dict | list) for item in _items(value)]
        if not level:
            return _harmless(found)
    raise ValueError(f"nested more than {_DEEPEST} deep")


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON; raises ValueError if it has a name twice, of which one would go unseen."""
    names = [name for name, _ in pairs]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{printable(twice, 40)} stands twice in an object")
    return dict(pairs)


def _harmless(value: Any) -> Any:
    """Return a value of JSON with all of its texts, those of names too, made harmless."""
    if isinstance(value, str):
        return harmless(value)
    if isinstance(value, dict):
        return {harmless(name): _harmless(item) for name, item in value.items()}
    return [_harmless(item) for item in value] if isinstance(value, list) else value


def _items(value: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value


def _number(text: str) -> float:
    value = float(text)
    if not abs(value) <= _LARGEST:
        raise ValueError(f"{printable(text, 20)} is no number that a run has")
    return value


def _integer(text: str) -> int:
    _number(text)
    return int(text)


def _is_plain_file(path: Path) -> bool:
    """Return whether a path is there and not a symbolic link, which could point to any file of this machine."""
    return os.path.lexists(path) and not is_link(path)


def _matches(path: Path, files: Mapping[str, Any], notes: list[str]) -> bool:
    """Return whether a file has the sha256 recorded in run.json; add a note if not. Raises TableError if unreadable."""
    expected = _mapping(files.get(path.name)).get("sha256")
    if digest(read_bytes(path)) == expected:
        return True
    what = "was changed after the run or belongs to another run" if expected else "is not listed"
    unused = "samples" if path.name == SAMPLES else f"samples and {RUN}"
    notes.append(f"{path}: {what} (sha256 in {RUN}): {unused} not used")
    return False


def _environment(about: Mapping[str, Any] | None) -> tuple[Facts, dict[str, Facts]]:
    """Return host facts by name, and worker facts by env_id, from the `environment` of run.json."""
    plain = _mapping((about or {}).get("environment"))
    by_id = {str(env_id): flatten(_mapping(facts)) for env_id, facts in _mapping(plain.get("workers")).items()}
    return flatten(_mapping(plain.get("host"))), by_id


def flatten(plain: Mapping[str, Any], prefix: str = "", depth: int = 8) -> Facts:
    """Return facts by dotted name from nested `{name: {value, source, reason}}`, at most `depth` levels deep.

    An entry that is neither a fact nor an object becomes a fact with that value and no source. Reading stops after
    about 2,000 facts, to limit the memory that a file of unknown origin can use.
    """
    facts: Facts = {}
    for name, entry in plain.items():
        full = f"{prefix}{name}"
        if not isinstance(entry, dict) or depth == 0:
            facts[full] = Fact(entry)
        elif entry.keys() and entry.keys() <= {"value", "source", "reason"}:
            facts[full] = Fact(entry.get("value"), str(entry.get("source") or ""), str(entry.get("reason") or ""))
        else:
            facts |= flatten(entry, f"{full}.", depth - 1)
        if len(facts) > _MOST_FACTS:
            break
    return facts


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
