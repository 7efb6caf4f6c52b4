"""Make the folder of a run of what another program has measured: results.csv, samples.csv, run.json.

All rows carry the flags UNCHECKED and IMPORTED: this suite has neither measured them nor checked any answer.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench_core.errors import TableError, UsageError
from bench_core.imported.entries import Entry, Imported, Quantity, with_names_of_their_own
from bench_core.imported.formats import Source
from bench_core.machine.environment import env_id, facts_to_json
from bench_core.records import (
    IMPORTED,
    UNCHECKED,
    Cache,
    Case,
    Clock,
    Measurement,
    Row,
    Run,
    Scope,
    Series,
    Status,
    Work,
    identifier,
    to_json,
    type_of,
)
from bench_core.results.metrics import METRICS
from bench_core.results.schema import RESULTS
from bench_core.results.writer import write_run
from bench_core.text import printable

_NOTHING = "unknown"  # of a dtype, a size or a precision that a file lacks: in the hash of a case alone
_LONGEST_LABEL = 120


@dataclass(frozen=True, slots=True)
class Options:
    """What the user says of a file. machine, device, started_at: "" for what the file says."""

    machine: str = ""
    device: str = ""
    started_at: str = ""


@dataclass(frozen=True, slots=True)
class Made:
    """The rows of a file and what else belongs to its run. about: for run.json."""

    run: Run
    rows: tuple[Row, ...]
    measurements: tuple[Measurement, ...]
    about: Mapping[str, Any]


def made(source: Source, options: Options) -> Made:
    """Return the run that a file is of.

    Raises UsageError if the machine has no name, and TableError for two results of one case: a run has one.
    """
    contents = source.contents
    entries = with_names_of_their_own(contents.entries)
    if options.device:
        entries = [replace(entry, device=options.device) for entry in entries]
    run = _run(source, options)
    workers = env_id(contents.worker_facts) if contents.worker_facts else ""
    rows: list[Row] = []
    measurements: list[Measurement] = []
    for entry in entries:
        rows += _rows(run, entry, contents, workers)
        measurements += _measurements(entry, contents)
    _require_distinct(source, rows)
    return Made(run, tuple(rows), tuple(measurements), _about(source, run, entries, workers))


def _run(source: Source, options: Options) -> Run:
    contents = source.contents
    started = options.started_at or contents.started_at
    machine = options.machine or contents.machine[:_LONGEST_LABEL]
    if not machine:
        raise UsageError(f"--machine: {printable(str(source.path))} does not name the machine: give it a label")
    when = started[:19].replace("-", "").replace(":", "") + "Z-" if started else ""
    run_id = f"{when}{contents.tool}-{source.digest[:8]}"
    return Run(run_id, started, machine, contents.git_commit, contents.git_dirty)


def _work(entry: Entry, tool: str, cache: str) -> Work:
    params = tuple(entry.params.items())
    return Work(
        entry.suite or tool,
        entry.workload,
        entry.size or _NOTHING,
        entry.dtype or _NOTHING,
        params,
        _NOTHING,
        cache=Cache(cache),
    )


def _rows(run: Run, entry: Entry, contents: Imported, workers: str) -> Iterator[Row]:
    quantities = entry.quantities or (Quantity("time"),)
    for quantity in quantities:
        work, metric = _work(entry, contents.tool, quantity.cache), METRICS[quantity.metric]
        is_ok = entry.status is Status.OK
        yield Row(
            run_id=run.run_id,
            started_at=run.started_at,
            machine=run.machine,
            case_id=work.case_id,
            suite=work.suite,
            workload=work.workload,
            workload_version=work.version,
            size=entry.size,
            dtype=entry.dtype,
            precision="",
            params=work.params_text,
            backend=contents.tool,
            implementation=entry.implementation,
            device_type=type_of(entry.device),
            device=entry.device,
            threads=entry.threads,
            metric=metric.name,
            unit=metric.unit,
            better=metric.better,
            clock=quantity.clock,
            scope=Scope.RESIDENT,
            cache=quantity.cache,
            processes=1 if is_ok else None,
            inner_loops=quantity.inner_loops,
            bytes=entry.bytes,
            flags=";".join([UNCHECKED, IMPORTED, *(["single_run"] if is_ok else [])]),
            status=entry.status,
            reason_code=entry.reason_code,
            reason=entry.reason,
            backend_version=contents.version,
            env_id=workers,
            git_commit=run.git_commit,
            git_dirty=run.git_dirty,
            device_name=entry.device_name,
            **(quantity.statistics if is_ok else {}),
        )


def _measurements(entry: Entry, contents: Imported) -> Iterator[Measurement]:
    """Yield a measurement for the samples of a case, in the form in which samples.csv is written."""
    for quantity in entry.quantities:
        if quantity.samples and quantity.metric == "time":
            series = Series("time", Clock(quantity.clock), quantity.samples, quantity.inner_loops or 1)
            work = _work(entry, contents.tool, quantity.cache)
            case = Case(work, contents.tool, entry.device, entry.implementation, entry.threads)
            yield Measurement(case, Status.OK, series=(series,))


def _require_distinct(source: Source, rows: list[Row]) -> None:
    counts = Counter((row.identity, row.metric, row.clock) for row in rows)
    for row in rows:
        if counts[row.identity, row.metric, row.clock] > 1:
            what = printable(" ".join(filter(None, (row.workload, row.params, row.device))), 120)
            raise TableError(source.path, f"several results of {what}: import the results of one run at a time")


def _about(source: Source, run: Run, entries: list[Entry], workers: str) -> dict[str, Any]:
    contents = source.contents
    statuses = Counter(entry.status.value for entry in entries)
    environment: dict[str, Any] = {"host": facts_to_json(contents.facts)}
    if workers:
        environment["workers"] = {workers: facts_to_json(contents.worker_facts)}
    imported = {"tool": contents.tool, "version": contents.version, "sha256": source.digest}
    return {
        "run": to_json(run),
        "imported": {**imported, "notes": list(contents.notes), "without_a_metric": contents.left_out},
        "planned": len(entries),
        "statuses": dict(statuses),
        "environment": environment,
    }


def write(run: Made, output: Path) -> Path:
    """Write the folder OUTPUT/MACHINE/RUN_ID and return its path; nothing is left of one that could not be written.

    Raises UsageError if it cannot be written, or if there is one already.
    """
    folder = output / run.run.machine / run.run.run_id
    if os.path.lexists(folder):
        what = "was imported before" if (folder / RESULTS).exists() else "is there already"
        raise UsageError(f"--output {printable(str(output))}: {printable(str(folder))} {what}")
    temporary = folder.with_name(f".bench-core-{secrets.token_hex(8)}.tmp")  # no reader looks into such a folder
    try:
        temporary.mkdir(parents=True)
        write_run(temporary, run.rows, run.measurements, run.about)
        temporary.rename(folder)
    except OSError as error:
        raise UsageError(f"--output {printable(str(output))}: cannot be written: {error.strerror}") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def required_machine(text: str) -> str:
    """Return a label of a machine, which is also the name of a folder. Raises UsageError for one that is none."""
    try:
        identifier(text)
    except ValueError as error:
        raise UsageError(f"--machine: {error}") from None
    if "/" in text or ".." in text or len(text) > _LONGEST_LABEL:
        raise UsageError(f"--machine: {printable(text)!r} cannot be the name of a folder")
    return text
