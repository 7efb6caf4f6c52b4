"""Records: the same work has one join key everywhere, JSON loses nothing, and a status or a row says what it is."""

import json
import os
import subprocess
import sys
from dataclasses import fields, replace

import pytest

from bench_core.records import (
    Cache,
    Case,
    Clock,
    Costs,
    Measurement,
    Part,
    Row,
    Scope,
    Series,
    Status,
    Target,
    Work,
    count_of_devices,
    count_statuses,
    identifier,
    is_several,
    is_unchecked,
    measurement_from_json,
    severity,
    to_json,
)
from bench_core.results.rows import rows_of_case
from tests.support.measurements import CASE, RUN, measurement
from tests.support.properties import given, settings, st

NAME = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.+:/-]{0,8}", fullmatch=True)
VALUE = st.integers(-(2**53), 2**53) | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | NAME
WORKS = st.builds(
    Work,
    suite=NAME,
    workload=NAME,
    size=NAME,
    dtype=NAME,
    params=st.dictionaries(NAME, VALUE, max_size=5).map(lambda d: tuple(d.items())),
    precision=NAME,
    version=st.integers(1, 99),
    scope=st.sampled_from(Scope),
    cache=st.sampled_from(Cache),
)
FINITE = st.floats(0, 1e9)
MEASUREMENTS = st.builds(
    Measurement,
    case=st.builds(Case, WORKS, NAME, NAME, NAME, st.none() | st.integers(1, 512)),
    status=st.sampled_from(Status),
    reason=st.text(max_size=20),
    costs=st.builds(Costs, st.none() | FINITE, st.none() | FINITE, st.none() | FINITE, st.dictionaries(NAME, FINITE)),
    series=st.lists(
        st.builds(Series, NAME, st.sampled_from(Clock), st.lists(FINITE, max_size=4).map(tuple)), max_size=2
    ).map(tuple),
    values=st.dictionaries(NAME, FINITE, max_size=3),
    flags=st.lists(NAME, max_size=3).map(tuple),
    rel_error=st.none() | FINITE,
    process=st.integers(0, 9),
    spent=st.dictionaries(st.sampled_from(Part), st.floats(0, 1e6), max_size=2),
)


@given(WORKS, st.randoms())
def test_the_order_of_parameters_does_not_matter(work, random):
    pairs = list(work.params)
    random.shuffle(pairs)
    shuffled = Work(**{**{f: getattr(work, f) for f in Work.__slots__}, "params": tuple(pairs)})
    assert shuffled == work
    assert shuffled.case_id == work.case_id


@given(WORKS, WORKS)
def test_different_work_has_a_different_id(one, other):
    assert (one.case_id == other.case_id) == (to_json(one) == to_json(other) and typed(one) == typed(other))


def typed(work):
    """The parameters with their types: 1, 1.0 and True are equal in Python and different in JSON."""
    return json.dumps(to_json(work), sort_keys=True)


@given(WORKS, NAME, NAME, st.integers(1, 64))
def test_the_id_says_nothing_of_who_did_the_work(work, backend, device, threads):
    assert Case(work, backend, device, "tuned", threads).work.case_id == Case(work, "numpy", "cpu").work.case_id


def test_the_id_is_the_same_in_every_process_and_on_every_platform():
    """Pinned: a change of this value orphans every published table, so it needs a new schema version."""
    work = Work("matmul", "matmul", "1024", "float32", (("m", 1024), ("k", 1024), ("n", 1024)), precision="tf32")
    assert work.case_id == "c_046bd6e862754109"
    code = (
        "from bench_core.records import Work; print(Work('matmul', 'matmul', '1024', 'float32', "
        "{'n': 1024, 'k': 1024, 'm': 1024}, precision='tf32').case_id)"
    )
    for seed in ("0", "1"):
        environ = os.environ | {"PYTHONHASHSEED": seed, "LC_ALL": "C"}
        done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == work.case_id


@settings(max_examples=50)
@given(MEASUREMENTS)
def test_a_measurement_comes_back_from_json(measurement):
    text = json.dumps(to_json(measurement), allow_nan=False)
    assert measurement_from_json(json.loads(text)) == measurement


@pytest.mark.parametrize("text", ["", " ", "a b", "=1", "-x", "../x\n", "a,b", "a;b", "a'b", "<b>", "naïve", "\x1b[0m"])
def test_an_identifier_is_nothing_but_a_name(text):
    with pytest.raises(ValueError, match="is not an identifier"):
        identifier(text)
    with pytest.raises(ValueError, match="is not an identifier"):
        Work("matmul", "matmul", text, "float32")


@pytest.mark.parametrize(
    ("device", "kind", "ranks"),
    [("cpu", "cpu", 1), ("cuda:1", "cuda", 1), ("cpu:x2", "cpu", 2), ("cuda:x16", "cuda", 16), ("cuda", "cuda", 1)],
)
def test_the_address_of_devices_tells_their_type_and_number(device, kind, ranks):
    work = Work("s", "w", "1", "float32")
    for of in (Case(work, "torch", device), Target("torch", "torch", device)):
        assert (of.device_type, of.ranks) == (kind, ranks)
    assert identifier(device) == device


@pytest.mark.parametrize("device", ["cpu:x0", "cpu:x1"])
def test_less_than_two_devices_are_not_several(device):
    with pytest.raises(ValueError, match=f"^{device}: several devices are two or more$"):
        count_of_devices(device)


@pytest.mark.parametrize(
    "which",
    ["x", "x-2", "X2", "X", "x2:0", "x\uff12", "x\u0662", "x100000", "x99999999999999999999", "x02", "x00", "x2 ",
     " x2", "x2\n", "xx", "x+2", "x2.0", "x1_0"],
)  # fmt: skip
def test_a_device_that_begins_with_x_without_a_number_from_2_to_99999_is_refused(which):
    """It would be taken for the name of one device that is not there."""
    with pytest.raises(ValueError, match=r"several devices are x and their number, 2 to 99999, as in cuda:x2$"):
        count_of_devices(f"cuda:{which}")
    assert not is_several(f"cuda:{which}")


@pytest.mark.parametrize(
    ("device", "count"),
    [("", 1), ("cpu", 1), ("xpu", 1), ("xpu:0", 1), ("cuda:1", 1), ("cuda:x2", 2), ("xpu:x10", 10),
     ("cpu:x99999", 99999)],
)  # fmt: skip
def test_the_number_of_devices_is_that_of_their_address(device, count):
    assert count_of_devices(device) == count
    assert is_several(device) is (count > 1)


def test_a_work_says_how_many_processes_compute_it():
    assert Work("s", "w", "1", "float32").ranks == 1
    assert Work("s", "w", "1", "float32", (("ranks", 4),)).ranks == 4


def test_statuses_add_up():
    case = Case(Work("a", "b", "1", "float32"), "numpy", "cpu")
    done = [Measurement(case, status) for status in (Status.OK, Status.OOM, Status.OK)]
    assert count_statuses(done) == {Status.OK: 2, Status.OOM: 1}


def test_a_reason_is_one_line_that_every_reader_of_csv_takes():
    """Both ends of a long message are kept: the beginning names the error, the end its cause."""
    case = Case(Work("a", "b", "1", "float32"), "numpy", "cpu")
    said = Measurement.missing(case, Status.ERROR, "x", "first\nline " + "x" * 10**6 + " the end").reason
    assert said.startswith("first line x")
    assert said.endswith("x the end")
    assert len(said) <= 1000
    assert "\n" not in said


def test_a_sample_that_is_not_a_time_is_refused():
    case = Case(Work("a", "b", "1", "float32"), "numpy", "cpu")
    plain = to_json(Measurement(case, Status.OK, series=(Series("time", Clock.WALL, (1.0,)),)))
    for wrong in (-1.0, float("nan"), float("inf"), "1"):
        plain["series"][0]["seconds"] = [wrong]
        with pytest.raises(ValueError, match="not a valid time"):
            measurement_from_json(plain)


@pytest.mark.parametrize("wrong", [-1.0, float("nan"), float("inf"), "1", None])
@pytest.mark.parametrize("name", ["spent", "timed_s", "other_s", "claimed_s", "disturbance"])
def test_what_a_child_claims_is_a_time_or_refused(name, wrong):
    """A parent compares it with its own."""
    case = Case(Work("a", "b", "1", "float32"), "numpy", "cpu")
    plain = to_json(Measurement(case, Status.OK, series=(Series("time", Clock.WALL, (1.0,)),)))
    if name == "spent":
        plain[name] = {"timed": wrong}
    else:
        (plain if name in {"timed_s", "other_s"} else plain["series"][0])[name] = wrong
    with pytest.raises(ValueError, match="time"):
        measurement_from_json(plain)


def test_a_series_comes_back_from_json_with_what_was_lost():
    case = Case(Work("a", "b", "1", "float32"), "numpy", "cpu")
    lost = {"steal": 2.0, "context_switches": 0.5}
    series = Series("time", Clock.WALL, (1.0, 2.0, 0.5), 2, (1, 2), ("never_quiet",), 9.0, lost, 0.25)
    done = Measurement(case, Status.OK, series=(series,), other_s=7.0)
    plain = json.loads(json.dumps(to_json(done)))
    assert measurement_from_json(plain) == done
    assert (series.calm, series.timed_s) == ((1.0,), 7.0)
    plain["series"][0]["lost"]["steal"] = -1.0
    with pytest.raises(ValueError, match="invalid time"):
        measurement_from_json(plain)


def test_a_journal_of_before_timers_told_their_seconds_can_be_read():
    case = Case(Work("a", "b", "1", "float32"), "numpy", "cpu")
    done = Measurement(case, Status.OK, series=(Series("time", Clock.WALL, (1.0,), claimed_s=2.0),))
    plain = to_json(done)
    assert measurement_from_json(plain) == done
    del plain["series"][0]["claimed_s"]
    assert measurement_from_json(plain).series[0].claimed_s == 0.0


def test_blocks_that_an_earlier_version_marked_by_their_own_time_count():
    case = Case(Work("a", "b", "1", "float32"), "numpy", "cpu")
    plain = to_json(Measurement(case, Status.OK, series=(Series("time", Clock.WALL, (1.0, 2.0), noisy=(1,)),)))
    assert measurement_from_json(plain).series[0].calm == (1.0,)
    del plain["series"][0]["lost"]
    assert measurement_from_json(plain).series[0].calm == (1.0, 2.0)


def test_a_journal_of_before_there_was_an_account_can_be_read():
    done = Measurement(Case(Work("a", "b", "1", "float32"), "numpy", "cpu"), Status.OK, elapsed_s=3.0)
    plain = to_json(done) | {"timed_s": 1.5, "recheck_s": 0.5}
    del plain["spent"]
    assert measurement_from_json(plain) == replace(done, spent={Part.TIMED: 1.5, Part.SECOND_LOOK: 0.5})


def test_the_label_leaves_the_usual_unsaid():
    work = Work("a", "b", "64", "float32")
    assert Case(work, "numpy", "cpu").label == "numpy-cpu-float32-64"
    odd = Work("a", "b", "64", "float32", precision="tf32", scope=Scope.END_TO_END, cache=Cache.COLD)
    assert Case(odd, "torch", "cuda:0", "tuned", 4).label == "torch-cuda:0-tuned-float32-tf32-64-end_to_end-cold-4t"


def test_a_crash_is_worse_than_a_skipped_case():
    assert min(Status, key=severity) == "crashed"
    assert sorted(Status, key=severity)[-2:] == ["skipped", "ok"]


def test_who_did_the_work_is_the_backend_and_whatever_is_not_its_default():
    assert next(rows_of_case(RUN, [measurement()])).who == "numpy"
    tuned = Measurement(Case(CASE.work, "numpy", "cpu", "tuned"), Status.OK, series=measurement().series)
    assert next(rows_of_case(RUN, [tuned])).who == "numpy tuned"


def test_rows_made_of_columns_are_those_made_one_by_one():
    each = [{f.name: f"{f.name} {i}" for f in fields(Row)} for i in range(3)]
    columns = {f.name: [values[f.name] for values in each] for f in fields(Row)}
    assert Row.of_columns(columns, 3) == [Row(**values) for values in each]
    assert not columns, "a column stays in memory after it was used"


def test_columns_of_another_length_make_no_rows():
    columns = {f.name: [None, None] for f in fields(Row)} | {"value": [None]}
    with pytest.raises(ValueError, match="1 values of value for 2 rows"):
        Row.of_columns(columns, 2)


@pytest.mark.parametrize(
    ("flags", "unchecked", "imported"),
    [
        ("", False, False),
        ("unchecked_timing;single_run", False, False),
        ("single_run;unchecked", True, False),
        ("unchecked;imported", True, True),
    ],
)
def test_a_row_says_whether_nothing_has_checked_it_and_whether_another_program_measured_it(flags, unchecked, imported):
    row, *_ = rows_of_case(RUN, [measurement()])
    row = replace(row, flags=flags)
    assert (row.is_unchecked, row.is_imported, is_unchecked(flags)) == (unchecked, imported, unchecked)
