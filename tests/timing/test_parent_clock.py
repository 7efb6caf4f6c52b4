"""A child's seconds are held against those that its parent saw pass."""

from dataclasses import replace

import pytest

from bench_core.records import Cache, Case, Clock, Measurement, Part, Series, Status, Work
from bench_core.timing.parent_clock import MeasuredPhase, judged


def case(device="cpu", cache=Cache.HOT):
    return Case(Work("tests", "double", "8", "float64", cache=cache), "numpy", device)


def series(clock=Clock.WALL, blocks=8, each=0.1, claimed=1.0, loops=1):
    """Return a series of 0.8 s of blocks; warm-up and blocks claim 1 s together."""
    return Series("time", clock, (each / loops,) * blocks, loops, claimed_s=claimed)


def measured(*of, timed=1.0, **known):
    return Measurement(
        known.pop("case", case()), Status.OK, series=of or (series(),), spent={Part.TIMED: timed}, **known
    )


HONEST = measured(values={"first_call": 0.1}, flags=("fits_l3",), rel_error=1e-7, library="BLAS", env_id="e")


def test_what_the_parent_saw_as_well_stays_as_it_is():
    assert judged(HONEST, 1.0) is HONEST


def test_a_child_whose_clock_ran_at_half_speed_has_no_values():
    done = judged(HONEST, 2.0)
    assert (done.status, done.reason_code) == (Status.INVALID, "clock_patched")
    assert done.reason == "the worker reports that measuring took 1 s, but it took 2 s by its parent's clock"
    assert (done.series, done.values, done.spent) == ((), {}, {Part.TIMED: 2.0})
    assert done == replace(
        HONEST,
        status=done.status,
        reason_code=done.reason_code,
        reason=done.reason,
        series=(),
        values={},
        spent={Part.TIMED: 2.0},
        elapsed_s=2.0,
    )


@pytest.mark.parametrize(
    ("timed", "seen", "fits"),
    [
        (1.0, 0.76, True),  # the parent heard of the beginning late
        (1.0, 0.74, False),
        (1.0, 1.38, True),  # 0.9 of it and a quarter of a second
        (1.0, 1.39, False),
        (9.0, 10.27, True),
        (9.0, 10.29, False),
        (9.0, 8.76, True),
        (9.0, 8.74, False),
        (0.1, 0.38, True),
        (0.1, 0.39, False),
    ],
)
def test_the_claim_for_the_phase_lies_within_its_bounds(timed, seen, fits):
    done = measured(series(each=1e-3, claimed=timed), timed=timed)
    assert judged(done, seen).status is (Status.OK if fits else Status.INVALID)


def test_blocks_cannot_last_longer_than_the_phase():
    done = measured(series(each=0.1), replace(series(each=0.06, claimed=0.6), metric="time_to_first_token"))
    assert judged(done, 1.04).status is Status.OK
    assert (
        judged(done, 1.02).reason
        == "the timed blocks add up to 1.28 s, but measuring took 1.02 s by its parent's clock"
    )


def test_all_calls_of_a_block_count():
    assert judged(measured(series(each=0.1, loops=100)), 1.0).status is Status.OK
    assert judged(measured(replace(series(each=0.1), inner_loops=2)), 1.0).reason_code == "clock_patched"


def test_blocks_by_the_clock_of_the_device_are_not_added_up():
    """Each clock sees its own blocks."""
    both = measured(series(each=0.06, claimed=0.5), series(Clock.DEVICE, each=0.09, claimed=0.5), case=case("cuda:0"))
    assert judged(both, 1.0) is both


def test_timers_that_account_for_half_of_the_phase_were_patched():
    done = judged(measured(series(each=0.05, claimed=0.5)), 1.0)
    assert done.reason_code == "clock_patched"
    assert done.reason == "the timers account for 0.5 s of measuring, which took 1 s (1 s by its parent's clock)"


@pytest.mark.parametrize(
    ("device", "claimed", "fits"),
    [
        *(("cpu", 0.81, True), ("cpu", 0.79, False), ("cuda:0", 0.41, True), ("cuda:0", 0.39, False)),
        *(("cpu:x2", 0.41, True), ("cpu:x2", 0.39, False)),
    ],
)
def test_nine_tenths_of_the_phase_belong_to_the_timers_but_for_what_is_done_beside_them(device, claimed, fits):
    both = (series(clock, each=1e-3, claimed=claimed / 2) for clock in (Clock.WALL, Clock.DEVICE))
    done = measured(*both, case=case(device))
    assert judged(done, 1.0).status is (Status.OK if fits else Status.INVALID)


def test_a_late_message_is_not_held_against_the_timers():
    done = measured(series(each=1e-3, claimed=1.0), timed=1.0)
    assert judged(done, 1.35) is done


def test_what_lies_between_blocks_counts_where_they_are_short():
    short = measured(series(blocks=20_000, each=10e-6, claimed=0.5))
    assert judged(short, 1.0) is short


@pytest.mark.parametrize(
    ("done", "judges"),
    [
        (measured(series(claimed=0.3), case=case()), True),
        (measured(series(claimed=0.3), case=case(cache=Cache.COLD)), True),  # its other buffers were made before
        (measured(series(claimed=0.3), case=case("cuda:0")), False),  # until its clock was found to see nothing
        (measured(series(claimed=0.2), series(Clock.DEVICE, claimed=0.1), case=case("cuda:0")), True),
    ],
)
def test_timers_are_judged_where_nothing_else_takes_time(done, judges):
    assert (judged(done, 1.0).reason_code == "clock_patched") is judges


@pytest.mark.parametrize("done", [replace(HONEST, series=()), replace(HONEST, status=Status.ERROR)])
def test_what_has_no_times_is_not_judged(done):
    assert judged(done, 60.0) is done


def phase(*answers):
    measuring = MeasuredPhase()
    for begins, at in answers:
        measuring.answered(begins, at)
    return measuring.seconds


def test_the_phase_lasts_until_whatever_is_said_next():
    assert phase(("build", 1.0), ("measure", 2.0), ("energy", 5.0), ("recheck", 9.0), (None, 10.0)) == 3.0
    assert phase(("build", 1.0), ("measure", 2.0), (None, 10.0)) == 8.0


def test_a_phase_that_is_begun_twice_lasts_until_then():
    assert phase(("measure", 2.0), ("measure", 3.0), (None, 10.0)) == 1.0


def test_times_of_a_phase_that_never_began_are_impossible():
    assert phase(("build", 1.0), (None, 10.0)) == 0.0
    assert judged(HONEST, 0.0).reason_code == "clock_patched"
