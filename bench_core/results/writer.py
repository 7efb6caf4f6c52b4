"""Write results.csv, samples.csv and run.json of a run, each atomically. schema.py describes their contents."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench_core.files import digest, write_atomically
from bench_core.records import SCHEMA_VERSION, Measurement, Row
from bench_core.results.schema import COLUMNS, RESULTS, RUN, SAMPLE_COLUMNS, SAMPLES
from bench_core.results.strict_csv import csv_text


def results_text(rows: Iterable[Row]) -> str:
    """Return results.csv as text: RFC 4180 quoting, line feeds."""
    return csv_text(COLUMNS, ([getattr(row, name) for name in COLUMNS] for row in rows))


def samples_text(measurements: Iterable[Measurement]) -> str:
    """Return samples.csv as text: every raw sample, in order of measurement."""
    return csv_text(SAMPLE_COLUMNS, (line for m in measurements for line in _sample_lines(m)))


def _sample_lines(m: Measurement) -> Iterator[Sequence[Any]]:
    for series in m.series:
        noisy = frozenset(series.noisy)
        for i, seconds in enumerate(series.seconds):
            yield (*m.identity, series.metric, series.clock, m.process, i, seconds, i in noisy)


def write_run(folder: Path, rows: Sequence[Row], measurements: Sequence[Measurement], about: Mapping[str, Any]) -> None:
    """Write the three files of a run. run.json is written last: a folder with a run.json is complete."""
    tables = {RESULTS: results_text(rows), SAMPLES: samples_text(measurements)}
    for name, text in tables.items():
        write_atomically(folder / name, text)
    files = {name: {"sha256": digest(text), "rows": text.count("\n") - 1} for name, text in tables.items()}
    document = {"schema_version": SCHEMA_VERSION, **about, "files": files}
    write_atomically(folder / RUN, json.dumps(document, indent=1, ensure_ascii=True, allow_nan=False) + "\n")
