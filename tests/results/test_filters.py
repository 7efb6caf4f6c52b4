"""The language of --filter: what it keeps, and that nothing in it is ever run."""

import pytest

from bench_core.errors import UsageError
from bench_core.records import Work
from bench_core.results.filters import parse
from tests.support.properties import given, st
from tests.support.tables import absent, processes, reading, work

ROWS = reading(
    [
        *processes([1.0], work("512")),
        *processes([2.0], work("1024", "float64"), backend="torch"),
        *processes([3.0], work("64"), backend="torch", device="cuda:0"),
        absent(work("2048")),
    ]
).rows


def kept(text):
    """Sizes of the rows of time that a filter keeps."""
    return [row.size for row in filter(parse(text), ROWS) if row.metric == "time"]


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        ("", ["512", "1024", "64", "2048"]),
        ("workload == 'matmul'", ["512", "1024", "64", "2048"]),
        ("backend == 'torch' and device_type == 'cpu'", ["1024"]),
        ("backend != 'torch' or dtype == \"float64\"", ["512", "1024", "2048"]),
        ("not backend == 'torch'", ["512", "2048"]),
        ("size in ('512', '64')", ["512", "64"]),
        ("size not in ('512', '64')", ["1024", "2048"]),
        ("size >= '512'", ["512", "1024", "2048"]),
        ("value > 1.5", ["1024", "64"]),
        ("value <= 1e0", ["512"]),
        ("threads == none", ["64", "2048"]),
        ("value != none and threads == 2", ["512", "1024"]),
        ("not value > 1.5", ["512", "2048"]),
        ("status == 'oom' or (value < 2 and (size == '512'))", ["512", "2048"]),
        ("backend=='torch'and not(size=='64')", ["1024"]),
        ("git_dirty == none", ["512", "1024", "64", "2048"]),
    ],
)
def test_a_filter_keeps_the_rows_that_it_describes(text, sizes):
    assert kept(text) == sizes


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        ("size < '1MiB'", ["16KiB", "4KiB"]),
        ("size >= '64KiB'", ["4MiB", "1MiB"]),
        ("size <= '16384'", ["16KiB", "4KiB"]),
        ("backend_version < '2.10'", ["4MiB"]),  # another column keeps the order of versions
    ],
)
def test_sizes_are_compared_by_value_and_other_texts_by_their_numbers(text, sizes):
    versions = {"4MiB": "2.9.1", "16KiB": "2.10", "1MiB": "2.11", "4KiB": "10.0"}
    works = [Work("memory", "copy", size, "float64") for size in versions]
    made = [m for of in works for m in processes([1.0], of, backend_version=versions[of.size])]
    assert [row.size for row in reading(made).rows if parse(text)(row) and row.metric == "time"] == sizes


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("wrkload == 'x'", "no column 'wrkload'; did you mean 'workload'? available: schema_version"),
        ("workload = 'x'", "cannot read \"= 'x'\" (character 9); write =="),
        ("wrkload='x'", "no column 'wrkload'; did you mean 'workload'?"),
        ("value > 1 && value < 2", "cannot read '&& value < 2' (character 10); write and"),
        ("!(value > 1)", "cannot read '!(value > 1)' (character 1); write not"),
        ("status == 'okk'", "no status 'okk'; did you mean 'ok'? available: ok, skipped"),
        ("clock in ('wall', 'gpu')", "no clock 'gpu'; available: (empty), wall, device"),
        ("workload == matmul", "expected a constant: 'text' in quotes"),
        ("workload == 'x", "cannot read"),
        ("workload == 'x' workload", "expected and, or, or the end, at 'workload' (character 17)"),
        ("workload", "the filter is incomplete"),
        ("'x' == workload", "expected a column"),
        ("workload not == 'x'", "expected ==, !=, <, <=, >, >=, in or not in"),
        ("workload in 'x'", "expected '('"),
        ("workload in ()", "expected a constant"),
        ("size == 512", "column 'size' holds a str, not 512"),
        ("value == '512'", "column 'value' holds a float, not '512'"),
        ("value > none", "none can be compared only with"),
        ("(" * 60 + "value > 1" + ")" * 60, "nested more than 50 deep"),
        ("not " * 60 + "value > 1", "nested more than 50 deep"),
        ("value > 1 or " * 400 + "value > 1", "characters, but at most 4,000 are allowed"),
        ("__import__('os').system('x')", "cannot read"),
        ("value.__class__ == 1", "cannot read"),
        ("value == 1; 1", "cannot read"),
        ("\x1b[31m", r"cannot read '\x1b[31m'"),
    ],
)
def test_a_filter_that_cannot_be_read_is_a_usage_error_with_its_place(text, said):
    with pytest.raises(UsageError) as caught:
        parse(text)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


PIECES = ["workload", "==", "'a'", "(", ")", "and", "not", "in", ",", "1", "none", "<"]


@given(st.text(max_size=60) | st.lists(st.sampled_from(PIECES), max_size=12).map(" ".join))
def test_any_text_is_a_filter_or_a_usage_error(text):
    try:
        predicate = parse(text)
    except UsageError:
        return
    assert all(predicate(row) in {True, False} for row in ROWS)
