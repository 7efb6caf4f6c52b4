"""Small result tables made in memory, for tests of whatever compares them."""

from __future__ import annotations

from dataclasses import replace

from bench_core.compare import Reading
from bench_core.records import Case, Clock, Costs, Measurement, Run, Series, Status, Work, to_json
from bench_core.results.rows import rows_of_case
from bench_core.results.run_files import RunFiles, sample_key
from bench_core.results.writer import write_run

GPT = Work("model", "gpt_decode", "tiny", "float32")


def work(size="64", dtype="float32", **known):
    """Return a piece of matrix work of this size."""
    n = int(size)
    return Work("matmul", "matmul", size, dtype, (("k", n), ("m", n), ("n", n)), **known)


def measured(seconds, of=None, backend="numpy", device="cpu", process=0, threads=None, flops=1e6, **known):
    """Return an ok measurement of these seconds per block."""
    threads = 2 if threads is None and device == "cpu" else threads
    series = (Series("time", Clock.WALL, tuple(seconds), 3),)
    case = Case(of or work(), backend, device, known.pop("implementation", "default"), threads)
    costs = Costs(flops=flops)
    known = {"device_name": f"The {device} of all", "library": "SomeBLAS 1", "backend_version": "1.0"} | known
    return Measurement(case, Status.OK, series=series, costs=costs, process=process, threads=threads, **known)


def absent(of=None, backend="numpy", device="cpu", status=Status.OOM, reason="out of memory: 3 GiB asked for"):
    """Return the measurement of a case without a value."""
    return Measurement.missing(Case(of or work(), backend, device), status, "code", reason)


def run(machine="a", run_id=None, started_at="2001-01-01T00:00:00+00:00", git_commit="", git_dirty=None):
    """Return the run that rows belong to."""
    return Run(run_id or f"run-{machine}", started_at, machine, git_commit, git_dirty)


def grouped(measurements):
    """Return measurements by case, in order."""
    cases = {}
    for m in measurements:
        cases.setdefault(m.case, []).append(m)
    return list(cases.values())


def reading(measurements, machine="a", *, samples=True, label="", about=None, facts=None, **run_known):
    """Return a reading as if these measurements had been written and read: one row a metric and case."""
    of = run(machine, **run_known)
    table = [row for group in grouped(measurements) for row in rows_of_case(of, group)]
    by_result, by_key = {}, {}
    for row in table:
        result = (row.case_id, row.backend, row.implementation, row.device, row.threads, row.metric)
        by_result.setdefault(result, row)
    for m in measurements:
        case = m.case
        for series in m.series:
            result = (case.work.case_id, case.backend, case.implementation, case.device, m.threads, series.metric)
            by_key.setdefault(sample_key(by_result[result]), {})[m.process] = series.seconds
    files = RunFiles(by_key if samples else None, facts or {}, {}, about or {})
    return Reading.of(f"{machine}/{of.run_id}/results.csv", table, label, files)


def processes(medians, of=None, **known):
    """Return one measurement a process, each of three blocks around its median; their p10 scales with it."""
    return [measured([t * 0.99, t, t * 1.02], of, process=i, **known) for i, t in enumerate(medians)]


def tokens(seconds, count=100.0, **known):
    """Return processes that make `count` tokens in these seconds."""
    costs = Costs(flops=1e9, amounts={"tokens": count, "samples": 2.0})
    return [replace(m, costs=costs) for m in processes(seconds, GPT, **known)]


def write(folder, measurements, machine="a", about=None, **run_known):
    """Write a real run folder; returns its path."""
    of = run(machine, **run_known)
    path = folder / machine / of.run_id
    path.mkdir(parents=True)
    table = [row for group in grouped(measurements) for row in rows_of_case(of, group)]
    known = {"run": to_json(of), "environment": {"host": {}, "workers": {}}}
    write_run(path, table, measurements, known | (about or {}))
    return path


def on_host(**facts):
    """Return what run.json says of a computer with these facts; two underscores stand for a dot."""
    host = {name.replace("__", "."): {"value": value, "source": "test"} for name, value in facts.items()}
    return {"environment": {"host": host, "workers": {}}}
