"""How fast a history answers: a million rows, of imaginary runs that are made for it.

    python -m tests.native.history [--runs 650] [--rows 1540]

Printed are wall and CPU seconds of making the cache, of adding one run to it, and of two questions. Each run has the
same works on one of five machines, with values of its own; nothing here was measured, and nothing judges a time.
"""

from __future__ import annotations

import argparse
import csv
import io
import resource
import sys
import tempfile
import time
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from bench_core.history.query import History
from bench_core.history.store import Store
from bench_core.results.schema import COLUMNS, RESULTS, STATISTICS
from tests.support.planted_history import write_run_of

MACHINES = 5
SERIES = """
SELECT started_at, value FROM rows
WHERE machine = ? AND case_id = ? AND backend = ? AND metric = 'time' AND clock = 'wall' ORDER BY started_at
"""
GROUPING = """
SELECT machine, case_id, backend, implementation, device, threads, metric, clock, count(*), median(value)
FROM rows GROUP BY ALL
"""


def lines_of(folder: Path, size: int) -> list[dict[str, str]]:
    """Return the cells of `size` rows: those of a planted run again and again, each time of other cases."""
    with (write_run_of(folder, "desk", 1) / RESULTS).open(newline="") as file:
        rows = list(csv.DictReader(file))
    copies = ((rows[i % len(rows)], i // len(rows)) for i in range(size))
    return [{**row, "case_id": f"{row['case_id']}{copy:x}"} for row, copy in copies]


def write(folder: Path, rows: list[dict[str, str]], number: int, rng: np.random.Generator) -> None:
    """Write a run of these rows with values of its own."""
    start = datetime(2001, 1, 1) + timedelta(days=number)
    of = {"run_id": f"{start:%Y%m%dT%H%M%SZ}-{number:04x}", "machine": f"machine-{number % MACHINES}"}
    of["started_at"] = f"{start.isoformat()}+00:00"
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row, factor in zip(rows, rng.lognormal(0.0, 0.02, len(rows)).tolist(), strict=True):
        scaled = {name: repr(float(row[name]) * factor) for name in STATISTICS if row[name]}
        writer.writerow({**row, **scaled, **of})
    path = folder / of["machine"] / of["run_id"]
    path.mkdir(parents=True)
    (path / RESULTS).write_text(text.getvalue(), encoding="utf-8")


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def timed(what, act):
    """Print the seconds of a call, and return what it returns."""
    wall, cpu = time.perf_counter(), cpu_s()
    found = act()
    print(f"{what:30} {time.perf_counter() - wall:8.2f} s, {cpu_s() - cpu:8.2f} s of CPU")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=650)
    parser.add_argument("--rows", type=int, default=1540, help="of a run")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        rows = lines_of(Path(name, "planted"), given.rows)
        folder, rng = Path(name, "runs"), np.random.default_rng(24)
        for number in range(given.runs):
            write(folder, rows, number, rng)
        store = Store(folder)
        added = timed("make the cache", store.add)
        if added.refused:
            sys.exit(added.refused[0])
        write(folder, rows, given.runs, rng)
        timed("add one run", store.add)
        timed("add nothing", store.add)
        cache = sum(path.stat().st_size for path in store.cache.rglob("*") if path.is_file())
        with timed("open the views", lambda: History(store)) as opened:
            work = ["machine-1", rows[0]["case_id"], rows[0]["backend"]]
            for _ in range(2):
                series = timed("one series", lambda: opened.table(SERIES, work))
                groups = timed("group all rows", lambda: opened.table(GROUPING))
            (size,) = opened.table("SELECT count(*) FROM rows").column(0).to_pylist()
        print(f"{size:,} rows, {cache / 1e6:.0f} MB; {len(series)} runs in the series, {len(groups):,} groups")


if __name__ == "__main__":
    main()
