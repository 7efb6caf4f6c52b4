"""From measurements to rows: one a metric and clock, and a missing value never is a number."""

import csv
import io
import math
from dataclasses import replace

import pytest

from bench_core.records import SEQUENTIAL, Clock, Costs, Measurement, Series, Status
from bench_core.results import reader, writer
from bench_core.results.formula import ENERGY, GPU_CLOCK, TIME, TOKENS, amount, series, value
from bench_core.results.metrics import METRICS, Metric
from bench_core.results.rows import completed, rows_of_case
from bench_core.results.traits import TraitsOf
from bench_core.stats import quantile
from tests.support.measurements import CASE, RUN, measurement
from tests.support.properties import given, st
from tests.support.transfers import SWEPT_SIZES, transfer


def by_metric(*measurements):
    return {(row.metric, row.clock): row for row in rows_of_case(RUN, measurements)}


def test_one_row_a_metric_and_clock():
    series = (Series("time", Clock.WALL, (1.0,)), Series("time", Clock.DEVICE, (0.5,)))
    found = by_metric(measurement(series=series, values={"first_call": 9.0}))
    assert set(found) == {
        *(("time", c) for c in Clock),
        *(("flop_rate", c) for c in Clock),
        *(("bandwidth", c) for c in Clock),
        *(("sample_rate", c) for c in Clock),
        ("first_call", ""),
    }
    assert found["flop_rate", "device"].value == 16.0
    assert found["first_call", ""].value == 9.0


def test_a_rate_is_the_amount_over_the_time_with_its_quantiles_swapped():
    found = by_metric(measurement())
    time, rate = found["time", "wall"], found["flop_rate", "wall"]
    assert (time.value, rate.value) == (2.0, 4.0)
    assert (rate.min, rate.max) == (8.0 / time.max, 8.0 / time.min)
    assert (rate.p10, rate.p90) == (8.0 / time.p90, 8.0 / time.p10)
    assert (rate.ci_low, rate.ci_high) == (8.0 / time.ci_high, 8.0 / time.ci_low)
    assert rate.mean == pytest.approx(3 * 8.0 / (1.0 + 2.0 + 4.0))
    assert (rate.unit, rate.better) == ("FLOP/s", "higher")


def test_the_interval_of_few_blocks_states_the_confidence_that_it_has():
    found = by_metric(measurement())
    assert [found[name, "wall"].ci_level for name in ("time", "flop_rate")] == [0.75, 0.75]
    assert by_metric(measurement(seconds=(1.0,)))["time", "wall"].ci_level is None


def test_blocks_that_do_not_count_are_in_no_statistic():
    counted = by_metric(measurement([1.0, 2.0, 4.0]))["time", "wall"]
    series = Series("time", Clock.WALL, (9.0, 1.0, 2.0, 0.1, 4.0), 3, noisy=(0, 3))
    found = by_metric(measurement(series=(series,)))
    assert found["time", "wall"] == counted
    assert found["flop_rate", "wall"].n == 3


def test_a_case_without_an_amount_has_no_rate():
    assert set(by_metric(measurement(costs=Costs()))) == {("time", "wall")}


@pytest.mark.parametrize("status", [s for s in Status if s is not Status.OK])
def test_a_case_without_a_value_is_one_row_with_its_reason_and_no_number(status):
    lost = Measurement.missing(CASE, status, "why", "two\nlines")
    (row,) = rows_of_case(RUN, [lost])
    assert (row.status, row.reason_code, row.reason) == (status, "why", "two lines")
    statistics = (row.value, row.ci_low, row.ci_high, row.n, row.mean, row.std, row.min, row.p10, row.max)
    assert statistics == (None,) * 9


def test_one_process_is_flagged_as_a_single_run():
    assert by_metric(measurement())["time", "wall"].flags == "single_run"


def test_several_processes_give_the_median_of_their_medians_and_an_interval_over_them():
    several = [measurement(seconds=(t, t, t), process=i) for i, t in enumerate((1.0, 1.1, 1.21))]
    row = by_metric(*several)["time", "wall"]
    assert (row.value, row.processes, row.n, row.flags) == (1.1, 3, 9, "")
    half = 4.302652729911275 * 0.09531017980432493 / 3**0.5  # t(0.975, 2) * sd(log) / sqrt(3)
    assert row.ci_high / 1.1 == pytest.approx(2.718281828459045**half)
    assert row.ci_low * row.ci_high == pytest.approx(1.1**2)


@pytest.mark.parametrize(("slow", "value"), [(20, 1.0), (30, 2.0)])
def test_the_interval_of_many_processes_holds_their_median(slow, value):
    """Of 50 processes at two speeds the interval of the mean logarithm lies between the two; the median is one."""
    several = [measurement(seconds=(2.0 if i < slow else 1.0,), process=i) for i in range(50)]
    found = by_metric(*several)
    time, rate = found["time", "wall"], found["flop_rate", "wall"]
    assert (time.value, rate.value) == (value, 8.0 / value)
    for row in (time, rate):
        assert row.ci_low <= row.value <= row.ci_high
        assert row.value in {row.ci_low, row.ci_high}
        assert row.ci_low < row.ci_high


def test_the_error_of_several_processes_is_the_largest():
    several = [replace(measurement(process=i), rel_error=error) for i, error in enumerate((1e-7, 3e-7, None))]
    assert by_metric(*several)["time", "wall"].rel_error == 3e-7


def test_a_process_that_failed_among_good_ones_is_a_flag():
    lost = Measurement.missing(CASE, Status.TIMEOUT, "timeout", "late")
    row = by_metric(measurement(), lost)["time", "wall"]
    assert (row.processes, row.status) == (1, "ok")
    assert "timeout_in_a_process" in row.flags


def test_an_answer_that_is_wrong_in_one_process_gives_the_case_no_value():
    """A race that is lost in one run of five must not be published as the rate of the other four."""
    wrong = Measurement.missing(CASE, Status.INVALID, "wrong_answer", "off", rel_error=0.5)
    (row,) = rows_of_case(RUN, [measurement(), wrong, Measurement.missing(CASE, Status.CRASHED, "code", "why")])
    assert (row.status, row.reason_code, row.value, row.rel_error) == ("invalid", "wrong_answer", None, 0.5)
    assert row.flags == "ok_in_a_process;crashed_in_a_process"


def test_processes_without_a_value_are_told_by_the_worst_of_them():
    ends = [Measurement.missing(CASE, status, "code", "why") for status in (Status.SKIPPED, Status.TIMEOUT)]
    (row,) = rows_of_case(RUN, ends)
    assert (row.status, row.flags, row.value) == ("timeout", "skipped_in_a_process", None)


def test_flags_of_case_and_series_stand_together_once_each():
    series = (Series("time", Clock.WALL, (1.0,), flags=("not_converged", "drift")),)
    row = by_metric(measurement(series=series, flags=("drift",)))["time", "wall"]
    assert row.flags == "drift;not_converged;single_run"


@pytest.mark.parametrize(
    "known",
    [
        {"values": {"my_own_metric": 1.0}},
        {"series": (Series("time", Clock.WALL, (1.0,)), Series("my_own_metric", Clock.WALL, (1.0,)))},
    ],
)
def test_a_probe_that_is_no_metric_becomes_a_row_with_its_name(known):
    (row,) = rows_of_case(RUN, [measurement(**known)])
    assert (row.status, row.reason_code, row.value) == ("error", "unknown_metric", None)
    assert row.reason == "my_own_metric: not among METRICS in bench_core/results/metrics.py"


@pytest.mark.parametrize("seconds", [(), (1.0, 0.0, 2.0), (0.0,), (math.inf,), (math.nan,)])
def test_a_sample_that_is_no_time_becomes_a_row_with_a_reason(seconds):
    (row,) = rows_of_case(RUN, [measurement(seconds)])
    assert (row.status, row.reason_code, row.value) == ("invalid", "no_time", None)
    assert row.reason == "time by the wall clock: not every sample is a time above 0 s"


def test_a_value_that_is_no_number_becomes_a_row_with_a_reason():
    (row,) = rows_of_case(RUN, [measurement(values={"peak_memory": math.nan})])
    assert (row.status, row.reason_code) == ("invalid", "no_number")


def test_processes_are_joined_by_metric_and_clock_where_one_lacks_a_series():
    wall, device = (Series("time", clock, (1e-3,) * 3) for clock in (Clock.WALL, Clock.DEVICE))
    first = Series("time_to_first_token", Clock.WALL, (2e-3,) * 3)
    found = by_metric(measurement(series=(wall, first)), measurement(series=(wall, device, first)))
    later, rare = found["time_to_first_token", "wall"], found["time", "device"]
    assert (later.value, later.processes) == (2e-3, 2)
    assert (rare.value, rare.processes) == (1e-3, 1)


def test_derived_rows_are_rows_of_the_table(tmp_path):
    measurements = [*map(transfer, SWEPT_SIZES)]
    everything = completed([row for m in measurements for row in rows_of_case(RUN, [m])], TraitsOf())
    text = writer.results_text(everything)
    assert {line["metric"] for line in csv.DictReader(io.StringIO(text))} <= set(METRICS)
    (tmp_path / "results.csv").write_text(text)
    assert len(reader.load(tmp_path)) == len(everything)


# ---------------------------------------------------------------- derived metrics

ELEMENTS = Costs(amounts={"elements": 4.0})
CYCLES = Metric("cycles_per_element", "1", "lower", "cycles", GPU_CLOCK * TIME / amount("elements"))
POWER = Metric("power_of_calls", "W", "lower", "energy / time", ENERGY / TIME)


@pytest.fixture
def also(monkeypatch):
    """Add metrics of one's own for a test: each is one entry."""
    return lambda *metrics: [monkeypatch.setitem(METRICS, m.name, m) for m in metrics]


def test_joules_per_token_is_one_entry(also):
    """50 J for a call of 2 s that makes 100 tokens: 0.5 J, where 0.02 s was written before formulas had units."""
    also(Metric("joules_per_token", "J", "lower", "energy / tokens", ENERGY / TOKENS))
    done = measurement((2.0,), costs=Costs(amounts={"tokens": 100.0}), values={"energy": 50.0})
    row = by_metric(done)["joules_per_token", ""]
    assert (row.value, row.unit, row.better, row.n) == (0.5, "J", "lower", 1)


def test_cycles_per_element_is_one_entry_under_either_clock(also):
    also(CYCLES)
    both = (Series("time", Clock.WALL, (1.0, 2.0, 4.0)), Series("time", Clock.DEVICE, (0.5,)))
    found = by_metric(measurement(series=both, costs=ELEMENTS, values={"gpu_clock": 2e9}))
    wall, device = (found["cycles_per_element", clock] for clock in Clock)
    assert (wall.value, wall.min, wall.max, wall.unit, wall.n) == (1e9, 0.5e9, 2e9, "1", 3)
    assert device.value == 0.25e9


@pytest.mark.parametrize(
    "known",
    [
        {"costs": ELEMENTS},
        {"costs": Costs(), "values": {"gpu_clock": 2e9}},
        {"costs": ELEMENTS, "values": {"gpu_clock": 0.0}},
        {"costs": Costs(amounts={"elements": 0}), "values": {"gpu_clock": 2e9}},
        {
            "costs": ELEMENTS,
            "values": {"gpu_clock": 2e9},
            "series": (Series("time_to_first_token", Clock.WALL, (1.0,)),),
        },
    ],
)
def test_a_formula_that_lacks_a_term_gives_no_row(also, known):
    also(CYCLES)
    assert not {row.metric for row in rows_of_case(RUN, [measurement(**known)])} & {CYCLES.name}


def test_a_formula_of_an_energy_of_zero_gives_no_row():
    found = by_metric(measurement(values={"energy": 0.0}))
    assert found["energy", ""].value == 0.0
    assert not {metric for metric, _ in found if metric.endswith("_per_joule")}


def test_a_probe_can_be_a_term(also):
    also(Metric("prompt_rate", "1/s", "higher", "tokens / time", TOKENS / series("time_to_first_token")))
    probe = Series("time_to_first_token", Clock.WALL, (0.5, 0.5))
    done = measurement(series=(probe,), costs=Costs(amounts={"tokens": 8.0}))
    assert by_metric(done)["prompt_rate", "wall"].value == 16.0


def test_the_terms_of_a_formula_are_of_the_same_process_as_its_samples(also):
    also(CYCLES)
    ends = [(1.0, 4e9), (2.0, 1e9), (4.0, None)]
    several = [
        measurement((t, t), costs=ELEMENTS, process=i, values={} if clock is None else {"gpu_clock": clock})
        for i, (t, clock) in enumerate(ends)
    ]
    found = by_metric(*several)
    row = found["cycles_per_element", "wall"]
    assert (row.min, row.max, row.n, row.processes) == (0.5e9, 1e9, 4, 2)
    assert found["time", "wall"].processes == 3
    assert "single_run" in by_metric(*several[1:])["cycles_per_element", "wall"].flags


def test_the_mean_is_total_over_total_where_processes_differ_in_the_dividend(also):
    also(POWER)
    several = [measurement((1.0,), values={"energy": 6.0}), measurement((3.0, 3.0), values={"energy": 9.0}, process=1)]
    row = by_metric(*several)["power_of_calls", "wall"]
    assert row.mean == pytest.approx((6.0 + 2 * 9.0) / (1.0 + 2 * 3.0))
    assert (row.min, row.max) == pytest.approx((3.0, 6.0))


def test_the_mean_is_total_over_total_where_processes_differ_in_the_divisor(also):
    also(Metric("slowness", "1", "lower", "time / first call", TIME / value("first_call", "s")))
    several = [measurement((1.0,), values={"first_call": 2.0}), measurement((3.0,), values={"first_call": 1.0})]
    row = by_metric(*several)["slowness", "wall"]
    assert (row.mean, row.min, row.max) == (4.0 / 3.0, 0.5, 3.0)


SECONDS = st.lists(st.floats(1e-9, 1e3), min_size=1, max_size=12)
PROCESSES = st.lists(st.tuples(SECONDS, st.floats(1e6, 1e10)), min_size=1, max_size=4)
ENDS = ("min", "p10", "p25", "p75", "p90", "max")
PLACES = (0.0, 0.1, 0.25, 0.75, 0.9, 1.0)


@given(SECONDS, st.floats(1.0, 1e15))
def test_a_rate_is_exactly_the_amount_over_each_statistic_of_the_time(seconds, flops):
    found = by_metric(measurement(seconds, costs=Costs(flops)))
    time, rate = found["time", "wall"], found["flop_rate", "wall"]
    assert (rate.value, rate.mean) == (flops / time.value, flops / time.mean)
    assert [getattr(rate, end) for end in ENDS] == [flops / getattr(time, end) for end in reversed(ENDS)]
    if rate.ci_low is not None:
        assert (rate.ci_low, rate.ci_high) == (flops / time.ci_high, flops / time.ci_low)
    assert [rate.n, rate.processes, rate.ci_level] == [time.n, time.processes, time.ci_level]


@given(SECONDS, st.integers(1, 10**6))
def test_a_time_per_step_is_exactly_the_statistics_of_each_sample_over_the_steps(seconds, steps):
    found = by_metric(measurement(seconds, costs=Costs(amounts={"steps": steps})))["time_per_output_token", "wall"]
    direct = by_metric(measurement([s / steps for s in seconds]))["time", "wall"]
    columns = ("value", "ci_low", "ci_high", "ci_level", "n", "processes", "mean", "std", *ENDS)
    assert [getattr(found, name) for name in columns] == [getattr(direct, name) for name in columns]


@given(PROCESSES)
def test_a_formula_that_rises_has_the_quantiles_of_its_own_samples(processes):
    row, samples = _row_and_samples(CYCLES, "gpu_clock", processes, lambda seconds, clock: clock * seconds / 4.0)
    pooled = sorted(x for process in samples for x in process)
    assert [getattr(row, end) for end in ENDS] == pytest.approx([quantile(pooled, q) for q in PLACES])
    assert row.value == pytest.approx(_median([_median(process) for process in samples]))
    assert row.mean == pytest.approx(math.fsum(pooled) / len(pooled))
    assert row.ci_low is None or row.ci_low <= row.value <= row.ci_high


@given(PROCESSES)
def test_a_formula_that_falls_has_the_inverse_quantiles_of_its_inverse(processes):
    row, inverse = _row_and_samples(POWER, "energy", processes, lambda seconds, joules: seconds / joules)
    pooled = sorted(x for process in inverse for x in process)
    assert [getattr(row, end) for end in ENDS] == pytest.approx([1 / quantile(pooled, 1 - q) for q in PLACES])
    assert row.value == pytest.approx(1 / _median([_median(process) for process in inverse]))
    work = math.fsum(joules * len(seconds) for seconds, joules in processes)
    assert row.mean == pytest.approx(work / math.fsum(s for seconds, _ in processes for s in seconds))
    assert row.ci_low is None or row.ci_low <= row.value <= row.ci_high


def _row_and_samples(metric, name, processes, of):
    """Return the row of a metric of time and one value, and `of` each second and that value, by process."""
    several = [measurement(t, costs=ELEMENTS, values={name: v}, process=i) for i, (t, v) in enumerate(processes)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(METRICS, metric.name, metric)
        row = by_metric(*several)[metric.name, "wall"]
    return row, [[of(seconds, v) for seconds in t] for t, v in processes]


def _median(values):
    return quantile(sorted(values), 0.5)


def in_sequence(medians):
    return [
        replace(measurement(seconds=(0.9 * t, t, 1.1 * t)), process=i, flags=(SEQUENTIAL,))
        for i, t in enumerate(medians)
    ]


def test_the_interval_of_processes_whose_values_decided_their_number_is_sequential():
    """Student's t would be too narrow, because measuring ends when it is narrow."""
    medians = [1.0, 1.2, 0.9, 1.1, 1.05, 0.95, 1.3, 5.0]
    found = by_metric(*in_sequence(medians))
    time, rate = found["time", "wall"], found["flop_rate", "wall"]
    assert (time.value, time.ci_low, time.ci_high, time.ci_level) == (pytest.approx(1.075), 0.9, 1.3, 0.95)
    assert (rate.ci_low, rate.ci_high) == pytest.approx((8.0 / 1.3, 8.0 / 0.9))
    assert SEQUENTIAL in rate.flags.split(";")


def test_before_the_first_look_there_is_no_interval():
    row = by_metric(*in_sequence([1.0, 1.2, 0.9]))["time", "wall"]
    assert (row.value, row.processes, row.ci_low, row.ci_high, row.ci_level) == (1.0, 3, None, None, None)
    alone = by_metric(*in_sequence([1.0]))["time", "wall"]
    assert (alone.n, alone.processes, alone.ci_low, alone.ci_high) == (3, 1, None, None)
