"""What the JSON of Google Benchmark says becomes columns: repetitions, aggregates, rates, names, failures."""

import json

import pytest

from bench_core.errors import TableError
from bench_core.imported.google_benchmark import read
from tests.support.other_programs import HOST, google_benchmark


def imported(document):
    return read("g.json", json.dumps(document))


def test_repetitions_are_samples_in_seconds_and_rates_are_rows_of_their_own():
    found = imported(google_benchmark())
    copied, ordered, broken, old = found.entries
    assert (copied.workload, copied.size, copied.threads) == ("BM_Copy_double", "8x16", 2)
    assert copied.params == {"arg0": "8", "arg1": "16", "timer": "real_time"}
    time, bandwidth, items = copied.quantities
    assert (time.samples, time.inner_loops) == (pytest.approx((2e-6, 4e-6, 3e-6)), 100)
    assert (bandwidth.metric, bandwidth.statistics["value"], bandwidth.statistics["max"]) == ("bandwidth", 3e9, 4e9)
    assert (items.metric, items.statistics["value"], items.samples) == ("sample_rate", 30.0, ())
    assert (old.workload, old.threads, old.quantities[0].samples) == ("BM_Old", None, (pytest.approx(42e-9),))
    assert (ordered.workload, ordered.params, broken.status, broken.reason) == (
        "Sort",
        {"n": "64"},
        "error",
        "no device",
    )
    assert (found.version, found.started_at, found.machine) == (
        "v1.9.0",
        "2026-03-17T17:40:25+00:00",
        "cpu-40t-2801mhz",
    )
    assert found.facts["cpu.caches"].value == {"L3": 33554432}
    assert HOST not in repr(found)


def test_aggregates_alone_give_the_median_and_what_no_aggregate_tells_stays_empty():
    ordered = imported(google_benchmark()).entries[1]
    (time,) = ordered.quantities
    assert time.statistics == {"value": 1.5e-3, "mean": 2e-3, "std": 5e-4, "n": 5}


def test_a_counter_without_a_metric_is_kept_beside_the_table_and_nan_is_none():
    document = google_benchmark()
    document["benchmarks"][0]["nothing"] = float("nan")
    (counters,) = imported(document).left_out.values()
    assert counters == {"hits": 1.0}


def test_a_date_without_a_time_zone_is_no_moment():
    document = google_benchmark()
    document["context"]["date"] = "2016-08-02 17:44:46"
    assert imported(document).started_at == ""


@pytest.mark.parametrize(
    ("name", "workload", "params", "size"),
    [
        ("Fixture/Method/8", "Fixture/Method", {"arg0": "8"}, "8"),
        ("ns::BM_x<int>/manual_time", "ns::BM_x_int", {"timer": "manual_time"}, ""),
        ("BM_x/n:8/m:16/min_time:2.000/repeats:3", "BM_x", {"n": "8", "m": "16"}, ""),
        ("BM_x/iterations:5/process_time/real_time", "BM_x", {"timer": "process_time+real_time"}, ""),
        ("BM_x/-1", "BM_x", {"arg0": "-1"}, "1"),
    ],
)
def test_a_name_is_taken_apart(name, workload, params, size):
    document = google_benchmark()
    document["benchmarks"] = [{**document["benchmarks"][-1], "name": name}]
    (entry,) = imported(document).entries
    assert (entry.workload, entry.params, entry.size) == (workload, params, size)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("time_unit", "min", r"benchmarks\[0\].time_unit: 'min' is none of ns, us, ms, s"),
        ("real_time", float("inf"), r"benchmarks\[0\].real_time: inf is not a number that can be measured"),
        ("real_time", 10**400, r"benchmarks\[0\].real_time: inf is not a number"),
        ("iterations", 1.5, r"benchmarks\[0\].iterations: 1.5 is not a count"),
        ("threads", True, r"benchmarks\[0\].threads: True is not a number"),
    ],
)
def test_a_wrong_field_is_named(field, value, said):
    document = google_benchmark()
    document["benchmarks"][0][field] = value
    text = json.dumps(document) if value != 10**400 else json.dumps(document).replace("Infinity", "1" + "0" * 400)
    with pytest.raises(TableError, match=f"^g.json: {said}"):
        read("g.json", text)
