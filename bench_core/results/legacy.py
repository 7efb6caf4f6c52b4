"""Convert tables of earlier versions to the current schema and rules, and supply traits that their run.json lacks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bench_core.errors import TableError
from bench_core.records import SCHEMA_VERSION, Limit, Traffic, Traits
from bench_core.results.schema import STATISTICS, integer
from bench_core.results.strict_csv import Csv

# Columns that a table of schema version 1 may lack.
ADDED_LATER = frozenset({"device_name", "library", "least_bytes"})

# Conversions by schema version: the function under n converts a Csv of version n to version n + 1.
MIGRATIONS: dict[int, Callable[[Csv], Csv]] = {}


def migrate(table: Csv) -> Csv:
    """Return the table in the current schema.

    Raises TableError for an empty, unknown or newer schema version, and for rows of different versions.
    """
    versions = table.column("schema_version", integer)
    version = versions[0] if versions else SCHEMA_VERSION
    for line, other in zip(table.lines, versions, strict=True):
        if other is None or other > SCHEMA_VERSION:
            message = f"schema version {other}: this bench-core reads up to {SCHEMA_VERSION}; install a newer one"
            raise TableError(table.path, message if other else "the schema version is empty", line)
        if other != version:
            raise TableError(table.path, f"schema version {other} among rows of version {version}", line)
    while version < SCHEMA_VERSION:
        if version not in MIGRATIONS:
            raise TableError(table.path, f"schema version {version} is not known", table.lines[0])
        table = MIGRATIONS[version](table)
        version += 1
    return table


# Traits for tables without a run.json and for those whose run.json has no `traits`: by suite, and for single workloads
# that differ from their suite.
_SUITES = {
    "matmul": Traits(order=0, measures=Limit.COMPUTE, traffic=Traffic.MEMORY),
    "memory": Traits(order=1, headline="bandwidth", traffic=Traffic.MEMORY),
    "transfer": Traits(traffic=Traffic.LINK),
    "model": Traits(order=3),
}
_STREAM = Traits(order=1, headline="bandwidth", measures=Limit.BANDWIDTH, traffic=Traffic.MEMORY)
_WORKLOADS = {
    **{("memory", name): _STREAM for name in ("copy", "scale", "add", "triad", "dot", "sum", "fill")},
    ("matmul", "matmul_data"): Traits(order=0, traffic=Traffic.MEMORY),
    ("latency", "launch"): Traits(measures=Limit.LATENCY),
}


SHARES = ("fraction_of_measured_peak", "fraction_of_datasheet", "bandwidth_of_measured_peak", "bandwidth_of_datasheet")


def cut_shares(columns: dict[str, list[Any]]) -> int:
    """Cut off shares above 1, in place, and return their number. columns: those of a table, by name.

    Early tables took the highest median as the ceiling, from a cache too. As in roofline.py now, no column of a share
    is above 1; a share of 1 that was cut off is flagged `at_ceiling`; and a share whose whole interval was above 1 has
    no value and is flagged `above_ceiling` or `above_datasheet`, because its ceiling was wrong.
    """
    cut = 0
    for i, metric in enumerate(columns["metric"]):
        own = {name: columns[name][i] for name in STATISTICS if columns[name][i] is not None}
        if metric not in SHARES or all(x <= 1 for x in own.values()):
            continue
        cut += 1
        lower = own.get("ci_low", own.get("p10", own.get("value", 0.0)))
        is_above = lower > 1 and own.get("value", 0.0) > 1
        above = "above_datasheet" if metric.endswith("datasheet") else "above_ceiling"
        word = above if is_above else "at_ceiling" if own.get("value", 0.0) > 1 else ""
        for name, value in own.items():
            columns[name][i] = None if is_above or name == "std" else min(1.0, value)
        columns["flags"][i] = ";".join(filter(None, [columns["flags"][i], word]))
    return cut


def traits_by_name(suite: str, workload: str) -> Traits:
    """Return the traits of a workload by its name, else by its suite; default traits if both are unknown."""
    return _WORKLOADS.get((suite, workload)) or _SUITES.get(suite) or Traits()
