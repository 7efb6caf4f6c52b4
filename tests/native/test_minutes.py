"""What is said of ways of measuring, on planted samples; the runner, on a fake clock; the six kernels."""

import json
import math
import random
import statistics
import sys
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from bench_core import sequential
from bench_core.plan.expansion import expand
from bench_core.records import Clock, Measurement, Preset, Run, Series, Status
from bench_core.results.schema import JOURNAL
from bench_core.run import journal
from tests.native import minutes, six_kernels, ways
from tests.native.six_kernels import KERNELS
from tests.native.ways import PYPERF, PYTEST_BENCHMARK, SUITE, TIMER, Record, Turn, Whole, worth
from tests.support import kernels as support
from tests.support.fakes import FakeClock
from tests.support.planned import CPU, MACHINE


def record(*speeds, took=60.0, once=0.0, kernels=("x", "y"), alone=10.0, spread=0.0):
    """Return turns in which every block of every kernel takes such a time, give or take `spread`."""

    def turn(speed):
        blocks = [speed * (1 - spread), speed, speed * (1 + spread)] * 4
        return Turn(took, dict.fromkeys(kernels, blocks), dict.fromkeys(kernels, alone))

    return Record([turn(speed) for speed in speeds], once)


def test_a_way_whose_turns_agree_needs_the_minutes_of_its_first_and_raises_no_alarm():
    for way in (PYTEST_BENCHMARK, TIMER):
        found = worth(way, record(*[1e-3] * 4, took=30.0, spread=0.01))
        assert (found.says_after, found.truth, found.true_after) == (0.5, 0.0, 0.5)
        assert [a.share for a in found.alarms] == [0.0, 0.0]


def test_a_way_that_claims_three_per_cent_and_is_twelve_off_is_shown_as_such():
    """The blocks of a process agree, its processes are of two speeds."""
    found = worth(PYTEST_BENCHMARK, record(1.0, 1.2, 1.0, 1.2, spread=0.001))
    assert found.says < 0.002
    assert found.truth == pytest.approx(1.2 ** (1 / math.sqrt(2)) - 1)
    assert "14 % !" in "\n".join(minutes.lines([found], 1.0))
    # Of 12 ordered pairs, 4 are of a fast process before a slow one.
    assert [(a.share, a.comparisons, a.apart) for a in found.alarms] == [(pytest.approx(4 / 12), 12, 2)] * 2


def test_a_way_that_says_that_it_does_not_know_claims_nothing_wrong():
    found = worth(PYTEST_BENCHMARK, record(1.0, 1.2, 1.0, 1.2, spread=0.5))
    assert (found.says_after, found.says > ways.PRECISION, found.truth > ways.PRECISION) == (None, True, True)
    assert "% !" not in "\n".join(minutes.lines([found], 1.0))


def test_values_that_repeat_after_two_turns_are_known_in_truth_after_two():
    """Two turns of two speeds have the same median, wherever they begin; in one the speeds are told apart."""
    found = worth(PYTEST_BENCHMARK, record(*[1.0, 1.2] * 3, took=30.0))
    assert found.says_after == 0.5
    assert found.true_after is None, "three turns are not known within 3 %"
    assert worth(PYTEST_BENCHMARK, record(*[1.0, 1.2] * 2, took=30.0)).true_after == 1.0


def test_a_way_that_is_not_precise_after_its_first_turn_takes_more_until_it_says_so():
    wide = record(*[1.0] * 8, spread=0.05)
    halves = [ways.half_of_rounds([turn.values["x"] for turn in wide.turns[:n]]) for n in range(1, 9)]
    needed = next(n for n, half in enumerate(halves, 1) if half <= ways.PRECISION)
    assert needed > 1
    assert worth(PYTEST_BENCHMARK, wide).says_after == needed
    few = worth(PYTEST_BENCHMARK, Record(wide.turns[: needed - 1]))
    assert (few.says_after, few.says) == (None, halves[0]), "of its first turn"
    assert few.truth == (0.0 if needed > 2 else None)
    assert f"> {needed - 1}" in "\n".join(minutes.lines([few], 1.0))


def test_like_pyperf_it_takes_twenty_processes_and_more_if_their_means_differ():
    assert worth(PYPERF, record(*[1.0] * 40, took=3.0, once=30.0)).says_after == 1.5
    # Of n processes, half d faster and half d slower: 1.96 d / sqrt(n - 1) <= 0.03.
    d = 0.07
    needed = next(n for n in range(20, 60, 2) if 1.96 * d / math.sqrt(n - 1) <= ways.PRECISION)
    whole = PYPERF.whole(record(*[1 - d, 1 + d] * 25), 0)
    assert (whole.turns, needed) == (22, 22)
    assert whole.halves["x"] == pytest.approx(1.96 * d / math.sqrt(needed - 1))
    assert not PYPERF.whole(record(*[1 - d, 1 + d] * 10), 0).is_precise
    assert PYPERF.whole(record(*[1.0] * 19), 0) is None


def test_two_measurements_like_pyperf_need_forty_processes():
    assert worth(PYPERF, record(*[1.0] * 39)).alarms[0].share is None
    found = worth(PYPERF, record(*[1.0] * 20, *[1.2] * 20)).alarms[0]
    assert (found.comparisons, found.apart) == (40, 1)
    assert found.share > 0.5, "a drift of the machine is claimed as a change"


def test_this_suite_ends_with_its_first_look_where_processes_agree():
    found = worth(SUITE, record(*[1.0] * 14, took=6.0, once=18.0))
    assert found.says_after == pytest.approx((18.0 + 6.0 * sequential.FIRST) / 60)
    assert (found.says, found.truth, found.true_after) == (0.0, 0.0, pytest.approx(24.0 / 60))
    assert found.alarms[0].share == 0.0


def test_later_rounds_of_this_suite_cost_what_is_still_imprecise():
    """One kernel has three processes that are 10 % off: its interval leaves them out at the first look that can."""
    steady = record(*[1.0] * 21, took=60.0, alone=10.0).turns
    wild = [1.1, 0.9, 1.1, *[1.0] * 18]
    turns = [replace(t, values={"x": t.values["x"], "y": [w] * 3}) for t, w in zip(steady, wild, strict=True)]
    left_out = [(n - limit) // 2 for n, limit in zip(sequential.LOOKS, sequential.boundary(), strict=True)]
    needed = next(n for n, out in zip(sequential.LOOKS, left_out, strict=True) if out >= 2)
    whole = SUITE.whole(Record(turns), 0)
    assert needed > sequential.FIRST
    assert whole.turns == needed
    assert whole.seconds == 60.0 * needed - 10.0 * (needed - sequential.FIRST)
    assert not SUITE.whole(Record(turns[: needed - 1]), 0).is_precise
    few = worth(SUITE, Record(turns[: needed - 1]))
    assert few.says_after is None
    assert few.by_kernel["x"][0] == 0.0
    assert (
        few.says
        == few.by_kernel["y"][0]
        == statistics.median(w.halves["y"] for w in SUITE.first(Record(turns[: needed - 1])))
    )
    assert SUITE.whole(Record(turns[: sequential.FIRST - 1]), 0) is None


def test_compare_claims_what_differs_in_every_pair_and_not_what_drifts():
    assert worth(SUITE, record(*[1.0, 1.2] * 7)).alarms[0].share == 1.0
    assert worth(SUITE, record(*[1.0, 1.04] * 7)).alarms[0].share == 0.0, "below the smallest effect of interest"
    assert worth(SUITE, record(*[1.0] * 7, *[1.2] * 7)).alarms[0].share == 0.0
    assert worth(SUITE, record(*[1.0, 1.2] * 6, 1.0)).alarms[0].share is None, "fewer pairs than the first look"


@pytest.mark.parametrize(("turns", "is_known"), [(38, False), (41, True)])
def test_the_truth_is_what_95_per_cent_of_pairs_keep(turns, is_known):
    """One of them is off: 37 of 703 pairs are 5.3 %, 40 of 820 are 4.9 %."""
    wholes = [Whole(start, 1, 1.0, {"x": 1.0 if start else 2.0}) for start in range(turns)]
    assert ways.truth(wholes, turns, ["x"]) == (0.0 if is_known else pytest.approx(2.0 ** (1 / math.sqrt(2)) - 1))


def test_the_minutes_are_those_after_which_more_than_half_say_so():
    """Two of five measurements begin with a turn whose blocks agree, the others need more than that."""
    narrow, wide = (record(1.0, spread=spread).turns[0] for spread in (0.0, 0.4))
    mixed = Record([narrow, wide, narrow, wide, wide])
    turns = sorted(PYTEST_BENCHMARK.whole(mixed, start).turns for start in range(5))
    assert turns[:2] == [1, 1]
    assert worth(PYTEST_BENCHMARK, mixed).says_after == turns[2] > 1


def test_measurements_that_are_set_against_each_other_share_no_turn():
    n = 9
    wholes = [Whole(start, turns, 1.0, {"x": 1.0}) for start, turns in enumerate([1, 2, 3, 4, 5, 1, 2, 7, 9])]
    of = {whole.start: {(whole.start + i) % n for i in range(whole.turns)} for whole in wholes}
    expected = [(a, b) for a, b in combinations(wholes, 2) if not of[a.start] & of[b.start]]
    assert list(ways._disjoint(wholes, n)) == expected
    assert expected


# ---------------------------------------------------------------- the statistics of others


def test_the_interval_of_timer_is_that_by_which_compare_trims_digits():
    common = pytest.importorskip("torch.utils.benchmark.utils.common")
    rng, found = np.random.default_rng(0), set()
    for spread in np.geomspace(1e-4, 1.0, 300):
        times = list(1e-3 * np.exp(spread * rng.standard_normal(rng.integers(5, 40))))
        digits = min(max(math.floor(-math.log10(ways.half_of_timer([times]))), 1), 4)
        assert digits == common.Measurement(1, times, common.TaskSpec("", "")).significant_figures
        found.add(digits)
    assert found == {1, 2, 3, 4}


def test_compare_marks_as_best_what_the_rule_says():
    compare = pytest.importorskip("torch.utils.benchmark.utils.compare")
    for seconds in (1.0, 1.009, 1.011, 1.2, 2e-6, 2.09e-6, 2.11e-6):
        least = 1.0 if seconds >= 1.0 else 2e-6
        marked = compare._Row.color_segment("", seconds, least).startswith(compare.BEST)
        assert ways.unmarked([least] * 3, [seconds] * 3) is not marked
        assert ways.unmarked([seconds] * 3, [least] * 3) is not marked


@pytest.mark.parametrize(("t", "is_significant"), [(1.97, False), (-1.97, False), (1.99, True), (-1.99, True)])
def test_the_rule_of_pyperf_is_students_t_test(t, is_significant):
    """Of twice 60 values; the quantile for 118 degrees of freedom is 1.980, and pyperf's table has 1.984."""
    first = [0.9, 1.1] * 30
    by = t * math.sqrt(statistics.variance(first) * 2 / 60)
    assert ways.significant(first, [x + by for x in first]) is is_significant


def test_quartiles_lie_apart_only_if_nothing_is_in_both():
    low, high = [1.0, 2.0, 3.0, 4.0, 5.0], [4.0, 5.0, 6.0, 7.0, 8.0]  # quartiles 2 to 4, and 5 to 7
    assert ways.quartiles_apart(low, high)
    assert ways.quartiles_apart(high, low)
    assert not ways.quartiles_apart(low, [x - 1.0 for x in high])


# ---------------------------------------------------------------- the runner


def entrant(way, clock, took, log, once=0.0):
    def begin():
        clock.pass_(once)
        return once

    def turn():
        clock.pass_(took)
        log.append(way.name)
        return Turn(took, {"x": [1.0]})

    return minutes.Entrant(way, begin, turn)


def test_turns_alternate_at_random_until_the_time_is_up_and_each_way_has_its_share():
    clock, log = FakeClock(), []
    entrants = [entrant(SUITE, clock, 6.0, log, 3.0), entrant(TIMER, clock, 4.0, log), entrant(PYPERF, clock, 8.0, log)]
    records = minutes.collect(entrants, 2000.0, random.Random(1), clock)
    assert 2000.0 <= clock() < 2008.0
    assert [r.once for r in records] == [3.0, 0.0, 0.0]
    assert [len(r.turns) for r in records] == [log.count(e.way.name) for e in entrants]
    wanted = [e.wanted for e in entrants]
    for r, want in zip(records, wanted, strict=True):
        assert len(r.turns) / len(log) == pytest.approx(want / sum(wanted), rel=0.2)
    assert log[3:23] != sorted(log[3:23])
    another, fresh = [], FakeClock()
    again = [entrant(e.way, fresh, 6.0, another) for e in entrants]
    minutes.collect(again, 500.0, random.Random(1), fresh)
    assert another[:40] == log[:40], "a seed repeats the order"


def test_each_way_has_a_turn_however_short_the_time():
    clock, log = FakeClock(), []
    entrants = [entrant(way, clock, 6.0, log, 3.0) for way in ways.WAYS]
    records = minutes.collect(entrants, 1.0, random.Random(0), clock)
    assert [len(r.turns) for r in records] == [1] * 4


def test_what_cannot_be_said_is_a_dash():
    """From one turn of each."""
    said = minutes.lines([worth(way, record(1.0)) for way in ways.WAYS], 1.0)
    suite = next(line for line in said if line.startswith(SUITE.name))
    assert suite.removeprefix(SUITE.name).split() == [">", "1", "-", "-", ">", "1"]
    assert [line.split()[:4] for line in said if line.startswith(("x ", "y "))] == [[k, "-", "/", "-"] for k in "xy"]


def journal_of(status):
    """Return what takes the place of a session: it writes a journal of the six, and of what is not one of them."""

    def run(command, folder):
        output = next(a.partition("=")[2] for a in command if a.startswith("--bench-output="))
        cases = [case for six in {s.workload.name: s for s in KERNELS.values()}.values() for case in planned(six)]
        into = minutes.Path(output) / "box" / "run"
        into.mkdir(parents=True)
        kept = journal.Journal(into, journal.Head(Run("r", "2001-01-01T00:00:00+00:00", "box"), tuple(cases)))
        for i, case in enumerate(cases, 1):
            series = (Series("time", Clock.WALL, (float(i), float(i))),)
            here = any(s.backend == case.backend and s.work == case.work for s in KERNELS.values())
            if here and status is Status.OK:
                kept.append(Measurement(case, Status.OK, series=series, elapsed_s=2.0 * i))
            else:
                kept.append(Measurement.missing(case, status if here else Status.UNSUPPORTED, "code", "no memory"))
        kept.close()
        assert (into / JOURNAL).is_file()
        return ""

    return run


def planned(six):
    return list(expand(six.workload, Preset.QUICK, CPU, lambda _: MACHINE))


def test_a_turn_of_this_suite_is_a_session_of_the_six_read_from_its_journal(tmp_path, monkeypatch):
    monkeypatch.setattr(minutes, "_run", journal_of(Status.OK))
    turn = minutes.suite(tmp_path, random.Random(0)).turn()
    assert list(turn.values) == list(KERNELS)
    assert all(turn.alone[name] == 2.0 * values[0] for name, values in turn.values.items())
    assert len({values[0] for values in turn.values.values()}) == 6
    monkeypatch.setattr(minutes, "_run", journal_of(Status.OOM))
    with pytest.raises(RuntimeError, match=r"product: no memory"):
        minutes.suite(tmp_path, random.Random(0)).turn()


def test_a_turn_of_pytest_benchmark_is_read_from_its_own_file(tmp_path, monkeypatch):
    def run(command, folder):
        assert not any("bench-" in a for a in command if not a.startswith("--benchmark-json"))
        of = [{"params": {"name": name}, "stats": {"data": [1.0, 2.0]}} for name in KERNELS]
        (folder / "results.json").write_text(json.dumps({"benchmarks": of}))
        return ""

    monkeypatch.setattr(minutes, "_run", run)
    assert minutes.pytest_benchmark(tmp_path).turn().values == {name: [1.0, 2.0] for name in KERNELS}


def test_workers_like_pyperfs_run_one_kernel_each_with_the_loops_that_were_calibrated(monkeypatch):
    asked = []

    def child(*arguments):
        asked.append(arguments)
        return "[1.0, 2.0, 3.0]" if len(arguments) == 3 else f"{len(asked)}\n"

    monkeypatch.setattr(minutes, "_child", child)
    way = minutes.like_pyperf(random.Random(0))
    way.begin()
    assert way.turn().values == {name: [1.0, 2.0, 3.0] for name in KERNELS}
    assert asked[:6] == [("pyperf", name) for name in KERNELS]
    assert sorted(asked[6:]) == sorted(("pyperf", name, str(i)) for i, name in enumerate(KERNELS, 1))


def test_a_process_that_fails_is_named_with_what_it_said():
    with pytest.raises(RuntimeError, match=r"-c .*: no such kernel"):
        minutes._run([sys.executable, "-c", "raise ValueError('no such kernel')"])


# ---------------------------------------------------------------- the six kernels


def test_the_suite_plans_the_six_as_other_ways_build_them():
    found = [
        (case.work, case.backend, case.implementation)
        for workload in {s.workload.name: s.workload for s in KERNELS.values()}.values()
        for target in CPU
        for case in expand(workload, Preset.QUICK, [target], lambda _: MACHINE)
        if workload.builders(target)
    ]
    assert sorted(found, key=str) == sorted(((s.work, s.backend, "default") for s in KERNELS.values()), key=str)
    assert all(f"KERNELS[{name!r}]" in minutes.SUITE for name, six in KERNELS.items() if six.backend == "numpy")


@pytest.mark.parametrize("name", KERNELS)
def test_each_of_the_six_is_built_with_the_right_answer(name):
    six = KERNELS[name]
    if six.backend == "torch":
        pytest.importorskip("torch")
    with support.backend(six.backend) as on:
        answer = support.answer(six_kernels.built(name), on)
        expected = six.workload.reference(six.work, support.inputs(six.workload, six.work))
        assert six.workload.verify(six.work, expected, answer) < 1e-3


def test_loops_double_until_a_value_takes_long_enough_and_the_first_value_does_not_count():
    clock, calls = FakeClock(), []

    def run():
        calls.append(clock())
        clock.pass_(0.5 if len(calls) == 1 else 0.004)

    calls.append(None)
    assert six_kernels.calibrated(run, clock) == 32
    assert len(calls) - 1 == 1 + 2 + 4 + 8 + 16 + 4 * 32
    calls.clear()
    assert six_kernels.values(run, 8, clock) == [pytest.approx(0.004)] * 3
    assert len(calls) == 4 * 8
    assert statistics.fmean(six_kernels.values(run, 1, clock)) == pytest.approx(0.004)
