"""Convert tables of earlier versions to the current schema, and supply traits that their run.json lacks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from bench_core.errors import TableError
from bench_core.records import SCHEMA_VERSION, Claim, Limit, Traffic, Traits
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
    version = versions.values[0] if versions.values else SCHEMA_VERSION
    for code, other in enumerate(versions.values):
        line = table.lines[int(np.argmax(versions.codes == code))]
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


# Traits for tables without a run.json and for those whose run.json has no `traits`, or none of `claims`: by suite, and
# for single workloads that differ from their suite.
_SUITES = {
    "matmul": Traits(order=0, measures=Limit.COMPUTE, traffic=Traffic.MEMORY),
    "memory": Traits(order=1, headline="bandwidth", traffic=Traffic.MEMORY),
    "transfer": Traits(order=2, traffic=Traffic.LINK),
    "latency": Traits(order=3),
    "model": Traits(order=4),
}
_STREAM = replace(_SUITES["memory"], measures=Limit.BANDWIDTH)
_WORKLOADS = {
    ("matmul", "matmul"): replace(_SUITES["matmul"], claims=(Claim.ARITHMETIC,)),
    ("matmul", "matmul_data"): replace(_SUITES["matmul"], measures=None),
    **{("memory", name): _STREAM for name in ("scale", "add", "dot", "fill")},
    **{("memory", name): replace(_STREAM, claims=(Claim.BANDWIDTH,)) for name in ("copy", "triad", "sum")},
    **{("transfer", name): replace(_SUITES["transfer"], claims=(Claim.MOVING_DATA,)) for name in ("h2d", "d2h")},
    ("latency", "launch"): replace(_SUITES["latency"], measures=Limit.LATENCY),
    **{("model", name): Traits(order=5, claims=(Claim.NETWORKS,)) for name in ("mlp_train", "mlp_infer")},
    **{("model", name): Traits(order=6, claims=(Claim.NETWORKS,)) for name in ("cnn_train", "cnn_infer")},
    ("model", "gpt_train"): Traits(order=7, claims=(Claim.TRAINING, Claim.NETWORKS)),
    **{("model", name): Traits(order=7, claims=(Claim.TOKENS,)) for name in ("gpt_prefill", "gpt_decode")},
    ("model", "gan_train"): Traits(order=8, claims=(Claim.NETWORKS,)),
    ("model", "gan_generate"): Traits(order=8, claims=(Claim.IMAGES,)),
    ("model", "diffusion_sample"): Traits(order=9, claims=(Claim.IMAGES,)),
    ("model", "diffusion_denoise"): Traits(order=9, claims=(Claim.NETWORKS,)),
}

_SOLD_AS = {
    ("model", "gpt_train"): "tokens trained",
    ("model", "gpt_decode"): "tokens generated",
    ("model", "gan_generate"): "images generated",
    ("model", "diffusion_sample"): "images generated",
}

_SHORT_FOR = {("transfer", "h2d"): "host to device", ("transfer", "d2h"): "device to host"}


def traits_by_name(suite: str, workload: str) -> Traits:
    """Return the traits of a workload by its name, else by its suite; default traits if both are unknown."""
    traits = _WORKLOADS.get((suite, workload)) or _SUITES.get(suite) or Traits()
    name = suite, workload
    return replace(traits, sold_as=_SOLD_AS.get(name, ""), short_for=_SHORT_FOR.get(name, ""))
