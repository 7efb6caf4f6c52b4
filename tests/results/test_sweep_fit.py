"""A sweep of transfers gains the latency and the bandwidth that its times were made of, or none where no line fits."""

from dataclasses import replace

import numpy as np
import pytest

from bench_core.records import Cache, Run, Traffic, Traits
from bench_core.results import sweep_fit
from bench_core.results.rows import rows_of_case
from bench_core.results.sweep_fit import fitted_rows
from bench_core.results.traits import TraitsOf
from tests.support.properties import given, st
from tests.support.transfers import SWEPT_SIZES, exchange, transfer

SIZES = [4096, 65536, 1 << 20, 1 << 24, 1 << 28]


# ---------------------------------------------------------------- the line through time over bytes


@given(st.floats(1e-7, 1e-3), st.floats(1e8, 1e13))
def test_an_exact_line_is_found_exactly(latency, bandwidth):
    line = sweep_fit.line(SIZES, [latency + size / bandwidth for size in SIZES])
    assert line.latency.mean == pytest.approx(latency, rel=1e-6)
    assert 1 / line.slope.mean == pytest.approx(bandwidth, rel=1e-6)
    assert line.residual < 1e-6


def test_the_intervals_hold_the_truth_as_often_as_they_say():
    """1000 sweeps with 3 % noise: 95 % intervals hold latency and slope in 93 to 97 % of them."""
    rng = np.random.default_rng(3)
    truth = np.array([10e-6 + size / 25e9 for size in SIZES])
    held = np.zeros(2)
    for _ in range(1000):
        line = sweep_fit.line(SIZES, list(truth * (1 + 0.03 * rng.standard_normal(len(SIZES)))))
        for i, (estimate, true) in enumerate([(line.latency, 10e-6), (line.slope, 1 / 25e9)]):
            low, high = estimate.interval()
            held[i] += low <= true <= high
    assert (held > 930).all()
    assert (held < 970).all()


def test_small_sizes_are_not_drowned_by_the_largest():
    """An unweighted fit would put the latency anywhere within 1 % of the largest time, 100 us here."""
    seconds = [10e-6 + size / 25e9 for size in SIZES]
    seconds[-1] *= 1.01
    assert sweep_fit.line(SIZES, seconds).latency.mean == pytest.approx(10e-6, rel=0.05)


def test_points_off_the_line_show_as_its_residual():
    seconds = [1e-5, 1e-5, 1e-5, 1e-2, 1.1e-2]
    assert sweep_fit.line(SIZES, seconds).residual > sweep_fit.POOR


@pytest.mark.parametrize(
    ("sizes", "seconds"),
    [
        ([1, 2], [1.0, 2.0]),  # no point to judge by
        ([5, 5, 5], [1.0, 2.0, 3.0]),  # no spread
        ([1, 2, 3], [3.0, 2.0, 1.0]),  # faster when larger
        ([1, 2, 3], [0.0, 1.0, 2.0]),  # a clock that stood still
    ],
)
def test_too_few_sizes_or_a_slope_that_is_not_positive_give_no_line(sizes, seconds):
    assert sweep_fit.line(sizes, seconds) is None


# ---------------------------------------------------------------- the rows that a sweep gains

RUN = Run("run-a", "2001-01-01T00:00:00+00:00", "a")


def made(*measurements, run=RUN):
    return fitted_rows([row for m in measurements for row in rows_of_case(run, [m])], TraitsOf())


@pytest.mark.parametrize("name", ["elements", "n"])
def test_a_link_of_one_s_own_may_count_its_size_by_any_parameter(name):
    rows = [row for m in map(transfer, SWEPT_SIZES) for row in rows_of_case(RUN, [m])]
    own = [replace(row, suite="own", params=row.params.replace("elements", name)) for row in rows]
    fitted = fitted_rows(own, TraitsOf({("own", "h2d"): Traits(traffic=Traffic.LINK)}))
    assert [(row.metric, row.params.split(";")[0]) for row in fitted] == [
        ("latency", "bytes=" + "+".join(map(str, SWEPT_SIZES))),
        ("fitted_bandwidth", "bytes=" + "+".join(map(str, SWEPT_SIZES))),
    ]


EXCHANGES = TraitsOf({("collectives", "all_reduce"): Traits(traffic=Traffic.LINK)})


def test_a_sweep_of_exchanges_gains_latency_and_bus_bandwidth_for_each_number_of_ranks():
    """The bytes of an exchange are no memory traffic, so its rows have none; bus_bandwidth counts them."""
    swept = [exchange(size, n, bandwidth=25e9 / n, factor=2 * (n - 1) / n) for n in (2, 4) for size in SWEPT_SIZES]
    rows = [row for m in swept for row in rows_of_case(RUN, [m])]
    assert {row.bytes for row in rows} == {None}
    fitted = {(row.params.partition("ranks=")[2], row.metric): row for row in fitted_rows(rows, EXCHANGES)}
    for ranks, factor in (("2", 1), ("4", 1.5)):
        assert fitted[ranks, "latency"].value == pytest.approx(10e-6)
        assert fitted[ranks, "fitted_bandwidth"].value == pytest.approx(25e9 / int(ranks))
        sizes = "+".join(f"{factor * size:.0f}" for size in SWEPT_SIZES)
        assert fitted[ranks, "latency"].params == f"bytes={sizes};ranks={ranks}"
        assert fitted[ranks, "latency"].workload == "all_reduce_fit"
    assert len(fitted) == 4


def test_an_exchange_on_three_devices_has_whole_bytes_in_the_params_of_its_fit():
    swept = [exchange(12 * size, 3, factor=4 / 3, latency=3.3e-5, bandwidth=7e9) for size in SWEPT_SIZES]
    latency, _ = fitted_rows([row for m in swept for row in rows_of_case(RUN, [m])], EXCHANGES)
    assert latency.params == "bytes=" + "+".join(str(16 * size) for size in SWEPT_SIZES) + ";ranks=3"


def test_two_suites_with_workloads_of_one_name_have_two_sweeps():
    rows = [row for m in map(transfer, SWEPT_SIZES) for row in rows_of_case(RUN, [m])]
    own = [replace(row, suite="own") for row in rows]
    fitted = fitted_rows([*rows, *own], TraitsOf({("own", "h2d"): Traits(traffic=Traffic.LINK)}))
    assert sorted(row.suite for row in fitted) == ["own", "own", "transfer", "transfer"]


def test_a_sweep_of_transfers_gains_a_row_of_latency_and_one_of_bandwidth():
    latency, bandwidth = made(*map(transfer, SWEPT_SIZES))
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


def test_a_sweep_with_a_launch_bound_time_is_flagged_launch_bound():
    """Pageable copies by the device's clock: the device waits for the host all the time."""
    starved = [replace(t, series=(replace(t.series[0], flags=("launch_bound",)),)) for t in map(transfer, SWEPT_SIZES)]
    for sweep in (starved, [*starved[:1], *map(transfer, SWEPT_SIZES[1:])]):
        assert [row.flags.split(";").count("launch_bound") for row in made(*sweep)] == [1, 1]
    assert not any("launch_bound" in row.flags for row in made(*map(transfer, SWEPT_SIZES)))


def test_pinned_and_pageable_are_two_sweeps_and_so_are_two_backends():
    everything = [
        transfer(s, memory=m, backend=b) for s in SWEPT_SIZES for m in ("pinned", "pageable") for b in ("torch", "cupy")
    ]
    assert len(made(*everything)) == 8


def test_sizes_that_a_cache_holds_are_not_fitted():
    """A line through copies inside a cache and through memory would be of neither."""
    cached = replace(transfer(SWEPT_SIZES[0]), flags=("fits_l2",))
    assert made(cached, *map(transfer, SWEPT_SIZES[1:3])) == []
    assert len(made(cached, *map(transfer, SWEPT_SIZES[1:]))) == 2


def test_two_sizes_are_no_sweep():
    assert made(*map(transfer, SWEPT_SIZES[:2])) == []


def test_only_transfers_are_swept():
    assert made(*[transfer(size, suite="memory") for size in SWEPT_SIZES]) == []


def test_a_sweep_far_from_its_line_is_flagged_poor_fit():
    crooked = [transfer(size, bandwidth=25e9 if size > 1 << 20 else 1e8) for size in SWEPT_SIZES]
    assert all("poor_fit" in row.flags for row in made(*crooked))


def test_a_latency_fitted_below_zero_has_no_row_and_is_no_failure():
    """Nothing was wrong with the answers: a gate on invalid rows must not close for noise."""
    (bandwidth,) = made(*[transfer(size, latency=-1e-7) for size in SWEPT_SIZES])
    assert (bandwidth.metric, bandwidth.status) == ("fitted_bandwidth", "ok")
    assert bandwidth.value == pytest.approx(25e9)


def test_the_interval_of_a_latency_ends_at_zero():
    rough = [
        transfer(size, latency=2e-5, bandwidth=b) for size, b in zip(SWEPT_SIZES[1:], (25e9, 20e9, 25e9), strict=True)
    ]
    latency = made(*rough)[0]
    assert latency.ci_low == 0.0
    assert latency.value > 0


def test_a_cold_sweep_is_other_work_than_a_hot_one():
    hot, cold = (made(*[transfer(size, cache=cache) for size in SWEPT_SIZES])[0] for cache in Cache)
    assert (hot.cache, cold.cache) == ("hot", "cold")
    assert hot.case_id != cold.case_id


def test_machines_join_on_the_same_sweep_and_on_no_other():
    here = made(*map(transfer, SWEPT_SIZES))[0].case_id
    there = made(*[transfer(size, bandwidth=5e9) for size in SWEPT_SIZES], run=replace(RUN, machine="b"))[0].case_id
    other = made(*map(transfer, SWEPT_SIZES[:3]))[0].case_id
    assert here == there
    assert here != other
