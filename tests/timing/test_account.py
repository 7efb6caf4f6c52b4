"""Every second of a case belongs to one part."""

from bench_core.records import Part
from bench_core.timing.account import accounted, part
from tests.support.fakes import FakeClock


def test_a_second_belongs_to_the_innermost_part_and_to_no_other():
    clock = FakeClock()
    with accounted(clock) as account:
        clock.pass_(100.0)  # outside of all parts
        with part(Part.BUILD):
            clock.pass_(1.0)
            with part(Part.INPUTS):
                clock.pass_(2.0)
            clock.pass_(4.0)
            with part(Part.INPUTS):
                clock.pass_(8.0)
        clock.pass_(200.0)
    assert account.spent == {Part.INPUTS: 10.0, Part.BUILD: 5.0}
    assert list(account.spent) == [Part.INPUTS, Part.BUILD]  # in the order of Part


def test_an_error_ends_its_part():
    clock = FakeClock()
    with accounted(clock) as account:
        try:
            with part(Part.BUILD), part(Part.CHECKS):
                clock.pass_(1.0)
                raise ValueError
        except ValueError:
            clock.pass_(2.0)
        with part(Part.TIMED):
            clock.pass_(4.0)
    assert account.spent == {Part.CHECKS: 1.0, Part.BUILD: 0.0, Part.TIMED: 4.0}


def test_a_clock_that_is_put_back_takes_nothing_away():
    clock = FakeClock()
    with accounted(clock) as account, part(Part.TIMED):
        clock.pass_(3.0)
        with part(Part.WARM_UP):
            clock.pass_(-5.0)
    assert account.spent == {Part.WARM_UP: 0.0, Part.TIMED: 3.0}


def test_nobody_has_to_keep_an_account():
    with accounted(FakeClock()) as account:
        pass
    with part(Part.TIMED):
        pass
    assert account.spent == {}
