"""Efficiency, speed-up and exposed communication follow from times that differ only in the number of ranks."""

from dataclasses import replace

import pytest

from bench_core import sequential, stats
from bench_core.records import SEQUENTIAL, Status
from bench_core.results.rows import rows_of_run
from bench_core.results.traits import TraitsOf
from tests.support.measurements import RUN
from tests.support.ranks import STRONG, across
from tests.support.tables import grouped

SCALED = ("parallel_efficiency", "speedup", "exposed_communication")


def found(*measurements):
    """Return the rows that follow, by metric and number of ranks."""
    rows = [row for row in rows_of_run(RUN, grouped(measurements), TraitsOf()) if row.metric in SCALED]
    by_name = {(row.metric, row.ranks): row for row in rows}
    assert len(by_name) == len(rows)
    return by_name


def test_weak_scaling_is_the_time_of_one_over_the_time_of_n():
    rows = found(across([2.0, 2.0], 1), across([2.5, 2.5], 2), across([4.0, 4.0], 4))
    assert {at: row.value for at, row in rows.items()} == {
        ("parallel_efficiency", 2): 0.8,
        ("parallel_efficiency", 4): 0.5,
    }


def test_strong_scaling_has_a_speed_up_and_the_share_of_n_that_it_is():
    rows = found(across([8.0, 8.0], 1, more=STRONG), across([2.5, 2.5], 4, more=STRONG))
    assert {at: row.value for at, row in rows.items()} == {
        ("speedup", 4): pytest.approx(3.2),
        ("parallel_efficiency", 4): pytest.approx(0.8),
    }
    assert {(row.unit, row.better) for row in rows.values()} == {("1", "higher")}


def test_within_one_process_the_interval_holds_for_any_pair_of_values_in_the_two():
    row = found(across([1.8, 2.0, 2.2], 1, more=STRONG), across([1.0, 1.25, 1.6], 2, more=STRONG))["speedup", 2]
    assert (row.value, row.ci_low, row.ci_high) == pytest.approx((2.0 / 1.25, 1.8 / 1.6, 2.2 / 1.0))
    assert (row.ci_level, row.processes, row.flags) == (0.75, 1, "single_run")


def test_over_processes_the_ratio_is_formed_within_each():
    """A machine that becomes twice as slow from process to process does not change the efficiency of any."""
    speeds, efficiency = (1.0, 2.0, 4.0), (0.80, 0.82, 0.81)
    t1 = [across([t, t], 1, process=i) for i, t in enumerate(speeds)]
    tn = [across([t / e] * 2, 2, process=i) for i, (t, e) in enumerate(zip(speeds, efficiency, strict=True))]
    row = found(*t1, *tn[::-1])["parallel_efficiency", 2]
    assert row.value == pytest.approx(0.81)
    assert (row.ci_low, row.ci_high) == pytest.approx(stats.log_mean_interval(efficiency))
    assert (row.ci_level, row.processes) == (0.95, 3)
    assert "single_run" not in row.flags


def test_a_process_without_one_of_the_two_times_is_left_out():
    failed = replace(across([1.0, 1.0], 2, process=1), status=Status.TIMEOUT, series=())
    t1 = [across([2.0, 2.0], 1, process=i) for i in (0, 1)]
    row = found(*t1, across([4.0, 4.0], 2, process=0), failed)["parallel_efficiency", 2]
    assert (row.value, row.processes) == (0.5, 1)
    assert row.flags == "timeout_in_a_process;single_run"


def test_of_processes_that_the_values_themselves_made_more_the_interval_is_that_of_a_sequence():
    ratios = [0.80, 0.82, 0.81, 0.83, 0.79, 0.84, 0.78]
    t1 = [across([1.0, 1.0], 1, process=i, flags=(SEQUENTIAL,)) for i in range(7)]
    tn = [across([1 / e] * 2, 2, process=i, flags=(SEQUENTIAL,)) for i, e in enumerate(ratios)]
    row = found(*t1, *tn)["parallel_efficiency", 2]
    assert (row.ci_low, row.ci_high) == pytest.approx(sequential.interval(ratios))
    few = found(*t1[:3], *tn[:3])["parallel_efficiency", 2]
    assert (few.value, few.ci_low, few.processes) == (pytest.approx(0.81), None, 3)


@pytest.mark.parametrize(
    "other",
    [
        across([2.0, 2.0], 1, implementation="sharded"),
        across([2.0, 2.0], 1, device="cpu:x2"),
        across([2.0, 2.0], 1, more={"scaling": "weak", "batch_per_rank": 8}),
        across([2.0, 2.0], 1, dtype="float64"),
        across([2.0, 2.0], 3),
        replace(across([2.0, 2.0], 1), status=Status.INVALID, series=()),
    ],
)
def test_only_the_same_work_on_one_rank_is_what_scaling_is_measured_by(other):
    assert not found(other, across([2.5, 2.5], 2))


def test_work_that_does_not_say_what_grows_has_no_efficiency():
    assert not found(across([1.0, 1.0], 1, more={"elements": 8}), across([2.0, 2.0], 2, more={"elements": 8}))


def test_work_of_a_single_device_does_not_scale_over_ranks_even_with_a_parameter_of_that_name():
    assert not found(*(across([2.0, 2.0], ranks, device="cpu", without=[1.0, 1.0]) for ranks in (1, 2)))


def test_exposed_communication_is_the_time_less_that_without_exchange():
    row = found(across([2.9, 3.0, 3.2], 2, without=[1.9, 2.0, 2.1]))["exposed_communication", 2]
    assert (row.value, row.ci_low, row.ci_high) == pytest.approx((1.0, 0.8, 1.3))
    assert (row.unit, row.better) == ("s", "lower")


def test_exposed_communication_of_several_processes_is_paired():
    done = [across([t + 1.0] * 2, 2, without=[t] * 2, process=i) for i, t in enumerate((1.0, 5.0, 9.0))]
    row = found(*done)["exposed_communication", 2]
    assert (row.value, row.ci_low, row.ci_high, row.processes) == pytest.approx((1.0, 1.0, 1.0, 3))


def test_the_interval_of_exposed_communication_does_not_fall_below_nothing():
    row = found(across([2.0, 3.0, 4.0], 2, without=[1.9, 2.9, 3.9]))["exposed_communication", 2]
    assert (row.value, row.ci_low) == (pytest.approx(0.1), 0.0)


@pytest.mark.parametrize("without", [[3.0, 3.0], [3.5, 3.5]])
def test_exchange_that_adds_nothing_to_the_time_has_no_row(without):
    assert not found(across([3.0, 3.0], 2, without=without))
