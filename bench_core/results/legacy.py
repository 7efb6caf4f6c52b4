"""Convert tables of earlier versions to the current schema, and supply traits that their run.json lacks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from bench_core.errors import TableError
from bench_core.records import SCHEMA_VERSION, Limit, Traffic, Traits
from bench_core.results.schema import integer
from bench_core.results.strict_csv import Csv

# Columns that a table of schema version 1 may lack.
ADDED_LATER = frozenset({"device_name", "library", "least_bytes", "placement"})

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

_SOLD_AS = {
    ("model", "gpt_train"): "tokens trained",
    ("model", "gpt_decode"): "tokens generated",
    ("model", "gan_generate"): "images generated",
    ("model", "diffusion_sample"): "images generated",
}


def traits_by_name(suite: str, workload: str) -> Traits:
    """Return the traits of a workload by its name, else by its suite; default traits if both are unknown."""
    traits = _WORKLOADS.get((suite, workload)) or _SUITES.get(suite) or Traits()
    return replace(traits, sold_as=_SOLD_AS.get((suite, workload), ""))
