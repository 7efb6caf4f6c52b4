"""Whether the files of a run are whole, unchanged, and of one run."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench_core.errors import TableError
from bench_core.files import digest, is_link, read_bytes, read_text
from bench_core.records import SCHEMA_VERSION, Status
from bench_core.results.reader import read_table
from bench_core.results.run_files import MOST_RUN_BYTES, strict_json
from bench_core.results.schema import RESULTS, RUN, SAMPLES
from bench_core.results.table import Table
from bench_core.results.traits import FIT
from bench_core.text import printable, quoted
from bench_core.units import counted


class Damage(Exception):
    """What is wrong with the files of a run. The text names the file, and not its folder."""


@dataclass(frozen=True, slots=True)
class Whole:
    """A run whose files belong together.

    about: the whole run.json. rows: those of results.csv. machines: of the rows and of run.json. statuses: the number
    of planned cases with each, of all processes. samples_sha256: of samples.csv. warnings: what reading the table
    warned of.
    """

    about: Mapping[str, Any]
    rows: Table
    machines: frozenset[str]
    statuses: Mapping[str, int]
    samples_sha256: str
    warnings: tuple[str, ...]

    @property
    def run(self) -> Mapping[str, Any]:
        """The entry `run` of run.json: id, start, machine, commit."""
        found: Mapping[str, Any] = self.about["run"]
        return found


def whole(folder: Path) -> Whole:
    """Return the run in a folder, if it is whole; raises Damage.

    Both tables must have the sha256 that run.json says; all rows and the folder the id of the run; each planned case
    one status; and results.csv the planned cases. Of several processes that were merged, run.json counts a case once
    for each of them, and results.csv once.
    """
    try:
        about = _about(folder)
        if about.get("schema_version") != SCHEMA_VERSION:
            raise Damage(
                f"{RUN} is of the schema {printable(str(about.get('schema_version')), 20)}, not {SCHEMA_VERSION}"
            )
        run = _entry(about, "run", dict)
        _require_unchanged(folder, _entry(about, "files", dict))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            _, rows = read_table(folder / RESULTS)
    except TableError as error:
        raise Damage(without_folder(str(error), folder)) from None
    statuses = {str(name): _count(count) for name, count in _entry(about, "statuses", dict).items()}
    _require_sums(_count(_entry(about, "planned", int)), statuses, rows, about.get("processes"))
    _require_run(folder, run, rows)
    machines = {str(run.get("machine")), *(machine for (machine,) in rows.distinct("machine"))}
    said = tuple(without_folder(str(warning.message), folder) for warning in caught)
    return Whole(about, rows, frozenset(machines), statuses, about["files"][SAMPLES]["sha256"], said)


def require_no_link(path: Path) -> None:
    """Raise TableError for a symbolic link: it could lead to any file of this computer."""
    if is_link(path):
        raise TableError(path, "a symbolic link, which is not followed")


def without_folder(text: str, folder: Path) -> str:
    """Return a message on a file without the folder in which it is."""
    return text.replace(f"{folder}/", "", 1)


def _about(folder: Path) -> Mapping[str, Any]:
    """Return run.json; raises TableError, Damage."""
    path = folder / RUN
    require_no_link(path)
    try:
        about = strict_json(read_text(path, MOST_RUN_BYTES))
    except RecursionError:
        raise TableError(path, "not JSON: nested too deep") from None
    except ValueError as error:
        raise TableError(path, f"not JSON: {printable(str(error), 80)}") from None
    if not isinstance(about, dict):
        raise Damage(f"{RUN} is not that of a run: not an object")
    return about


def _entry(about: Mapping[str, Any], name: str, kind: type) -> Any:
    if name not in about:
        raise Damage(f"{RUN} lacks {name!r}")
    if not isinstance(about[name], kind):
        raise Damage(f"{RUN} is not that of a run: {name!r} is {'not an object' if kind is dict else 'no count'}")
    return about[name]


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise Damage(f"{RUN} is not that of a run: {printable(str(value), 40)} is no count")
    return value


def _require_unchanged(folder: Path, files: Mapping[str, Any]) -> None:
    """Raise Damage or TableError unless both tables have the sha256 that run.json says."""
    for name in (RESULTS, SAMPLES):
        path = folder / name
        require_no_link(path)
        known = files.get(name)
        if not isinstance(known, dict) or digest(read_bytes(path)) != known.get("sha256"):
            raise Damage(f"{name} has not the sha256 that {RUN} says: it was changed or cut off, or is of another run")


def _require_sums(planned: int, statuses: Mapping[str, int], rows: Table, processes: Any) -> None:
    """Raise Damage unless plan, statuses and table have the same cases. processes: those that were merged, if any."""
    if other := statuses.keys() - {*map(str, Status)}:
        raise Damage(f"{RUN} has the status {quoted(min(other))}, which no case has")
    of_each = _statuses(rows)
    summed, found = sum(statuses.values()), len(of_each)
    runs = len({str(process) for process in processes}) if isinstance(processes, list) and processes else 1
    if not found or planned != summed or not found <= planned <= found * runs:
        raise Damage(f"{planned} cases are planned, {summed} have a status and {found} are in {RESULTS}")
    counted_here = {str(status): count for status, count in Counter(of_each.values()).items()}
    if runs == 1 and counted_here != {status: count for status, count in statuses.items() if count}:
        differing = next(s for s in {**counted_here, **statuses} if counted_here.get(s, 0) != statuses.get(s, 0))
        shown = f"{counted(statuses.get(differing, 0), 'case')} of {RUN}"
        raise Damage(f"{shown} and {counted_here.get(differing, 0)} of {RESULTS} are {quoted(differing)}")


def _statuses(rows: Table) -> dict[object, str]:
    """Return the status of each case of a table; raises Damage if one has two."""
    found: dict[object, str] = {}
    fields = ("workload", "status", "case_id", "backend", "implementation", "device", "threads")
    for workload, status, *case in rows.distinct(*fields):
        if workload.endswith(FIT):  # the fit of a sweep is no case, but follows from several
            continue
        if found.setdefault(tuple(case), status) != status:
            raise Damage(f"{RESULTS} has a case of {workload} with two statuses: {found[tuple(case)]} and {status}")
    return found


def _require_run(folder: Path, run: Mapping[str, Any], rows: Table) -> None:
    """Raise Damage unless run.json, the table and the folder are of one run."""
    if run.get("run_id") != folder.name:
        raise Damage(f"{RUN} is that of the run {quoted(str(run.get('run_id')))}")
    for name in ("run_id", "started_at", "git_commit", "git_dirty"):
        for (other,) in rows.distinct(name):
            if other != run.get(name) and (other or run.get(name)):
                raise Damage(
                    f"{RESULTS} has rows of the {name} {quoted(str(other))}, {RUN} {quoted(str(run.get(name)))}"
                )
