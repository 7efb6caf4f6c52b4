"""The cache of a folder of runs: Parquet made of each results.csv and run.json, which stay the truth.

FOLDER/.bench-core-history/v1/
    rows/machine=M/month=2026-11/RUN-DIGEST-N.parquet    the rows of a run, typed
    runs/machine=M/month=2026-11/RUN-DIGEST-N.parquet    one row: the run, with the facts of its run.json
    known.json                                           size, time and digest of each results.csv and run.json

DIGEST is that of the results.csv and the run.json of which a part was made, N the number of runs in that table, 1 as a
rule. All texts are "" where they are missing, as in a table that `bench_core.load` returns; other values are NULL.

Nothing else in the folder is written. There are no locks, because some file systems have none, and none are needed:

- A part has the digest of what it was made of in its name, so two writers write the same file. Each is renamed to its
  name when it is whole, and a part counts when both of its files are there.
- A writer lists the parts that are there before it looks for runs, and removes only those of that list: the run of a
  part that another one adds meanwhile is either found or not in the list.
- Of two parts of one run, while one replaces the other, the newer counts.
- known.json only saves work: of a run that is not in it, the digest is computed again.

Another version of the cache has another folder: v2 beside v1.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib.util
import json
import os
import re
import shutil
import stat
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

from bench_core.errors import BenchError, TableError, UsageError
from bench_core.files import is_file, is_folder, is_link, read_bytes, read_text, why_unreadable, write_atomically
from bench_core.records import Facts
from bench_core.results.reader import Survey, read_table, survey, unfinished
from bench_core.results.run_files import RunFiles, read_run_json
from bench_core.results.schema import CACHE, COLUMNS, JOURNAL, KINDS, RUN, SAMPLES
from bench_core.results.table import Table

if TYPE_CHECKING:
    import pyarrow

VERSION = 1  # of what is in a part: it must rise if the same results.csv would make another one
NEEDED = ("duckdb", "pyarrow")
_IGNORED = "# Made by `bench-core history add` of the tables beside this folder; may be removed.\n*\n"
_KNOWN = "known.json"
_FOLDER = re.compile(r"v(\d{1,9})")
_PART = re.compile(r"runs/(?P<run>machine=.+/month=.+/.+)-(?P<digest>[0-9a-f]{24})-(?P<of>[0-9]{1,6})\.parquet")
_MONTH = re.compile(r"[0-9]{4}-[0-9]{2}(?=-)")
_NO_MONTH = "unknown"
_LONGEST_NAME = 100  # characters of a machine or a run in the name of a file
_DIGITS = 24
_MOST_TOLD = 3
_TEMPORARY = (".tmp", ".old")  # of bench_core/files.py
_SETTLED_S = 2.0  # a file that is older than this is not written again within one tick of its time
_ABANDONED_S = 3600.0  # a temporary file that is older is of a writer that was killed
_MOST_KNOWN_BYTES = 256 << 20


def absent() -> list[str]:
    """Return the libraries of the `history` extra that are not installed."""
    return [name for name in NEEDED if importlib.util.find_spec(name) is None]


def require_extra() -> None:
    """Raise UsageError with the command to run if a library of the `history` extra is not installed."""
    if missing := absent():
        raise UsageError(f"history needs missing packages: python -m pip install {' '.join(missing)}")


@dataclass(frozen=True, slots=True)
class Part:
    """The two files of a run in the cache."""

    rows: Path
    run: Path


@dataclass(frozen=True, slots=True)
class Added:
    """What `Store.add` did.

    new, kept, left: numbers of runs that were read, that were there already, and that are no longer in the folder.
    refused: one line for each run that is damaged. notes: one for each that did not end, and for what is doubtful.
    """

    new: int
    kept: int
    left: int
    refused: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class _Found:
    """What was found in the folder so far.

    known: size, time and digest of each results.csv. origins: the results.csv of each run. wanted: names of parts.
    """

    new: int = 0
    kept: int = 0
    refused: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    known: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    wanted: set[str] = field(default_factory=set)


class Store:
    """The cache of one folder of runs. Its methods raise TableError for a folder or a cache that cannot be read."""

    def __init__(self, folder: str | os.PathLike[str] = "results") -> None:
        self.folder = Path(folder)
        self.cache = self.folder / CACHE
        self._root = self.cache / f"v{VERSION}"

    def add(self, *, rebuild: bool = False) -> Added:
        """Bring the cache up to date with the folder: read what is new or changed, and remove what is gone.

        rebuild: read every run again. Raises UsageError where a library is missing or the cache cannot be written, as
        on a full disk; what was there before is then still there.
        """
        require_extra()
        if not is_folder(self.folder):
            raise TableError(self.folder, "not a folder of runs")
        self.refuse_newer()
        before = self._files()
        found = _Found()
        with _noted(found.notes):
            there = survey(self.folder)
        if not there.tables and not before:
            raise TableError(self.folder, _nothing(there))
        found.notes += [f"{path}: {why}" for path, why in there.left_out]
        found.refused += [f"{path}: {why}" for path, why in there.skipped]
        try:
            self._prepare()
            known = {} if rebuild else self._known()
            parts = {} if rebuild else _by_digest(before)
            for table in there.tables:
                self._take(table, known, parts, found)
            if found.known != known:  # else nothing is written: the folder of an archive may be read-only
                write_atomically(self._root / _KNOWN, json.dumps(found.known))
            left = self._remove(before, found.wanted)
        except OSError as error:
            why = error.strerror or type(error).__name__
            raise UsageError(f"{self.cache}: cannot be written: {why}; what was there is kept") from None
        return Added(found.new, found.kept, left, tuple(found.refused), tuple(dict.fromkeys(found.notes)))

    def parts(self) -> list[Part]:
        """Return the parts that count, one for each run, sorted by their names; [] without a cache."""
        self.refuse_newer()
        there = self._files()
        newest: dict[str, tuple[int, str]] = {}
        for name, match in _whole(there):
            newest[match["run"]] = max(newest.get(match["run"], (0, "")), (there[name], name))
        names = sorted(name for _, name in newest.values())
        return [Part(self._root / _rows_of(name), self._root / name) for name in names]

    @property
    def sources(self) -> list[Path]:
        """The files that an answer is made of: of the runs and of the cache."""
        with _noted([]):
            tables = survey(self.folder).tables
        parts = [path for part in self.parts() for path in (part.rows, part.run)]
        return [path for table in tables for path in (table, table.with_name(SAMPLES), table.with_name(RUN))] + parts

    def refuse_newer(self) -> None:
        """Raise TableError if a newer bench-core has made the cache, or if it is a symbolic link."""
        if is_link(self.cache):
            raise TableError(self.cache, "a symbolic link is not followed")
        for version in _versions(self.cache):
            if version > VERSION:
                message = f"a cache of version {version}: this bench-core reads version {VERSION}"
                raise TableError(self.cache, f"{message}; install a newer one, or remove this folder")

    def _prepare(self) -> None:
        """Make the folders, and remove older versions. Raises OSError."""
        self._root.mkdir(parents=True, exist_ok=True)
        ignored = self.cache / ".gitignore"
        if not is_file(ignored):
            write_atomically(ignored, _IGNORED)
        for version in _versions(self.cache):
            if version < VERSION:
                shutil.rmtree(self.cache / f"v{version}", ignore_errors=True)

    def _files(self) -> dict[str, int]:
        """Return the files of this version in the cache, by their names in it, with the time of their last change."""
        found: dict[str, int] = {}
        for kind in ("rows", "runs"):
            for folder, folders, names in os.walk(self._root / kind, followlinks=False):
                folders[:] = [name for name in folders if not is_link(Path(folder, name))]
                for name in names:
                    path = Path(folder, name)
                    with contextlib.suppress(FileNotFoundError):  # another writer has removed it
                        about = path.lstat()
                        if stat.S_ISREG(about.st_mode):
                            found[path.relative_to(self._root).as_posix()] = about.st_mtime_ns
        return found

    def _known(self) -> Mapping[str, Any]:
        try:
            found = json.loads(read_text(self._root / _KNOWN, _MOST_KNOWN_BYTES))
        except (TableError, ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    def _take(
        self, table: Path, known: Mapping[str, Any], parts: Mapping[str, Mapping[str, str]], found: _Found
    ) -> None:
        """Add one results.csv, or say why not. known: see `_Found`. parts: those that are there, by digest and run."""
        name = table.relative_to(self.folder).as_posix()
        if not os.path.lexists(table.with_name(RUN)) and os.path.lexists(table.with_name(JOURNAL)):
            found.notes.append(f"{table.parent}: {unfinished(table.parent)}")  # run.json is written last
            return
        try:
            stamp = _stamp(table)
            match known.get(name):
                case [before, str(digest)] if before == stamp:
                    pass
                case _:
                    digest = _digest(table)
            there = parts.get(digest)
            made = {} if there else _read(table, found.notes)
            if _stamp(table) != stamp:
                raise TableError(table, "changed while it was read: add it again")
        except (BenchError, OSError) as error:
            found.refused.append(str(error) if isinstance(error, BenchError) else f"{table}: {why_unreadable(error)}")
            return
        names = there or {run: f"runs/{run}-{digest}-{len(made)}.parquet" for run in made}
        mine = {run: part for run, part in names.items() if self._is_first(table, run, part, found)}
        for run, part in mine.items():
            if not there and part not in found.wanted:
                rows, about = made[run]
                self._write(_rows_of(part), as_parquet(rows))
                self._write(part, as_parquet(about))
        found.wanted.update(mine.values())
        found.kept += len(mine) if there else 0
        found.new += 0 if there else len(mine)
        if _is_settled(stamp):
            found.known[name] = [stamp, digest]

    def _is_first(self, table: Path, run: str, part: str, found: _Found) -> bool:
        """Return whether no other results.csv has a run; if one has, say so."""
        first = found.origins.setdefault(run, str(table))
        if first == str(table):
            return True
        is_copy = part in found.wanted
        told = f"its run is in {first} too{'' if is_copy else ', with other contents'}: left out here"
        (found.notes if is_copy else found.refused).append(str(TableError(table, told)))
        return False

    def _write(self, name: str, content: bytes) -> None:
        """Write a file of the cache. Raises OSError."""
        path = self._root / name
        for folder in path.relative_to(self.cache).parents:
            if is_link(self.cache / folder):
                raise OSError(errno.ELOOP, "a symbolic link is not followed", str(self.cache / folder))
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)

    def _remove(self, before: Mapping[str, int], wanted: set[str]) -> int:
        """Remove what was there before and is not wanted, and return the number of runs that are not any more."""
        keep = wanted | set(map(_rows_of, wanted))
        runs = {match["run"] for _, match in _whole(dict.fromkeys(keep, 0))}
        gone = {match["run"] for _, match in _whole(before)} - runs
        for name in sorted(before.keys() - keep, reverse=True):  # those of `runs` first
            is_young = time.time() - before[name] / 1e9 < _ABANDONED_S
            if not (is_young and name.endswith(_TEMPORARY)):  # that is of a writer at work
                (self._root / name).unlink(missing_ok=True)
        return len(gone)


def _versions(cache: Path) -> list[int]:
    """Return the versions of which there is a cache."""
    try:
        found = [_FOLDER.fullmatch(name) for name in os.listdir(cache)]  # noqa: PTH208 - names alone
    except FileNotFoundError:
        return []
    except OSError as error:
        raise TableError(cache, why_unreadable(error)) from None
    return [int(version[1]) for version in found if version]


def _whole(there: Mapping[str, Any]) -> Iterator[tuple[str, re.Match[str]]]:
    """Yield the name of each part in `runs` whose rows are there too, and what its name says."""
    for name in there:
        if (match := _PART.fullmatch(name)) and _rows_of(name) in there:
            yield name, match


def _by_digest(there: Mapping[str, int]) -> dict[str, dict[str, str]]:
    """Return the names of parts by run, by the digest of what they were made of, where all parts of that are there."""
    found: dict[str, dict[str, str]] = {}
    sizes: dict[str, int] = {}
    for name, match in _whole(there):
        found.setdefault(match["digest"], {})[match["run"]] = name
        sizes[match["digest"]] = int(match["of"])
    return {digest: names for digest, names in found.items() if len(names) == sizes[digest]}


def _rows_of(name: str) -> str:
    """Return the name of the rows of a part in `runs`."""
    return f"rows/{name.removeprefix('runs/')}"


def _nothing(there: Survey) -> str:
    told = [f"{path}: {why}" for path, why in (*there.skipped, *there.left_out)]
    return "; ".join(["no runs here", *told[:_MOST_TOLD]])


@contextlib.contextmanager
def _noted(notes: list[str]) -> Iterator[None]:
    """Add warnings to notes."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    notes += [str(warning.message) for warning in caught]


def _stamp(table: Path) -> list[Any]:
    """Return size and time of a results.csv and of the run.json beside it, as they come back from JSON."""
    return [_stamp_of(table), _stamp_of(run) if os.path.lexists(run := table.with_name(RUN)) else None]


def _stamp_of(path: Path) -> list[int]:
    about = path.lstat()
    return [about.st_size, about.st_mtime_ns]


def _is_settled(stamp: Sequence[Any]) -> bool:
    """Whether no change that came after would leave size and time as they are: times have ticks."""
    now = time.time()
    return all(0 < changed / 1e9 < now - _SETTLED_S for _, changed in filter(None, stamp))


def _digest(table: Path) -> str:
    """Return the digest of a results.csv and of the run.json beside it, of which a part is made."""
    found = hashlib.sha256()
    for path in (table, table.with_name(RUN)):
        raw = read_bytes(path) if path == table or (os.path.lexists(path) and not is_link(path)) else b""
        found.update(len(raw).to_bytes(8, "big") + raw)
    return found.hexdigest()[:_DIGITS]


def _read(table: Path, notes: list[str]) -> dict[str, tuple[pyarrow.Table, pyarrow.Table]]:
    """Return what the parts of a results.csv contain, its rows and its run, by the run's place in the cache.

    Raises BenchError if it is damaged, or not that of its run.json. notes: of what is doubtful.
    """
    about = RunFiles()
    if os.path.lexists(table.with_name(RUN)):
        about = read_run_json(table)
    if about.notes:
        raise BenchError(f"{about.notes[0]}; the run is left out")
    with _noted(notes):
        rows = read_table(table)[1]
    runs, numbers = rows.groups(("run_id", "machine"))
    if not runs:
        raise TableError(table, "no rows")
    parts = {}
    for number, run in enumerate(runs):
        known = about if about.are_of(*run, is_only=len(runs) == 1) else RunFiles()
        mine = rows.only(numbers == number)
        month = _month(min(str(text) for (text,) in mine.distinct("started_at")))
        place = f"machine={_named(run[1])}/month={month}/{_named(run[0])}"
        parts[place] = _rows(mine, month), _run(mine, month, known)
    return parts


def _named(text: str) -> str:
    """Return a text as part of the name of a file, different for each text."""
    name = quote(text, safe="")
    return name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}-{hashlib.sha256(text.encode()).hexdigest()}"


def _month(started_at: str) -> str:
    match = _MONTH.match(started_at)
    return match[0] if match else _NO_MONTH


def moment(text: str) -> datetime | None:
    """Return a point in time in UTC, without its zone, as DuckDB's TIMESTAMP is; None for another text."""
    try:
        moment = datetime.fromisoformat(text)
        return (moment.astimezone(UTC) if moment.tzinfo else moment).replace(tzinfo=None)
    except (ValueError, OverflowError):
        return None


def _rows(rows: Table, month: str) -> pyarrow.Table:
    import pyarrow as pa  # noqa: PLC0415 - an extra

    columns = {name: _column(rows, name) for name in COLUMNS}
    texts = pa.DictionaryArray.from_arrays(pa.array(np.zeros(len(rows), np.int32)), [month])
    return pa.table({**columns, "month": texts})


def _column(rows: Table, name: str) -> pyarrow.Array:
    import pyarrow as pa  # noqa: PLC0415 - an extra

    if KINDS[name] is float:
        return pa.array(rows.numbers(name), from_pandas=True)  # without NaN, which is greater than any number
    values, places = rows.groups((name,))
    cells = [value for (value,) in values]
    if name == "started_at":
        return pa.array(list(map(moment, cells)), pa.timestamp("us")).take(pa.array(places))
    if KINDS[name] is str:
        return pa.DictionaryArray.from_arrays(pa.array(places, pa.int32()), pa.array(cells, pa.string()))
    return pa.array(cells, pa.bool_() if KINDS[name] is bool else pa.int64()).take(pa.array(places))


def _run(rows: Table, month: str, known: RunFiles) -> pyarrow.Table:
    """Return the row of a run. Its git commit and the like are those of its first row."""
    import pyarrow as pa  # noqa: PLC0415 - an extra

    first = rows[0]
    options = known.about.get("options")
    preset = options.get("preset") if isinstance(options, dict) else None
    facts = pa.map_(pa.string(), pa.string())
    workers = {env_id: list(as_texts(known.worker_facts[env_id]).items()) for env_id in sorted(known.worker_facts)}
    cells = {
        "run_id": (first.run_id, pa.string()),
        "machine": (first.machine, pa.string()),
        "started_at": (moment(first.started_at), pa.timestamp("us")),
        "month": (month, pa.string()),
        "git_commit": (first.git_commit, pa.string()),
        "git_dirty": (first.git_dirty, pa.bool_()),
        "preset": (preset if isinstance(preset, str) else "", pa.string()),
        "rows": (len(rows), pa.int64()),
        "env_ids": (sorted(env_id for (env_id,) in rows.distinct("env_id") if env_id), pa.list_(pa.string())),
        "facts": (list(agreed(known).items()), facts),
        "workers": (list(workers.items()), pa.map_(pa.string(), facts)),
    }
    return pa.table({name: pa.array([value], kind) for name, (value, kind) in cells.items()})


def agreed(known: RunFiles) -> dict[str, str]:
    """Return the facts of the host, and those of the workers on which all that know them agree, as texts."""
    several: dict[str, set[str]] = {}
    for facts in known.worker_facts.values():
        for name, text in as_texts(facts).items():
            several.setdefault(name, set()).add(text)
    common = {name: text for name, (text, *others) in several.items() if not others}
    return dict(sorted((common | as_texts(known.facts)).items()))


def as_texts(facts: Facts) -> dict[str, str]:
    """Return the facts that are known, as texts: JSON of what is no text."""
    values = {name: fact.value for name, fact in sorted(facts.items()) if fact.value is not None}
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in values.items()}


def as_parquet(table: pyarrow.Table) -> bytes:
    """Return a table as a Parquet file."""
    import pyarrow as pa  # noqa: PLC0415 - an extra
    import pyarrow.parquet as pq  # noqa: PLC0415

    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer, compression="zstd", store_schema=False)
    return bytes(buffer.getvalue())
