"""Folders of small runs, and what their cache holds; a test that uses it is skipped without the extra `history`."""

from __future__ import annotations

import pytest

from bench_core.history.store import Store
from bench_core.results.reader import read_rows
from tests.support.tables import processes, write

pytest.importorskip("duckdb", reason="needs the extra `history`")
parquet = pytest.importorskip("pyarrow.parquet", reason="needs the extra `history`")


def write_small(folder, name, seconds=1.0, machine="a", **known):
    """Write a run of one case; returns its folder."""
    known = {"started_at": "2001-01-01T00:00:00+00:00"} | known
    return write(folder, processes([seconds, seconds]), machine, run_id=name, **known)


def held(store):
    """Return the times that the cache holds, by run; a run that it holds twice has its times twice."""
    found = {}
    for part in store.parts():
        for row in parquet.read_table(part.rows).to_pylist():
            if row["metric"] == "time":
                found.setdefault((row["machine"], row["run_id"]), []).append(row["value"])
    return found


def truth(folder):
    """Return the times in the tables of a folder, by run, as the house's reader reads them."""
    found = {}
    for path in sorted(folder.glob("*/*/results.csv")):
        for row in read_rows(path):
            if row.metric == "time":
                found.setdefault((row.machine, row.run_id), []).append(row.value)
    return found


def every_file(folder):
    """Return the contents of every file below a folder."""
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def added(folder, **known):
    return Store(folder).add(**known)
