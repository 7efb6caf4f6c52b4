"""Tables of earlier versions, brought into this version's schema."""

from __future__ import annotations

from collections.abc import Callable

from bench_core.errors import TableError
from bench_core.records import SCHEMA_VERSION
from bench_core.results.schema import integer
from bench_core.results.strict_csv import Csv

# Columns that a table of schema version 1 may lack.
ADDED_LATER = frozenset({"device_name", "library", "least_bytes"})

# What turns the texts of schema version n into those of n + 1, by n. A function gets and returns a Csv.
MIGRATIONS: dict[int, Callable[[Csv], Csv]] = {}


def migrate(table: Csv) -> Csv:
    """Return the table in this version's schema; raises TableError for a newer one or a mixture."""
    versions = table.column("schema_version", integer)
    version = versions[0] if versions else SCHEMA_VERSION
    for line, other in zip(table.lines, versions, strict=True):
        if other is None or other > SCHEMA_VERSION:
            message = f"schema version {other}: this bench-core reads up to {SCHEMA_VERSION}, so a newer one is needed"
            raise TableError(table.path, message if other else "the schema version is empty", line)
        if other != version:
            raise TableError(table.path, f"schema version {other} among rows of version {version}", line)
    while version < SCHEMA_VERSION:
        if version not in MIGRATIONS:
            raise TableError(table.path, f"schema version {version} is not known", table.lines[0])
        table = MIGRATIONS[version](table)
        version += 1
    return table
