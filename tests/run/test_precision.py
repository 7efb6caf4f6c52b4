"""When a series with a precision ends, what it measures until then, and how often its intervals are right."""

import json
import math
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
import pytest

from bench_core import sequential, stats
from bench_core.compare import CompareOptions, Method, compare, read
from bench_core.records import Measurement, Part, Status, Traits
from bench_core.render.precision import lines
from bench_core.results import reader
from bench_core.results.traits import TraitsOf
from bench_core.run.precision import NEAREST, Goal, Precision, percent
from bench_core.run.replicate import Side, repeat
from bench_core.run.session import BUDGETS, ROUND_BUDGET, Preset, read_cases
from tests.support.pretended_runs import pretend
from tests.support.simulated_series import SESSION, Machine, Noise, cases, least_median, until_precise
from tests.support.tables import absent, measured

THIS, BOTH = [Side("this")], [Side("this"), Side("against", "python-b")]


# ---------------------------------------------------------------- what is promised, on simulated machines

NOISES = {
    "log-normal": Noise(0.05),
    "skewed": Noise(0.05, skewed=True),
    "two speeds, a tenth slow": Noise(0.01, slow=0.25, share=0.1),
    "two speeds, three tenths slow": Noise(0.01, slow=0.25, share=0.3),
    "two speeds, nearly half slow": Noise(0.01, slow=0.25, share=0.45),
}


def short(rng, works):
    return 1e-3 * (1 + 0.05 * rng.random(works))


def mixed(rng, works):
    """From 10 us to 2 s, as in a suite of loops, products and models."""
    return np.exp(rng.uniform(math.log(1e-5), math.log(2.0), works))


def long(rng, works):
    return np.exp(rng.uniform(math.log(0.1), math.log(2.0), works))


def machine(seed, noises, budget=ROUND_BUDGET, implementations=1, calls=short):
    """Return a machine whose cases have these noises; implementations of one work are up to 5 % apart."""
    rng = np.random.default_rng(seed)
    works = len(noises) // implementations
    of = cases(works, implementations)
    seconds = [t * (1 + 0.05 * rng.random()) for t in calls(rng, works) for _ in range(implementations)]
    return Machine(rng, dict(zip(of, seconds, strict=True)), dict(zip(of, noises, strict=True)), budget)


def differing(seed):
    """Return the noises of 80 cases: between processes 4 % in the median of all cases, 1.5 to 11 % in most."""
    return [Noise(0.04 * math.exp(z)) for z in np.random.default_rng(seed).standard_normal(80)]


def share_covered(found):
    """Return the share of intervals that hold the true value, of pairs of a Value and that."""
    held = [value.ends[0] <= true <= value.ends[1] for value, true in found if value.ends]
    assert len(held) > 450
    return sum(held) / len(held)


@pytest.mark.parametrize("noise", NOISES)
def test_the_interval_at_the_end_holds_the_median_as_often_as_stated(noise):
    """Some values end as soon as they are precise, some when the time is up, at any look."""
    found = []
    for seed in range(6):
        of = machine(seed, [NOISES[noise]] * 90, implementations=2, calls=(short, mixed)[seed % 2])
        series = until_precise(of, Goal(0.03, 500.0))
        found += [(value, of.true(value.case)) for value in series.known]
    assert share_covered(found) >= 0.94
    assert len({len(value.numbers) for value, _ in found}) > 2


def test_the_interval_of_a_ratio_holds_it_as_often_as_stated_though_a_verdict_ends_the_series():
    found = []
    for seed in range(5):
        of = machine(seed, [NOISES["two speeds, three tenths slow"]] * 110)
        series = until_precise(of, Goal(0.03, 600.0), factors=(1.0, 1.1))
        found += [(value, 1.1) for value in series.known]
    assert share_covered(found) >= 0.94


@pytest.mark.parametrize(("calls", "share"), [(short, 0.4), (mixed, 0.55), (long, 1.15)])
def test_intervals_are_about_half_as_wide_as_those_of_three_runs_unless_every_call_is_long(calls, share):
    """Three runs with the budget of `quick`. bench_core/compare/README.md has the figures that this prints."""
    found = []
    for seed in range(10):
        of = machine(seed, differing(seed), BUDGETS[Preset.QUICK], implementations=4, calls=calls)
        three = [of.session(of.seconds, SESSION) for _ in range(3)]
        ends = [stats.log_mean_interval([run[case].series[0].seconds[0] for run in three]) for case in of.seconds]
        wide = [math.sqrt(high / low) - 1 for low, high in ends]
        goal, of_rounds = Goal(0.03, of.clock), of.with_budget(ROUND_BUDGET)
        series = until_precise(of_rounds, goal)
        narrow = [math.inf if value.precision is None else value.precision for value in series.known]
        inside = [sum(each <= goal.precision for each in several) for several in (narrow, wide)]
        least = least_median(of_rounds, goal.seconds)
        found.append((median(narrow), median(wide), least, *inside, sum(map(math.isinf, narrow))))
    narrow, wide, least, *counts = (median(each) for each in zip(*found, strict=True))
    print(f"\n{calls.__name__} calls: median interval {narrow:.2%}, of three runs {wide:.2%}, at best {least:.2%}")
    print("of 80 values within 3 %: {:g}, of three runs {:g}; without an interval {:g}".format(*counts))
    assert least < narrow <= share * wide


def test_a_series_ends_in_time_however_little_there_is():
    for seconds in (1.0, 60.0, 100.0, 300.0):
        of = machine(1, [Noise(0.05)] * 80)
        series = until_precise(of, Goal(0.001, seconds))
        assert series.ended == "the time is up" or " min longer than --time" in series.ended
        assert of.clock <= seconds or len(series.rounds) == 1  # a round must be measured to know how long one takes


# ---------------------------------------------------------------- what is measured


def add(series, numbers, seconds=10.0, status=Status.OK, elapsed=1.0, **sides):
    """Add a round: seconds of each case on side `this`, and those of other sides."""
    by_side = {"this": numbers} | sides
    done = {
        side: {
            case: replace(measured([t]), case=case, elapsed_s=elapsed)
            if t
            else Measurement.missing(case, status, "code", "why", elapsed_s=elapsed)
            for case, t in mine.items()
        }
        for side, mine in by_side.items()
    }
    series.add(done, seconds, TraitsOf())


def begun(of, rounds, left=math.inf, **known):
    """Return a series after some rounds. of: by case the numbers of each round. left: the seconds that are left."""
    series = Precision(Goal(0.03, left), THIS, folder=None, now=lambda: 0.0)
    for number in range(rounds):
        add(series, {case: numbers[number] for case, numbers in of.items()}, **known)
    return series


def chosen(series):
    series.next(len(series.rounds))
    return series.chosen


def around(middle, width, rounds=48):
    return [middle * math.exp(width * (2 * (7 * i % rounds) / rounds - 1)) for i in range(rounds)]


A, B, C, D = cases(2, 2)
GPU = replace(A, backend="torch", device="cuda:0")


def test_all_cases_are_measured_until_the_first_look_and_then_those_that_are_not_precise():
    of = {A: around(1.0, 0.001), B: around(2.0, 0.2)}
    for rounds in range(1, sequential.FIRST):
        assert set(chosen(begun(of, rounds))) == {A, B}
    assert chosen(begun(of, sequential.FIRST)) == [B]


def test_a_case_that_is_under_way_goes_on_until_its_next_look():
    """Its look may come when another value, or its own, is precise already: the schedule of looks is kept."""
    of = {A: around(1.0, 0.2), B: around(5.0, 0.2)}
    series = begun(of, sequential.FIRST + 1)
    series.goal = Goal(0.9)
    assert set(chosen(series)) == {A, B}
    series = begun(of, sequential.LOOKS[1])
    series.goal = Goal(0.9)
    assert chosen(series) == []


def test_after_the_last_look_a_value_is_left_as_it_is():
    series = begun({A: around(1.0, 0.5)}, sequential.LAST)
    assert chosen(series) == []
    assert series.ended == "the others are at the last look, or failed"


def test_what_would_change_the_best_of_a_device_comes_first():
    """Every case takes 1 s and a session 2 s more. Three rounds of two cases take half of the time for measuring."""
    of = {A: around(1.0, 0.05), B: around(1.01, 0.2), C: around(1.0, 0.04), D: around(3.0, 0.06)}
    series = begun(of, sequential.FIRST, 20.0, seconds=6.0)
    assert chosen(series) == [A, B]
    assert [list(series.values[case].why) for case in (A, B, C)] == [["best of cpu"], ["best of cpu"], []]


def test_what_would_change_which_device_is_faster_comes_first():
    of = {A: around(1.0, 0.04), GPU: around(0.99, 0.04), C: around(1.0, 0.035), D: around(3.0, 0.06)}
    series = begun(of, sequential.FIRST, 13.0, seconds=6.0)
    assert set(chosen(series)) == {A, GPU}
    assert list(series.values[GPU].why) == ["crossover"]


def test_of_all_others_what_needs_the_fewest_seconds_comes_first():
    of = {A: around(1.0, 0.3), C: around(1.0, 0.05)}
    series = begun(of, sequential.FIRST, 12.0, seconds=4.0)
    assert chosen(series) == [C]
    assert list(series.values[C].why) == [NEAREST]


def test_a_value_that_is_begun_keeps_the_time_until_it_is_precise_before_a_costly_one_gets_its_look():
    """Of 100 s, A is expected to take 31 until it is precise, and three processes of C take 90."""
    of = {A: around(1.0, 0.08), C: around(1.0, 0.12)}
    series = Precision(Goal(0.03, 100.0), THIS, folder=None, now=lambda: 0.0)
    for i in range(sequential.FIRST):
        done = {c: replace(measured([n[i]]), case=c, elapsed_s=1.0 if c == A else 30.0) for c, n in of.items()}
        series.add({"this": done}, 31.0, TraitsOf())
    assert chosen(series) == [A]
    series.goal = Goal(0.075, 100.0)  # that A has reached
    assert chosen(series) == [C]


def test_with_two_sides_a_verdict_that_is_open_comes_first():
    of, other = {A: [1.0] * 48, C: [1.0] * 48}, {A: around(1.0, 0.2), C: around(2.0, 0.2)}
    series = Precision(Goal(0.03, 20.0), BOTH, folder=None, now=lambda: 0.0)
    for i in range(sequential.FIRST):
        numbers = [{case: mine[i] for case, mine in side.items()} for side in (of, other)]
        add(series, numbers[0], seconds=6.0, against=numbers[1])
    assert series.values[C].middle == pytest.approx(2.0, rel=0.1)
    assert chosen(series) == [A]
    assert list(series.values[A].why) == ["verdict"]


def test_if_there_is_no_time_for_the_first_look_of_all_most_get_theirs_at_the_least_cost():
    """Six more rounds of all four would take 120 s."""
    of = cases(4)
    series = Precision(Goal(0.03, 90.0), THIS, folder=None, now=lambda: 0.0)
    done = {case: replace(measured([1.0]), case=case, elapsed_s=2.0 * (i + 1)) for i, case in enumerate(of)}
    series.add({"this": done}, 20.0, TraitsOf())
    assert chosen(series) == of[:3]


def test_a_case_that_cannot_run_is_not_tried_again_and_one_that_failed_once_is():
    series = Precision(Goal(0.03), THIS, folder=None)
    series.next(0)
    done = {case: replace(absent(status=status), case=case) for case, status in zip((A, B, C), STATUSES, strict=True)}
    series.add({"this": {**done, D: replace(measured([1.0]), case=D)}}, 9.0, TraitsOf())
    assert set(chosen(series)) == {C, D}
    add(series, {C: None, D: 1.0}, status=Status.TIMEOUT)
    assert chosen(series) == [D]


def test_a_case_that_hung_takes_its_own_time_and_not_that_of_all_others():
    """Its process left no account: the parent knows what was lost."""
    series = Precision(Goal(1e-6, 1000.0), THIS, folder=None)
    one, other = cases(2)
    lost = replace(absent(status=Status.TIMEOUT), case=one, spent={Part.STARTING: 1.0, Part.LOST: 300.0})
    series.add({"this": {one: lost, other: replace(measured([1.0]), case=other, elapsed_s=1.0)}}, 305.0, TraitsOf())
    assert series.rounds[0].beside == 4.0
    assert other in chosen(series)


def test_a_case_that_failed_by_chance_is_tried_once_more_however_short_the_time():
    series = Precision(Goal(0.03, 60.0), THIS, folder=None, now=lambda: 0.0)
    some = cases(20)
    tried = {case: replace(measured([1.0]), case=case, elapsed_s=1.0) for case in some}
    tried[some[7]] = replace(absent(status=Status.CRASHED), case=some[7], elapsed_s=1.0)
    series.add({"this": tried}, 21.0, TraitsOf())
    assert some[7] in chosen(series)


def test_values_that_never_become_precise_leave_the_time_to_those_that_do():
    """Eight implementations that an answer depends on differ by 30 % from process to process, 72 cases by 2.5 %."""
    for seed in range(2):
        rng, keys = np.random.default_rng(seed), cases(20, 4)
        seconds = {case: 1e-3 * (1 + 0.02 * rng.random() if i < 8 else 2.0 ** (i % 4)) for i, case in enumerate(keys)}
        noises = {case: Noise(0.3 if i < 8 else 0.025) for i, case in enumerate(keys)}
        series = until_precise(Machine(rng, seconds, noises, ROUND_BUDGET), Goal(0.03, 480.0))
        assert len(series.inside) > 55
        assert len(series.rounds) < 60


def test_before_any_value_has_an_interval_what_an_answer_depends_on_comes_first():
    series = Precision(Goal(0.03, 30.0), THIS, folder=None, now=lambda: 0.0)
    works = cases(3, 2)
    slower = dict(zip(works, (1.0, 1.01, 1.0, 3.0, 1.0, 3.0), strict=True))
    cost = dict(zip(works, (3.0, 3.0, 1.0, 1.0, 1.0, 1.0), strict=True))
    tried = {case: replace(measured([slower[case]]), case=case, elapsed_s=cost[case]) for case in works}
    series.add({"this": tried}, 10.0, TraitsOf())
    assert chosen(series)[:1] == works[:1]


def test_a_case_with_one_wrong_answer_has_no_value_and_is_named():
    series = Precision(Goal(1e-6), THIS, folder=None)
    one, other = cases(2)
    for _ in range(sequential.FIRST):
        add(series, {one: 1.0, other: 1.0})
    add(series, {one: None, other: 1.0}, status=Status.INVALID)
    assert [value.case for value in series.known] == [other]
    assert lines(series)[1] == f"No value, as an answer was wrong: {one.work.workload} {one.label}"
    assert one not in chosen(series)


STATUSES = (Status.UNSUPPORTED, Status.INVALID, Status.OOM)


def test_the_number_of_a_process_is_that_of_the_headline_metric():
    names = (A.work.suite, A.work.workload)
    m = replace(measured([5.0]), case=A)
    first = replace(m.series[0], metric="time_to_first_token", seconds=(3.0, 1.0, 2.0))
    for headline, number in (("time_to_first_token", 2.0), ("token_rate", 5.0), ("", 5.0), ("gpu_power", 5.0)):
        series = Precision(Goal(0.03), THIS, folder=None)
        traits = TraitsOf({names: Traits(headline=headline)})
        series.add({"this": {A: replace(m, series=(*m.series, first))}}, 1.0, traits)
        assert series.values[A].numbers == [number]


@pytest.mark.parametrize(
    ("precision", "said"),
    [(0.0312, "3.1 %"), (None, "unknown"), (0.149, "15 %"), (0.15, "a factor of 1.15"), (1.5, "a factor of 2.5")],
)
def test_a_precision_is_shown_in_percent_or_as_a_factor(precision, said):
    assert percent(precision) == said


# ---------------------------------------------------------------- what is written


def test_a_series_becomes_one_folder_with_the_schedule_and_why_each_case_was_repeated(tmp_path):
    (tmp_path / "plan").mkdir()
    series = Precision(Goal(0.03), THIS, tmp_path / "plan")
    (folder,) = repeat(THIS, series, ["-k", "x"], tmp_path / "out", seed=1, run_one=pretend({"this": 1.0}))
    rows = {(row.size, row.metric): row for row in reader.read_rows(folder / "results.csv")}
    row = rows["64", "time"]
    assert (row.processes, row.ci_level) == (7, 0.95)
    assert row.ci_low < row.value < row.ci_high
    assert "sequential" in row.flags.split(";")
    assert rows["16", "time"].status == "unsupported"
    about = json.loads((folder / "run.json").read_text())
    told = about["precision"]
    assert (told["precision"], told["time"], told["looks"]) == (0.03, None, list(sequential.LOOKS))
    assert told["ended"] == "every value is precise enough"
    assert (told["values"], told["within"], [each["cases"] for each in told["rounds"]]) == (2, 2, [3, *[2] * 6, 1])
    assert sorted(each["processes"] for each in told["cases"]) == [7, 7]
    assert about["planned"] == sum(about["statuses"].values())


def test_a_round_gets_its_cases_and_the_devices_of_the_first(tmp_path):
    seen = []
    pretended = pretend({"this": 1.0})

    def run_one(turn, output, arguments):
        seen.append(list(arguments))
        if turn.replicate == 1:
            (path,) = (a.partition("=")[2] for a in arguments if a.startswith("--bench-cases="))
            assert {case.work.size for case in read_cases(Path(path))} == {"64", "32"}
        return pretended(turn, output, arguments)

    repeat(THIS, Precision(Goal(0.5), THIS, tmp_path), ["-k", "x"], tmp_path / "out", run_one=run_one)
    assert seen[0] == [f"--bench-probes={tmp_path / 'probes-this.jsonl'}", "-k", "x"]
    assert all(options[0] == seen[0][0] and options[2:] == ["-k", "x"] for options in seen[1:])


def test_what_was_interrupted_before_the_first_look_has_no_interval(tmp_path):
    series, told = Precision(Goal(0.03), THIS, tmp_path), []
    run_one = pretend({"this": 1.0}, stop=4)
    with pytest.raises(KeyboardInterrupt):
        repeat(THIS, series, [], tmp_path / "out", run_one=run_one, on_progress=told.append)
    (path,) = reader.find_results(tmp_path / "out" / "box")
    assert told[-1] == f"stopped early: 3 rounds are complete, results in {path.parent}"
    row = next(row for row in reader.read_rows(path) if (row.size, row.metric) == ("64", "time"))
    assert (row.processes, row.ci_low, row.ci_high, row.ci_level) == (3, None, None, None)
    assert json.loads((path.parent / "run.json").read_text())["precision"]["ended"] == "stopped early"


def test_two_sides_are_compared_by_the_median_of_their_pairs(tmp_path):
    goal, seconds = Goal(0.03), {"this": 1.0, "against": 1.2}
    folders = repeat(BOTH, Precision(goal, BOTH, tmp_path), [], tmp_path / "out", seed=1, run_one=pretend(seconds))
    result = compare(read([f"{s.name}={f}" for s, f in zip(BOTH, folders, strict=True)]), CompareOptions())
    c = next(c for c in result.comparisons if c.key.size == "64")
    assert (c.method, c.verdict, c.evidence) == (Method.SEQUENTIAL, "slower", "7 pairs")
    assert c.ratio == pytest.approx(1 / 1.2, rel=0.05)
    assert c.p == pytest.approx(sequential.p_of_zero([1.0] * 7))
