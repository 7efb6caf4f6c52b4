"""A whole comparison: means, baseline, errors if nothing can be compared, and no traceback for any tables."""

import re
from dataclasses import replace

import pytest

from bench_core import render
from bench_core.compare import CompareOptions, Reading, compare, read, verdicts
from bench_core.errors import NothingToCompare, UsageError
from bench_core.records import Row, Work
from tests.support.comparisons import FIVE, two
from tests.support.properties import given, settings, st
from tests.support.tables import processes, reading, work, write


def test_five_machines_are_compared_with_the_first(tmp_path):
    for i, name in enumerate("abcde"):
        write(tmp_path, processes([(1 + i) * t for t in FIVE]), name)
    result = compare(read([str(tmp_path)]))
    assert result.sides == tuple("abcde")
    assert [c.change for c in result.comparisons] == [f"{i}.00x slower" for i in (2, 3, 4, 5)]
    assert len(result.means) == 4


@pytest.mark.parametrize("write_down", [render.text, render.markdown, render.as_csv, render.as_json])
def test_every_output_has_sizes_in_the_order_of_their_value(write_down):
    """In another order than that of the rows and that of their texts (1MiB, 4KiB, 4MiB, 16KiB)."""
    given = ["4MiB", "16KiB", "1MiB", "4KiB"]
    works = [Work("memory", "copy", size, "float64", (("array", size),)) for size in given]

    def table(name, device, factor):
        return reading([m for of in works for m in processes([factor * t for t in FIVE], of, device=device)], name)

    result = compare([table("a", "cpu", 1), table("b", "cuda:0", 2), table("c", "cpu", 3)])
    expected = ["4KiB", "16KiB", "1MiB", "4MiB"]
    assert [best.comparison.key.size for best in result.best] == expected
    written = re.findall(r"\b\d+[KM]iB\b", write_down(result))
    assert written
    assert list(dict.fromkeys(written)) == expected


def test_the_mean_is_over_the_cases_that_every_side_has():
    def table(name, factors):
        return reading(
            [m for size, f in factors.items() for m in processes([f * t for t in FIVE], of=work(size))], name
        )

    tables = [
        table("a", {"1": 1, "2": 1, "3": 1}),
        table("b", {"1": 2, "2": 8, "3": 100}),
        table("c", {"1": 1, "2": 1}),
    ]
    means = {mean.side: mean for mean in compare(tables).means}
    assert means["b"].change == "4.00x slower"
    assert (means["b"].cases, means["b"].of) == (2, 3)
    assert means["c"].change == "1.00x"
    assert means["b"].ci_low < 0.25 < means["b"].ci_high


def test_only_rows_that_are_compared_are_made(tmp_path, monkeypatch):
    made = []
    of_columns = Row.of_columns
    monkeypatch.setattr(Row, "of_columns", lambda columns, size: made.append(size) or of_columns(columns, size))
    for side in "ab":
        write(tmp_path, processes(FIVE), side)
    readings = read([f"{side}={tmp_path / side}" for side in "ab"])
    result = compare(readings)
    assert render.text(result)
    assert sum(made) == sum((found.rows.mask("metric", "time".__eq__)).sum() for found in readings)
    assert sum(made) < sum(len(found.rows) for found in readings)


def test_a_comparison_without_an_implausible_value_is_made_once(monkeypatch):
    made = []
    of = verdicts.Comparison
    monkeypatch.setattr(verdicts, "Comparison", lambda *args, **named: made.append(of(*args, **named)) or made[-1])
    works = [work("32"), work("64")]
    tables = [reading([m for each in works for m in processes(FIVE, of=each)], name) for name in "ab"]
    wrong = {"p10": 5.0}
    tables[1] = replace(tables[1], rows=[replace(r, **wrong) if r.size == "64" else r for r in tables[1].rows])
    result = compare(tables)
    assert [bool(c.implausible) for c in result.comparisons] == [False, True]
    assert result.comparisons[0] is made[0]


def test_an_unknown_baseline_names_the_sides():
    with pytest.raises(UsageError, match="no side 'z'; available: a, b"):
        compare(two(FIVE, FIVE), CompareOptions(baseline="z"))


# ---------------------------------------------------------------- nothing to compare


def test_an_empty_intersection_is_an_error():
    said = r"no case has values on two of the sides a, b \(in 1 of 2 comparisons: a: not measured\)"
    with pytest.raises(NothingToCompare, match=said):
        compare([reading(processes(FIVE), "a"), reading(processes(FIVE, of=work("32")), "b")])


@pytest.mark.parametrize(
    ("changed", "why"),
    [({"value": 0.0}, "a: the value 0 is not positive"), ({"unit": "ms"}, "not the same work: unit ms against s")],
)
def test_nothing_to_compare_names_the_commonest_reason_whatever_it_is(changed, why):
    a, b = (reading(processes([1.0, 1.0]), name, samples=False) for name in "ab")
    strange = replace(a, rows=tuple(replace(row, **changed) for row in a.rows if row.metric == "time"))
    with pytest.raises(NothingToCompare, match=rf"\({why}\)$"):
        compare([strange, replace(b, rows=tuple(row for row in b.rows if row.metric == "time"))])


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"clock": "device"}, ["a: measured by the wall clock only", "b: measured by the device clock only"]),
        ({"clock": ""}, ["a: measured by the wall clock only", "b: measured by no clock only"]),
        ({"suite": "x", "case_id": "c"}, ["a: measured in the suite matmul only", "b: measured in the suite x only"]),
        ({"suite": "x", "size": "65"}, ["a: not measured", "b: not measured"]),
    ],
    ids=str,
)
def test_what_the_other_side_measured_by_another_clock_or_in_another_suite_is_said(changed, said):
    both = [*processes([1.0]), *processes([1.0], work("32"))]
    a, b = (reading(both, name, samples=False) for name in "ab")
    b = replace(b, rows=tuple(replace(row, **changed) if row.size == "64" else row for row in b.rows))
    assert sorted({c.reason for c in compare([a, b]).unmatched}) == said


def test_a_clock_that_one_side_lacks_is_not_measured_where_both_have_the_other():
    a, b = (reading(processes([1.0]), name, samples=False) for name in "ab")
    both = replace(b, rows=(*b.rows, *(replace(row, clock="device") for row in b.rows)))
    found = {c.key.clock: c.reason for c in compare([a, both]).comparisons}
    assert found["device"] == "a: not measured"


def test_runs_of_one_machine_need_labels_to_be_sides():
    runs = [reading(processes(FIVE), "a", run_id=name) for name in ("one", "two")]
    with pytest.raises(NothingToCompare, match="give them labels: before=A after=B"):
        compare(runs)


def test_a_filter_that_leaves_nothing_says_so():
    with pytest.raises(NothingToCompare, match="the filter and --metric leave none"):
        compare(two(FIVE, FIVE), CompareOptions(where="workload == 'nothing'"))


# ---------------------------------------------------------------- any tables


@settings(max_examples=25, deadline=None)
@given(st.permutations(range(6)), st.data())
def test_the_order_of_files_changes_nothing(order, data):
    tables = [
        reading(processes([t * (1 + i)], of=work("32")), m, run_id=f"{m}{i}")
        for m in "abc"
        for i, t in ((0, 1.0), (1, 1.1))
    ]
    plain = compare(tables, CompareOptions(baseline="a"))
    shuffled = compare([tables[i] for i in order], CompareOptions(baseline="a"))

    def facts(result):
        return {(c.side, c.ratio, c.ci_low, c.verdict, c.reason) for c in result.comparisons}

    assert facts(plain) == facts(shuffled)
    again = data.draw(st.integers(0, 5))
    assert facts(compare([*tables, replace(tables[again], path="copy")], CompareOptions(baseline="a"))) == facts(plain)


ANY = st.none() | st.floats(allow_nan=False, allow_infinity=False)
NUMBERS = ("value", "ci_low", "ci_high", "ci_level", "mean", "std", "min", "p10", "p25", "p75", "p90", "max")
FORGED = st.fixed_dictionaries(
    {
        **dict.fromkeys(NUMBERS, ANY),
        **dict.fromkeys(("flops", "bytes"), ANY),
        **dict.fromkeys(("processes", "n", "threads"), st.none() | st.integers(-3, 9)),
        "better": st.sampled_from(["lower", "higher"]),
        "clock": st.sampled_from(["wall", ""]),
        "metric": st.sampled_from(["time", "time", "flop_rate", "peak_memory"]),
        "status": st.sampled_from(["ok", "oom"]),
        "params": st.sampled_from(["", "gpus=1", "gpus=8", "gpus=0", "=;==", "gpus=x"]),
    }
)


@settings(max_examples=150, deadline=None)
@given(st.lists(FORGED, min_size=2, max_size=4), st.booleans())
def test_any_numbers_are_compared_or_refused(forged, samples):
    """Forged rows from an untrusted file give a result or a one-line error, never a traceback."""
    (row, *_) = reading(processes(FIVE), "a").rows
    tables = [
        replace(
            Reading.of(f"{i}.csv", [replace(row, run_id=f"r{i}", **fields)], "ab"[i % 2]),
            files=reading(processes(FIVE), "a").files if samples else Reading("", "", ()).files,
        )
        for i, fields in enumerate(forged)
    ]
    try:
        result = compare(tables, CompareOptions(metrics=("time", "flop_rate", "peak_memory")))
    except NothingToCompare:
        return
    for show in (render.text, render.markdown, render.as_csv, render.as_json):
        assert show(result)
    for c in result.compared:
        assert c.ci_low <= c.ratio <= c.ci_high
