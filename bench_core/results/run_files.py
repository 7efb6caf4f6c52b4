"""What lies beside a results.csv: its raw samples and its run.json.

Both may be missing, damaged or of another table, for a CSV stands alone. Then they are not used, and a
note says why; numbers never come from files that do not belong together.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench_core.errors import TableError
from bench_core.files import read_text
from bench_core.records import Fact, Facts, Row
from bench_core.results.schema import CONVERT, RESULTS, RUN, SAMPLE_COLUMNS, SAMPLES
from bench_core.results.strict_csv import read_csv
from bench_core.text import printable

_MOST_RUN_BYTES = 64 << 20
_MOST_FACTS = 2000

SampleKey = tuple[str, str, str, str, str, str, str]  # case_id to clock of SAMPLE_COLUMNS, as texts
Samples = Mapping[SampleKey, Mapping[int, tuple[float, ...]]]


@dataclass(frozen=True, slots=True)
class RunFiles:
    """samples: seconds by result and process, None where there are none to trust.

    facts: the environment by dotted name ("cpu.model"); worker_facts: by env_id, then by name. about: the
    whole of run.json. notes: what is missing or does not fit, one line each.
    """

    samples: Samples | None = None
    facts: Facts = field(default_factory=dict)
    worker_facts: Mapping[str, Facts] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def sample_key(row: Row) -> SampleKey:
    """Return the key under which samples.csv holds a row's seconds."""
    threads = "" if row.threads is None else str(row.threads)
    return (row.case_id, row.backend, row.implementation, row.device, threads, row.metric, row.clock)


def read_run_files(results: Path) -> RunFiles:
    """Return what lies beside a results.csv. Damage becomes a note, never an error.

    Nothing is read beside a file of another name: a CSV that was renamed may lie in anybody's folder.
    """
    if results.name != RESULTS:
        return RunFiles(notes=(f"{results}: a lone table: its intervals are used, not its samples",))
    notes: list[str] = []
    about = _read_about(results.with_name(RUN), notes)
    files = None if about is None else _mapping(about.get("files"))
    if files is not None and not _matches(results, files, notes):
        return RunFiles(notes=tuple(notes))
    samples = _samples_beside(results, files, notes)
    about = about or {}
    facts, workers = _environment(_mapping(about.get("environment")))
    return RunFiles(samples, facts, workers, about, tuple(notes))


def _samples_beside(results: Path, files: Mapping[str, Any] | None, notes: list[str]) -> Samples | None:
    path = results.with_name(SAMPLES)
    if not _is_plain_file(path):
        notes.append(f"{path}: not there: the intervals in {RESULTS} are used")
    elif files is None or _matches(path, files, notes):
        try:
            return read_samples(path)
        except TableError as error:
            notes.append(f"{error}; the intervals in {RESULTS} are used")
    return None


def read_samples(path: Path) -> Samples:
    """Return the seconds of samples.csv in the order in which they were taken; raises TableError."""
    table = read_csv(path, required=SAMPLE_COLUMNS)
    keys = zip(*(table.column(name, CONVERT[str]) for name in SAMPLE_COLUMNS[:7]), strict=True)
    processes = table.column("process", _count)
    seconds = table.column("seconds", _seconds)
    gathered: dict[SampleKey, dict[int, list[float]]] = {}
    for key, process, value in zip(keys, processes, seconds, strict=True):
        gathered.setdefault(key, {}).setdefault(process, []).append(value)
    return {key: {p: tuple(v) for p, v in by_process.items()} for key, by_process in gathered.items()}


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise ValueError("not a count")
    return int(text)


def _seconds(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and value >= 0):
        raise ValueError("not a time")
    return value


def _read_about(path: Path, notes: list[str]) -> Mapping[str, Any] | None:
    if not _is_plain_file(path):
        notes.append(f"{path}: not there: the environment is not known")
        return None
    try:
        about = json.loads(read_text(path, _MOST_RUN_BYTES))
    except TableError as error:
        notes.append(f"{error}; the environment is not known")
    except (ValueError, RecursionError) as error:
        notes.append(f"{path}: not JSON ({printable(str(error), 80)}): the environment is not known")
    else:
        if isinstance(about, dict):
            return about
        notes.append(f"{path}: not a JSON object: the environment is not known")
    return None


def _is_plain_file(path: Path) -> bool:
    """Tell whether a file may be read: a symbolic link could point anywhere."""
    return path.is_file() and not path.is_symlink()


def _matches(path: Path, files: Mapping[str, Any], notes: list[str]) -> bool:
    """Tell whether a file has the hash that run.json gives it; a note says so if not."""
    expected = _mapping(files.get(path.name)).get("sha256")
    if hashlib.sha256(path.read_bytes()).hexdigest() == expected:
        return True
    what = "was changed after the run, or is of another run" if expected else "is not listed"
    aside = "samples" if path.name == SAMPLES else f"samples and {RUN}"
    notes.append(f"{path}: {what} (sha256 in {RUN}): {aside} left aside")
    return False


def _environment(plain: Mapping[str, Any]) -> tuple[Facts, dict[str, Facts]]:
    """Return host facts by name and worker facts by env_id from run.json's `environment`."""
    by_id = {str(env_id): flatten(_mapping(facts)) for env_id, facts in _mapping(plain.get("workers")).items()}
    return flatten(_mapping(plain.get("host"))), by_id


def flatten(plain: Mapping[str, Any], prefix: str = "", depth: int = 8) -> Facts:
    """Return facts by dotted name from nested `{name: {value, source, reason}}`, `depth` levels down.

    Anything that is no fact and no object counts as a plain value without a source. A file from elsewhere
    may hold anything, so some 2,000 facts are enough.
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
