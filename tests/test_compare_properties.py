"""Comparing tables: implausible numbers, laws that hold for any numbers, and real files."""

import shutil
from dataclasses import replace

import pytest

from bench_core import render
from bench_core.compare import Method, Options, Reading, Verdict, compare, read
from bench_core.errors import NothingToCompare, TableError, UsageError
from tests.properties import given, settings, st
from tests.tables import processes, reading, work, write
from tests.test_compare import FIVE, only, two

# ---------------------------------------------------------------- doubts


def test_a_rate_that_is_not_its_work_over_its_time_is_doubted():
    a, b = two(FIVE, FIVE)
    cut = dict.fromkeys(("ci_low", "ci_high", "min", "max", "p10", "p25", "p75", "p90"))
    rows = tuple(replace(r, value=r.value * 10, **cut) if r.metric == "flop_rate" else r for r in b.rows)
    result = compare([a, replace(b, rows=rows)], Options(metrics=("flop_rate",), fail_on=("invalid",)))
    (doubt,) = result.doubts
    assert doubt.startswith("b ")
    assert "is not flops = 1e+06" in doubt
    assert result.breaches == (f"invalid: 1 case wrong or implausible: {doubt}",)
    assert [c.side for c in result.comparisons if c.doubts] == ["b"]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [({"p10": 5.0}, "out of order"), ({"ci_low": 5.0}, "outside its own interval"), ({"value": -1.0}, "not positive")],
)
def test_rows_that_contradict_themselves_are_doubted(wrong, said):
    a, b = two(FIVE, FIVE)
    rows = tuple(replace(row, **wrong) if row.metric == "time" else row for row in b.rows)
    more = [reading(processes(FIVE, of=work("32")), name, run_id=f"more-{name}") for name in "ab"]
    assert any(said in doubt for doubt in compare([a, replace(b, rows=rows), *more]).doubts)


# ---------------------------------------------------------------- properties

TIMES = st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(TIMES, TIMES)
def test_antisymmetry(a, b):
    """Swapping the sides inverts ratio and interval and swaps faster with slower."""
    forth, back = only(two(a, b), baseline="a"), only(two(a, b), baseline="b")
    assert forth.ratio * back.ratio == pytest.approx(1, rel=1e-9)
    assert forth.ci_low * back.ci_high == pytest.approx(1, rel=1e-9)
    assert forth.p == pytest.approx(back.p) if forth.p else back.p == forth.p
    opposite = {Verdict.FASTER: Verdict.SLOWER, Verdict.SLOWER: Verdict.FASTER}
    assert back.verdict is opposite.get(forth.verdict, forth.verdict)


@settings(max_examples=60, deadline=None)
@given(TIMES, TIMES, st.floats(1e-3, 1e3))
def test_scale_invariance(a, b, scale):
    """A machine on which everything takes `scale` times as long changes no comparison made on it."""
    plain, scaled = only(two(a, b)), only(two([scale * t for t in a], [scale * t for t in b]))
    assert scaled.ratio == pytest.approx(plain.ratio, rel=1e-6)
    assert scaled.ci_low == pytest.approx(plain.ci_low, rel=1e-4)


@settings(max_examples=25, deadline=None)
@given(st.permutations(range(6)), st.data())
def test_the_order_of_files_changes_nothing(order, data):
    tables = [
        reading(processes([t * (1 + i)], of=work("32")), m, run_id=f"{m}{i}")
        for m in "abc"
        for i, t in ((0, 1.0), (1, 1.1))
    ]
    plain = compare(tables, Options(baseline="a"))
    shuffled = compare([tables[i] for i in order], Options(baseline="a"))

    def facts(result):
        return {(c.side, c.ratio, c.ci_low, c.verdict, c.reason) for c in result.comparisons}

    assert facts(plain) == facts(shuffled)
    again = data.draw(st.integers(0, 5))
    assert facts(compare([*tables, replace(tables[again], path="copy")], Options(baseline="a"))) == facts(plain)


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
    """Rows that nobody measured, from a file of a stranger: an answer or one line, never a traceback."""
    (row, *_) = reading(processes(FIVE), "a").rows
    tables = [
        replace(
            Reading.of(f"{i}.csv", [replace(row, run_id=f"r{i}", **fields)], "ab"[i % 2]),
            sidecar=reading(processes(FIVE), "a").sidecar if samples else Reading("", "", ()).sidecar,
        )
        for i, fields in enumerate(forged)
    ]
    try:
        result = compare(tables, Options(metrics=("time", "flop_rate", "peak_memory")))
    except NothingToCompare:
        return
    for show in (render.text, render.markdown, render.as_csv, render.as_json):
        assert show(result)
    for c in result.compared:
        assert c.ci_low <= c.ratio <= c.ci_high


# ---------------------------------------------------------------- files


def test_files_folders_patterns_and_labels(tmp_path):
    a, b = write(tmp_path, processes(FIVE), "a"), write(tmp_path, processes([2 * t for t in FIVE]), "b")
    write(tmp_path / "unfinished", processes([9.0]), "a", run_id="part")
    patterns = [f"{tmp_path}/*/*"], [f"{tmp_path}/*"], [f"{tmp_path}/**/results.csv"]
    for arguments in ([str(tmp_path)], [str(a), str(b / "results.csv")], *patterns, [f"a={a}", f"z={b}"]):
        c = only(read(arguments))
        assert (c.method, c.change) == (Method.WELCH, "2.00x slower")
    assert only(read([f"old={a}", f"new={b}"])).side == "new"
    assert [r.source.run_ids for r in read([f"{tmp_path}/unfinished/*/*"])] == [("part",)]


def test_a_lone_table_is_said_to_be_one(tmp_path):
    a, b = (write(tmp_path, processes(FIVE), name) for name in "ab")
    lone = shutil.copy(b / "results.csv", tmp_path / "b.csv")
    result = compare(read([str(a), str(lone)]))
    assert result.notes == (f"{lone}: a lone table: its intervals are used, not its samples",)
    assert result.comparisons[0].basis.startswith("median")


def test_a_label_for_two_machines_is_refused(tmp_path):
    for name in "ab":
        write(tmp_path, processes(FIVE), name)
    with pytest.raises(UsageError, match="label 'x' stands for 2 machines: a, b"):
        read([f"x={tmp_path}"])


def test_a_pattern_that_matches_nothing_is_an_error(tmp_path):
    with pytest.raises(TableError, match="no file matches"):
        read([f"{tmp_path}/*.csv"])


def test_five_machines_against_one(tmp_path):
    for i, name in enumerate("abcde"):
        write(tmp_path, processes([(1 + i) * t for t in FIVE]), name)
    result = compare(read([str(tmp_path)]))
    assert result.sides == tuple("abcde")
    assert [c.change for c in result.comparisons] == [f"{i}.00x slower" for i in (2, 3, 4, 5)]
    assert len(result.means) == 4
