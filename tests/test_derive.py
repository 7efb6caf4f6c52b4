"""Sweeps of transfers gain a latency and a bandwidth, in rows that the table takes and machines share."""

import csv
import io
from dataclasses import replace

import pytest

from bench_core import derive, table
from bench_core.metrics import METRICS, rows
from bench_core.model import Cache, Case, Clock, Costs, Measurement, Run, Series, Status, Work

RUN = Run("run-a", "2001-01-01T00:00:00+00:00", "a")
SIZES = (4096, 1 << 20, 1 << 24, 1 << 28)


def transfer(size, latency=10e-6, bandwidth=25e9, memory="pinned", backend="torch", suite="transfer", **known):
    params = (("elements", size // 4), ("memory", memory))
    work = Work(suite, "h2d", f"{size}-{memory}", "float32", params, **known)
    seconds = latency + size / bandwidth
    series = (Series("time", Clock.WALL, (seconds,) * 3),)
    case = Case(work, backend, "cuda:0")
    return Measurement(case, Status.OK, costs=Costs(bytes=float(size)), series=series, device_name="Some GPU")


def made(*measurements, run=RUN):
    return derive.sweeps([row for m in measurements for row in rows(run, [m])])


def test_latency_and_bandwidth_of_a_sweep():
    latency, bandwidth = made(*map(transfer, SIZES))
    assert (latency.metric, latency.unit, bandwidth.metric, bandwidth.unit) == (
        "latency",
        "s",
        "fitted_bandwidth",
        "B/s",
    )
    assert latency.value == pytest.approx(10e-6)
    assert bandwidth.value == pytest.approx(25e9)
    assert bandwidth.ci_low <= bandwidth.value <= bandwidth.ci_high
    assert (latency.workload, latency.n, latency.params) == (
        "h2d_fit",
        4,
        "bytes=4096+1048576+16777216+268435456;memory=pinned",
    )


def test_a_sweep_with_a_time_that_is_the_host_s_says_so():
    """Pageable copies by the device's clock: the device waits for the host all the time."""
    starved = [replace(t, series=(replace(t.series[0], flags=("launch_bound",)),)) for t in map(transfer, SIZES)]
    for sweep in (starved, [*starved[:1], *map(transfer, SIZES[1:])]):
        assert [row.flags.split(";").count("launch_bound") for row in made(*sweep)] == [1, 1]
    assert not any("launch_bound" in row.flags for row in made(*map(transfer, SIZES)))


def test_pinned_and_pageable_are_two_sweeps_and_so_are_two_backends():
    everything = [
        transfer(s, memory=m, backend=b) for s in SIZES for m in ("pinned", "pageable") for b in ("torch", "cupy")
    ]
    assert len(made(*everything)) == 8


def test_sizes_that_a_cache_holds_are_not_fitted():
    """A line through copies inside a cache and through memory would be of neither."""
    cached = replace(transfer(SIZES[0]), flags=("fits_l2",))
    assert made(cached, *map(transfer, SIZES[1:3])) == []
    assert len(made(cached, *map(transfer, SIZES[1:]))) == 2


def test_two_sizes_are_no_sweep():
    assert made(*map(transfer, SIZES[:2])) == []


def test_only_transfers_are_swept():
    assert made(*[transfer(size, suite="memory") for size in SIZES]) == []


def test_a_line_that_does_not_fit_says_so():
    crooked = [transfer(size, bandwidth=25e9 if size > 1 << 20 else 1e8) for size in SIZES]
    assert all("poor_fit" in row.flags for row in made(*crooked))


def test_a_fit_below_zero_is_no_latency_and_no_failure():
    """Nothing was wrong with the answers: a gate on invalid rows must not close for noise."""
    (bandwidth,) = made(*[transfer(size, latency=-1e-7) for size in SIZES])
    assert (bandwidth.metric, bandwidth.status) == ("fitted_bandwidth", "ok")
    assert bandwidth.value == pytest.approx(25e9)


def test_the_interval_of_a_latency_ends_at_zero():
    rough = [transfer(size, latency=2e-5, bandwidth=b) for size, b in zip(SIZES[1:], (25e9, 20e9, 25e9), strict=True)]
    latency = made(*rough)[0]
    assert latency.ci_low == 0.0
    assert latency.value > 0


def test_a_cold_sweep_is_other_work_than_a_hot_one():
    hot, cold = (made(*[transfer(size, cache=cache) for size in SIZES])[0] for cache in Cache)
    assert (hot.cache, cold.cache) == ("hot", "cold")
    assert hot.case_id != cold.case_id


def test_machines_join_on_the_same_sweep_and_on_no_other():
    here = made(*map(transfer, SIZES))[0].case_id
    there = made(*[transfer(size, bandwidth=5e9) for size in SIZES], run=replace(RUN, machine="b"))[0].case_id
    other = made(*map(transfer, SIZES[:3]))[0].case_id
    assert here == there
    assert here != other


def test_derived_rows_are_rows_of_the_table(tmp_path):
    measurements = [*map(transfer, SIZES)]
    everything = [row for m in measurements for row in rows(RUN, [m])]
    everything += derive.derived(everything)
    text = table.results_text(everything)
    assert {line["metric"] for line in csv.DictReader(io.StringIO(text))} <= set(METRICS)
    (tmp_path / "results.csv").write_text(text)
    assert len(table.load(tmp_path)) == len(everything)
