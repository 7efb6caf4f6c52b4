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
from bench_core.results.reader import read_table
from bench_core.results.run_files import strict_json
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
    of planned cases with each, of all processes. warnings: what reading the table warned of.
    """

    about: Mapping[str, Any]
    rows: Table
    machines: frozenset[str]
    statuses: Mapping[str, int]
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
        run = _entry(about, "run", dict)
        _require_unchanged(folder, _entry(about, "files", dict))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            _, rows = read_table(folder / RESULTS)
    except TableError as error:
        raise Damage(_without_folder(str(error), folder)) from None
    statuses = {str(name): _count(count) for name, count in _entry(about, "statuses", dict).items()}
    _require_sums(_count(_entry(about, "planned", int)), statuses, rows, about.get("processes"))
    _require_run(folder, str(run.get("run_id")), rows)
    machines = {str(run.get("machine")), *(machine for (machine,) in rows.distinct("machine"))}
    said = tuple(_without_folder(str(warning.message), folder) for warning in caught)
    return Whole(about, rows, frozenset(machines), statuses, said)


def require_no_link(path: Path) -> None:
    """Raise TableError for a symbolic link: it could lead to any file of this computer."""
    if is_link(path):
        raise TableError(path, "a symbolic link, which is not followed")


def _without_folder(text: str, folder: Path) -> str:
    return text.replace(f"{folder}/", "", 1)


def _about(folder: Path) -> Mapping[str, Any]:
    """Return run.json; raises TableError, Damage."""
    path = folder / RUN
    require_no_link(path)
    try:
        about = strict_json(read_text(path))
    except (ValueError, RecursionError) as error:
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
    of_each: dict[object, str] = {}
    for workload, status, *case in rows.distinct(
        "workload", "status", "case_id", "backend", "implementation", "device", "threads"
    ):
        if not workload.endswith(FIT):  # the fit of a sweep is no case, but follows from several
            of_each[tuple(case)] = status
    summed, found = sum(statuses.values()), len(of_each)
    runs = len(processes) if isinstance(processes, list) else 1
    if planned != summed or not found <= planned <= found * runs:
        raise Damage(f"{planned} cases are planned, {summed} have a status and {found} are in {RESULTS}")
    counted_here = {str(status): count for status, count in Counter(of_each.values()).items()}
    if runs == 1 and counted_here != {status: count for status, count in statuses.items() if count}:
        differing = next(s for s in {**counted_here, **statuses} if counted_here.get(s, 0) != statuses.get(s, 0))
        shown = f"{counted(statuses.get(differing, 0), 'case')} of {RUN}"
        raise Damage(f"{shown} and {counted_here.get(differing, 0)} of {RESULTS} are {quoted(differing)}")


def _require_run(folder: Path, run_id: str, rows: Table) -> None:
    """Raise Damage unless run.json, the table and the folder are of one run."""
    if run_id != folder.name:
        raise Damage(f"{RUN} is that of the run {quoted(run_id)}")
    for (other,) in rows.distinct("run_id"):
        if other != run_id:
            raise Damage(f"{RESULTS} has rows of the run {quoted(other)}")
