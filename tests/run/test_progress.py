"""The progress of a run: what counts, how the time left is learnt, and the line that fits its width."""

import io

import pytest
from rich.console import Console

from bench_core.records import Case, Measurement, Status, Work
from bench_core.run.progress import Progress, time_left


def case(name, backend="numpy", device="cpu"):
    return Case(Work("own", name, "1", "float32"), backend, device)


def ended(of, status=Status.OK):
    return Measurement(of, status)


class Clock:
    seconds = 0.0

    def __call__(self):
        return self.seconds


def spend(progress, clock, of, seconds, status=Status.OK):
    progress.begin(of)
    clock.seconds += seconds
    progress.end(ended(of, status))


@pytest.fixture
def clock():
    return Clock()


def test_a_case_that_cannot_run_leaves_the_total_and_one_that_fails_counts_as_done(clock):
    a, b, c = case("a"), case("b"), case("c")
    progress = Progress({a: 1.0, b: 1.0, c: 1.0}, clock)
    spend(progress, clock, a, 0.1, Status.UNSUPPORTED)
    spend(progress, clock, b, 0.1, Status.ERROR)
    assert progress.text == "1/2, under 1 min left"


def test_a_case_that_is_not_in_the_plan_or_is_measured_again_does_not_count(clock):
    a, absent = case("a"), case("a", "cupy", "cuda")
    progress = Progress({a: 1.0}, clock)
    spend(progress, clock, absent, 0.0, Status.SKIPPED)
    spend(progress, clock, a, 1.0, Status.ERROR)
    spend(progress, clock, a, 1.0)
    assert (progress.done, progress.total, progress.seconds_left) == (1, 1, 0.0)


def test_before_any_case_has_ended_the_budgets_decide(clock):
    short, long = Progress({case("a"): 1.0}, clock), Progress({case("a"): 1.0, case("b"): 9.0}, clock)
    assert long.seconds_left == 10 * short.seconds_left > 0


def test_a_case_is_expected_to_take_as_long_as_those_of_its_workload_and_device_then_as_those_of_its_device(clock):
    ends = {case("slow", "numpy"): 2.0, case("fast", "numpy"): 2.0}
    left = {case("slow", "torch"): 1.0, case("other", "torch"): 1.0}
    progress = Progress(ends | left, clock)
    for of, seconds in zip(ends, (20.0, 4.0), strict=True):
        spend(progress, clock, of, seconds)
    of_workload, of_device = 20.0 / 2.0, 24.0 / 4.0
    assert progress.seconds_left == pytest.approx(of_workload + of_device)


def test_a_failure_says_nothing_of_how_long_others_take(clock):
    a, b = case("a"), case("b")
    progress = Progress({a: 1.0, b: 1.0}, clock)
    before = progress.seconds_left / 2
    spend(progress, clock, a, 600.0, Status.TIMEOUT)
    assert progress.seconds_left == before


def test_the_time_left_falls_while_a_case_runs_but_not_below_that_of_the_others(clock):
    a, b = case("a"), case("b")
    progress = Progress({a: 1.0, b: 1.0}, clock)
    whole = progress.seconds_left
    progress.begin(a)
    clock.seconds += whole / 4
    assert progress.seconds_left == pytest.approx(whole * 3 / 4)
    clock.seconds += 100 * whole
    assert progress.seconds_left == pytest.approx(whole / 2)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "under 1 min left"),
        (60, "under 1 min left"),
        (61, "2 min left"),
        (5400, "90 min left"),
        (5760, "1.6 h left"),
    ],
)
def test_the_time_left_is_no_more_precise_than_an_estimate(seconds, text):
    assert time_left(seconds) == text


def line(width, encoding="utf-8", done=1):
    cases = [case(f"workload_{i}") for i in range(4)]
    progress = Progress(dict.fromkeys(cases, 1.0), Clock())
    for of in cases[:done]:
        progress.begin(of)
        progress.end(ended(of))
    progress.begin(cases[done])
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    return progress.line("measure", width, Console(file=file, width=width, force_terminal=True, color_system=None))


@pytest.mark.parametrize("width", [40, 79, 119])
def test_the_line_is_one_and_fits_its_width_with_the_case_last(width):
    shown = line(width)
    assert len(shown) <= width
    assert "\n" not in shown
    assert "1/4, under 1 min" in shown
    if width > 40:
        assert shown.endswith("measure  workload_1 numpy-cpu-float32-1")


def test_the_bar_grows_and_needs_no_character_that_the_terminal_lacks():
    assert [line(100, done=done).count("━") for done in (0, 2)] == [0, 8]
    assert line(100, encoding="ascii").startswith("----")
    assert line(100, encoding="ascii").isascii()
